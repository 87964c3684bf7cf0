// Children of fork compute what their parent computes, with workers of their own, whatever other threads were doing.
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "attention_case.h"

namespace {

constexpr int kThreads = 3;

Case causal(int64_t length) {
    Case c;
    c.dtype = FLASHRING_FLOAT32;
    c.shape = {1, length, length, 4, 2, 16, 16};
    c.qRanges = c.kvRanges = {{0, length, 1}};
    c.mask.right = 0;
    c.scale = 0.25;
    std::mt19937_64 random(5);
    c.draw(random);
    return c;
}

bool same(const Results& a, const Results& b) {
    return a.out.sameBits(b.out) && a.lse.sameBits(b.lse) && a.dq.sameBits(b.dq) && a.dk.sameBits(b.dk) &&
           a.dv.sameBits(b.dv);
}

int threadsOfThisProcess() {
    int count = 0;
    DIR* const tasks = opendir("/proc/self/task");
    while (const dirent* entry = readdir(tasks)) count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

enum Verdict { kRight = 0, kWrongBits = 1, kWrongLimit = 2, kAlone = 3, kHangs = 4, kDied = 5 };

const char* const kVerdicts[] = {"right", "other bits than its parent", "another number of threads than its parent",
                                 "computed without workers", "hangs", "died"};

// Computes twice in a child, and once more in a child of that child.
Verdict inChild(Case& c, const Results& expected, int generations) {
    const pid_t child = fork();
    if (child == 0) {
        for (int repeat = 0; repeat < 2; ++repeat) {
            Results r(c);
            run(c, r, FLASHRING_KERNEL_AUTO);
            if (failures || !same(r, expected)) _exit(kWrongBits);
        }
        if (flashring_threads() != kThreads) _exit(kWrongLimit);
        if (threadsOfThisProcess() != kThreads) _exit(kAlone);
        _exit(generations > 1 ? inChild(c, expected, generations - 1) : kRight);
    }
    for (int tenths = 0; tenths < 300000; ++tenths) {  // 30 s
        int status = 0;
        if (waitpid(child, &status, WNOHANG) == child) {
            return WIFEXITED(status) ? static_cast<Verdict>(WEXITSTATUS(status)) : kDied;
        }
        const timespec pause{0, 100000};
        nanosleep(&pause, nullptr);
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    return kHangs;
}

long forks(const char* when, Case& c, const Results& expected, int count) {
    int verdicts[6] = {};
    for (int n = 0; n < count && !verdicts[kHangs]; ++n) ++verdicts[inChild(c, expected, n % 10 == 0 ? 2 : 1)];
    for (int verdict = 1; verdict < 6; ++verdict) {
        CHECK(verdicts[verdict] == 0, "%s: %d of %d children: %s", when, verdicts[verdict], count, kVerdicts[verdict]);
    }
    return count;
}

}  // namespace

int main() {
    flashring_set_threads(kThreads);
    Case c = causal(96);
    Results expected(c);
    run(c, expected, FLASHRING_KERNEL_AUTO);
    long cases = forks("while nothing ran", c, expected, 20);

#ifdef __SANITIZE_ADDRESS__
    std::printf("not while other threads are in calls: the sanitizer's allocator may stay locked in a child\n");
#else
    std::atomic<bool> done{false};
    std::vector<Case> copies(2, c);
    std::vector<std::thread> callers;
    for (Case& copy : copies) {
        callers.emplace_back([&] {
            while (!done) {
                Results r(copy);
                run(copy, r, FLASHRING_KERNEL_AUTO);
                CHECK(same(r, expected), "the parent's own results change");
            }
        });
    }
    cases += forks("while two threads were in calls", c, expected, 200);
    done = true;
    for (std::thread& caller : callers) caller.join();
#endif
    return finish("fork", cases);
}
