// The order in which tasks that share queries add to dQ.
#ifndef FLASHRING_TURNS_H
#define FLASHRING_TURNS_H

#include <sched.h>
#include <stdint.h>

namespace flashring {

// Returns when the counter has reached `mine`. Whoever advances it must be running already.
template <class Counter>
static inline void awaitTurn(const Counter* turn, Counter mine) {
    for (int spins = 0; __atomic_load_n(turn, __ATOMIC_ACQUIRE) != mine; ++spins) {
        if (spins < 2000) {
            __builtin_ia32_pause();
        } else {
            sched_yield();
        }
    }
}

}  // namespace flashring

#endif
