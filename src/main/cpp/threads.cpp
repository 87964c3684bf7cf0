#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "cpu_quota.h"
#include "failure.h"
#include "memory.h"

// The C++ library asks whether the process has one thread alone, to spare atomic instructions. This is "perhaps not",
// of our own: glibc has such a variable since 2.32 only.
extern "C" {
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
}

namespace flashring {
namespace {

constexpr int32_t kMaxThreads = 1024;

struct FreeScratch {
    void operator()(char* memory) const { std::free(memory); }
};

// This thread's scratch, allocated on first use and kept while the thread lives; null when there is no memory.
char* threadScratch() {
    thread_local std::unique_ptr<char, FreeScratch> scratch;
    if (!scratch) {
        scratch.reset(static_cast<char*>(allocate(kScratchBytes)));
    }
    return scratch.get();
}

// What the environment asks for; 0 where it asks for nothing.
int32_t requestedLimit() {
    const char* const text = std::getenv("FLASHRING_THREADS");
    if (!text || !*text) {
        return 0;
    }
    int32_t value = 0;
    const char* const end = text + std::strlen(text);
    const auto [rest, error] = std::from_chars(text, end, value);
    if (error != std::errc() || rest != end || value < 1 || value > kMaxThreads) {
        fail(FLASHRING_INVALID_ARGUMENT, "FLASHRING_THREADS = %.40s must be a whole number from 1 to %d", text,
             kMaxThreads);
    }
    return value;
}

void checkThreads(int32_t threads) {
    if (threads < 1 || threads > kMaxThreads) {
        fail(FLASHRING_INVALID_ARGUMENT, "threads = %d must be from 1 to %d", threads, kMaxThreads);
    }
}

// The processors that this process may keep busy.
int32_t processors() {
    cpu_set_t cores;
    const int32_t allowed = sched_getaffinity(0, sizeof cores, &cores) == 0
                                ? CPU_COUNT(&cores)
                                : static_cast<int32_t>(std::thread::hardware_concurrency());
    const int32_t quota = quotaProcessors("");
    return std::clamp(quota > 0 ? std::min(allowed, quota) : allowed, 1, kMaxThreads);
}

std::atomic<int32_t> limit{0};  // 0: nobody has asked yet

// Sets the limit to `threads` unless there is one, and returns the one there is.
int32_t settle(int32_t threads) {
    int32_t none = 0;
    return limit.compare_exchange_strong(none, threads) ? threads : none;
}

struct Job {
    Task task;
    const void* context;
    int64_t count;
    std::atomic<int64_t> next{0};
    int32_t helpers = 0;  // workers inside, guarded by the pool's mutex
    std::condition_variable left{};
    Job* later = nullptr;
};

class Pool {
public:
    // Never destroyed: workers outlive static destructors, and sleep while there is nothing to do. Not a static of this
    // function: the lock of one that another thread was making when the process forked would stay shut in the child.
    static Pool& instance() {
        Pool* pool = current.load(std::memory_order_acquire);
        if (!pool) {
            auto fresh = std::make_unique<Pool>();
            if (current.compare_exchange_strong(pool, fresh.get())) {
                pool = fresh.release();
            }
        }
        return *pool;
    }

    // In a child of fork: the workers are not there, and the mutex may be held by one of them. So the child starts
    // anew.
    static void abandon() { current.store(nullptr, std::memory_order_relaxed); }

    void run(Job& job, char* scratch) {
        running_.fetch_add(1);
        const bool shared = job.count > 1 && limit > 1;
        if (shared) {
            post(job);
        }
        for (int64_t i; (i = job.next.fetch_add(1)) < job.count;) {
            job.task(job.context, i, scratch);
        }
        if (shared) {
            withdraw(job);
        }
        running_.fetch_sub(1);
    }

private:
    void post(Job& job) {
        const std::lock_guard<std::mutex> lock(mutex_);
        while (workers_ < limit - 1 && startWorker()) {
        }
        Job** last = &jobs_;
        while (*last) {
            last = &(*last)->later;
        }
        *last = &job;
        if (job.count > 2) {
            wake_.notify_all();
        } else {
            wake_.notify_one();
        }
    }

    void withdraw(Job& job) {
        std::unique_lock<std::mutex> lock(mutex_);
        Job** link = &jobs_;
        while (*link != &job) {
            link = &(*link)->later;
        }
        *link = job.later;
        if (jobs_) {
            wake_.notify_all();  // this thread's place is free for someone else's job
        }
        job.left.wait(lock, [&] { return job.helpers == 0; });
    }

    bool startWorker() {
        try {
            std::thread([this] { work(); }).detach();
        } catch (const std::system_error&) {
            return false;  // no more threads to be had: the callers do the work
        }
        ++workers_;
        return true;
    }

    // A job with tasks left, if one more thread may run; among several the one with the fewest helpers.
    Job* choose() {
        if (running_.load() >= limit) {
            return nullptr;
        }
        Job* best = nullptr;
        for (Job* job = jobs_; job; job = job->later) {
            if (job->next.load() < job->count && (!best || job->helpers < best->helpers)) {
                best = job;
            }
        }
        return best;
    }

    void work() {
        char* const scratch = threadScratch();
        if (!scratch) {
            return;
        }
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            Job* job = choose();
            if (!job) {
                wake_.wait(lock);
                continue;
            }
            ++job->helpers;
            running_.fetch_add(1);
            lock.unlock();
            // Leaves between tasks when callers have arrived since: they and the workers share the cores.
            for (int64_t i; running_.load() <= limit && (i = job->next.fetch_add(1)) < job->count;) {
                job->task(job->context, i, scratch);
            }
            lock.lock();
            running_.fetch_sub(1);
            if (--job->helpers == 0) {
                job->left.notify_one();
            }
        }
    }

    static std::atomic<Pool*> current;

    std::mutex mutex_;
    std::condition_variable wake_;
    Job* jobs_ = nullptr;
    int32_t workers_ = 0;
    std::atomic<int32_t> running_{0};  // threads inside tasks
};

std::atomic<Pool*> Pool::current{nullptr};

// At load, so that no fork comes before it. Where it fails there is no memory, and later calls will say so.
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, Pool::abandon);

}  // namespace

void parallelFor(int64_t count, Task task, const void* context) {
    if (count <= 0) {
        return;
    }
    threadLimit();
    char* const scratch = threadScratch();
    if (!scratch) {
        throw std::bad_alloc();
    }
    Job job{task, context, count};
    Pool::instance().run(job, scratch);
}

int32_t threadLimit() {
    const int32_t settled = limit.load(std::memory_order_relaxed);
    if (settled > 0) {
        return settled;
    }
    const int32_t requested = requestedLimit();
    return settle(requested > 0 ? requested : processors());
}

void setThreadLimit(int32_t threads) {
    checkThreads(threads);
    limit.store(threads, std::memory_order_relaxed);
}

void defaultThreadLimit(int32_t threads) {
    checkThreads(threads);
    const int32_t requested = requestedLimit();
    settle(requested > 0 ? requested : threads);
}

}  // namespace flashring
