// A row's part of forward's state beside its output: lse, and what rounding took from it.
#ifndef FLASHRING_STATE_H
#define FLASHRING_STATE_H

#include "kernels.h"

namespace flashring {

// What the output of earlier steps weighs against a reference of lse: 1, but for what rounding took. For a row that has
// an lse.
template <class T>
static inline T earlierSum(const flashring_step& step, int64_t b, int64_t i, int64_t h) {
    return step.lse_low.data ? static_cast<T>(__builtin_exp(static_cast<double>(*row<const T>(step.lse_low, b, i, h))))
                             : T{1};
}

// The lse that a state of head h begins with: that of its sink, of no value; -inf without one.
template <class T>
static inline T sinkOf(const flashring_step& step, int64_t h) {
    return step.sinks ? static_cast<const T*>(step.sinks)[h] : static_cast<T>(-__builtin_inf());
}

// Writes reference + log(sum); -inf where the sum is 0, as no key was seen.
template <class T>
static inline void storeLse(const flashring_step& step, int64_t b, int64_t i, int64_t h, double reference, double sum) {
    const double logSum = __builtin_log(sum);
    const T lse = static_cast<T>(sum == 0 ? -__builtin_inf() : reference + logSum);
    *row<T>(step.lse, b, i, h) = lse;
    if (step.lse_low.data) {
        const double high = static_cast<double>(lse), part = high - reference;
        const double low = (reference - (high - part)) + (logSum - part);  // Knuth's TwoSum
        *row<T>(step.lse_low, b, i, h) = static_cast<T>(__builtin_isfinite(high) ? low : 0);
    }
}

}  // namespace flashring

#endif
