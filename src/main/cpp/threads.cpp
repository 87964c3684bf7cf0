#include "threads.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "memory.h"

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

int32_t initialLimit() {
    if (const char* text = std::getenv("FLASHRING_THREADS")) {
        char* end = nullptr;
        errno = 0;
        const long value = std::strtol(text, &end, 10);
        if (errno == 0 && end != text && *end == '\0' && value >= 1) {
            return static_cast<int32_t>(std::min<long>(value, kMaxThreads));
        }
    }
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) == 0) {
        return std::max(1, CPU_COUNT(&cores));
    }
    return static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
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
    // Never destroyed: workers outlive static destructors, and sleep while there is nothing to do.
    static Pool& instance() {
        static Pool* const pool = new Pool;
        return *pool;
    }

    int32_t limit() const { return limit_.load(std::memory_order_relaxed); }
    void setLimit(int32_t threads) { limit_.store(std::min(threads, kMaxThreads), std::memory_order_relaxed); }

    void run(Job& job, char* scratch) {
        running_.fetch_add(1);
        const bool shared = job.count > 1 && limit() > 1;
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
        while (workers_ < limit() - 1 && startWorker()) {
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
        if (running_.load() >= limit()) {
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
            for (int64_t i; running_.load() <= limit() && (i = job->next.fetch_add(1)) < job->count;) {
                job->task(job->context, i, scratch);
            }
            lock.lock();
            running_.fetch_sub(1);
            if (--job->helpers == 0) {
                job->left.notify_one();
            }
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    Job* jobs_ = nullptr;
    int32_t workers_ = 0;
    std::atomic<int32_t> running_{0};  // threads inside tasks
    std::atomic<int32_t> limit_{initialLimit()};
};

}  // namespace

void parallelFor(int64_t count, Task task, const void* context) {
    if (count <= 0) {
        return;
    }
    char* const scratch = threadScratch();
    if (!scratch) {
        throw std::bad_alloc();
    }
    Job job{task, context, count};
    Pool::instance().run(job, scratch);
}

int32_t threadLimit() { return Pool::instance().limit(); }
void setThreadLimit(int32_t threads) { Pool::instance().setLimit(threads); }

}  // namespace flashring
