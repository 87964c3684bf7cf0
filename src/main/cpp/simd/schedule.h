// How the work of a step is cut into tasks, in which order they start, and how those that share queries take turns.
#ifndef FLASHRING_SIMD_SCHEDULE_H
#define FLASHRING_SIMD_SCHEDULE_H

#include <sched.h>

#include "simd/tiles.h"
#include "threads.h"

namespace flashring {
namespace {

// Task(problem, batch, query head, first query, queries, scratch).run() for all queries, with at most mostPanels tiles
// of them to a task.
template <class Task>
void runForward(const Problem& problem, int64_t mostPanels) {
    const flashring_step& step = problem.step;
    const int64_t rows = step.batch * step.q_heads;
    // Several tasks for each thread, then as many panels to a task as that allows.
    const int64_t panels = most(1, least(mostPanels, rows * tiles(step.q_len) / (8 * threadLimit())));
    const int64_t queries = panels * kTile, groups = ceilDiv(step.q_len, queries);
    parallelFor(groups * rows, [&](int64_t index, char* scratch) {
        // Late queries see most under a causal mask: longest first.
        const int64_t line = index % rows, first = (groups - 1 - index / rows) * queries;
        const int64_t count = least(queries, step.q_len - first);
        Task(problem, line / step.q_heads, line % step.q_heads, first, count, scratch).run();
    });
}

// Backward tasks share queries, whose gradients are summed in one order whatever the thread count: each tile of queries
// has a turn counter in the workspace, and a task adds to dQ when the task of the keys before has.
inline int64_t turnBytes(const flashring_step& step) {
    return step.batch * step.q_heads * tiles(step.q_len) * static_cast<int64_t>(sizeof(int64_t));
}

// Whether the keys that these queries see, and those between, reach into [first, first + count).
inline bool meet(const Problem& problem, int64_t query, int64_t queries, int64_t first, int64_t count) {
    const int64_t lo = problem.lo[query], hi = problem.hi[query + queries - 1];
    return lo < hi && lo < first + count && hi > first;
}

class Turn {
public:
    // The turn of the tile of queries that starts with `query`.
    Turn(const Problem& problem, int64_t b, int64_t h, int64_t query)
        : counter_(reinterpret_cast<int64_t*>(problem.workspace) +
                   (b * problem.step.q_heads + h) * tiles(problem.step.q_len) + query / kTile) {}

    void await(int64_t mine) const {
        for (int spins = 0; __atomic_load_n(counter_, __ATOMIC_ACQUIRE) != mine; ++spins) {
            if (spins < 2000) {
                __builtin_ia32_pause();
            } else {
                sched_yield();
            }
        }
    }

    void pass(int64_t mine) const { __atomic_store_n(counter_, mine + 1, __ATOMIC_RELEASE); }

private:
    int64_t* const counter_;
};

// Task(problem, batch, key head, index, size, scratch).run() for the keys [index size, (index + 1) size) of each key
// head, with at most mostPanels tiles of keys to a task. T is what dQ is summed in.
template <class T, class Task>
void runBackward(const Problem& problem, int64_t mostPanels) {
    const flashring_step& step = problem.step;
    const int64_t queryTiles = tiles(step.q_len), rows = step.batch * step.kv_heads;
    // Fresh turn counters; queries that no task will reach get their zeros here.
    parallelFor(step.batch * step.q_heads * queryTiles, [&](int64_t index, char*) {
        reinterpret_cast<int64_t*>(problem.workspace)[index] = 0;
        const int64_t line = index / queryTiles, query = index % queryTiles * kTile;
        const int64_t end = least(step.q_len, query + kTile);
        if (step.flags & FLASHRING_ADD_DQ || problem.lo[query] < problem.hi[end - 1]) {
            return;
        }
        for (int64_t i = query; i < end; ++i) {
            T* const dq = row<T>(step.dq, line / step.q_heads, i, line % step.q_heads);
            for (int64_t d = 0; d < step.head_dim; ++d) {
                dq[d] = 0;
            }
        }
    });
    // Enough tasks for many threads, whatever the thread count: it must not change the order of sums.
    const int64_t panels = most(1, least(mostPanels, rows * tiles(step.kv_len) / 64));
    const int64_t keys = panels * kTile, groups = ceilDiv(step.kv_len, keys);
    // Early keys are seen most under a causal mask: longest first. They start in the order of their turns, too, so the
    // one that is waited for is running.
    parallelFor(groups * rows, [&](int64_t index, char* scratch) {
        const int64_t line = index % rows;
        Task(problem, line / step.kv_heads, line % step.kv_heads, index / rows, keys, scratch).run();
    });
}

}  // namespace
}  // namespace flashring

#endif
