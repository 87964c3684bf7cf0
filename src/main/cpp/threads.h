// The process-wide pool of CPU workers, shared by every caller.
#ifndef FLASHRING_THREADS_H
#define FLASHRING_THREADS_H

#include <stdint.h>

namespace flashring {

// Scratch memory of each thread that runs tasks: 64-byte aligned, contents undefined at the start of a task.
constexpr int64_t kScratchBytes = 5 << 19;  // float64 backward of the widest heads takes as much

using Task = void (*)(const void* context, int64_t index, char* scratch);

// Runs task(context, i, scratch) for 0 <= i < count on the calling thread and on idle workers, and returns when all are
// done. Indices are handed out in ascending order, so a task may wait for one with a lower index: that one is already
// running. Throws before any task has started: std::bad_alloc, or as threadLimit().
void parallelFor(int64_t count, Task task, const void* context);

template <class Body>
static inline void parallelFor(int64_t count, const Body& body) {
    parallelFor(
        count,
        [](const void* context, int64_t index, char* scratch) { (*static_cast<const Body*>(context))(index, scratch); },
        &body);
}

// Threads that one call may use. Throws a Failure where the environment asks for a number that cannot be.
int32_t threadLimit();

// Throws a Failure where the number cannot be.
void setThreadLimit(int32_t threads);

// As setThreadLimit(), but yields to the environment, to an earlier call and to a limit that has been used.
void defaultThreadLimit(int32_t threads);

}  // namespace flashring

#endif
