// A softcap on a warpgroup's scores. Most blocks go a short way, from products to weights at once; the others have
// their scores finished in place (shaping.cuh) and go on as plain ones do.
#ifndef FLASHRING_CUDA_SM90_CAPPED_CUH
#define FLASHRING_CUDA_SM90_CAPPED_CUH

#include "common/shaping.cuh"
#include "sm90/arguments.h"
#include "sm90/cap_curve.cuh"
#include "sm90/softmax.cuh"

namespace flashring {

// The weight of a small product. kWatches: `largest` then tells whether all were small.
template <bool kWatches>
struct CappedWeight {
    const CurveTerms& curve;
    float shift;  // the reference times log2(e)
    float& largest;

    __device__ __forceinline__ float operator()(float product) const {
        if constexpr (kWatches) {
            largest = fmaxf(largest, fabsf(product));
        }
        return exp2Fast(fmaf(product, curve.slope(product), -shift));
    }
};

// Finished scores from products, in place.
template <int kScores>
__device__ __forceinline__ void capScores(float (&scores)[kScores], const ScoreShape& shape) {
    const Softcap softcap{shape.softcap, shape.exponent};
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
        scores[i] = softcap.score(softcap.rest(scores[i]));
    }
}

// The short way: takes a block of products that all rows see into the state, as advance() does with finished scores.
// False, and nothing has changed, where it does not lead there.
template <class Element, int kKeys>
__device__ __forceinline__ bool advanceCapped(const float (&products)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                              SoftmaxRow (&state)[2], const CapCurve& curve) {
    constexpr float kLog2E = static_cast<float>(M_LOG2E);
    float largest = 0;
    const float shifts[2] = {shiftOf(state[0]), shiftOf(state[1])};
    const CurveTerms terms(curve);
    const CappedWeight<true> capped[2] = {{terms, shifts[0] * kLog2E, largest}, {terms, shifts[1] * kLog2E, largest}};
    float2 sums = weigh<Element, kKeys>(products, weights, capped);
    sums.x = largest <= curve.reach ? sums.x : INFINITY;  // which does not fit
    return takeSums(state, sums, shifts, {true, true});
}

// The same, where registers are free to find out before whether it leads there: a softcap keeps the order of products,
// so their largest bounds all weights, to 256, and keeps a lane's first sum from falling below kSmallestSum. Products
// need not be kept for another way then, which leaves registers for more weights at a time.
template <class Element, int kKeys>
__device__ __forceinline__ bool advanceBounded(const float (&products)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                               SoftmaxRow (&state)[2], const CapCurve& curve) {
    constexpr float kLog2E = static_cast<float>(M_LOG2E), kMostLog2 = 8, kMostFreshLog2 = 6;
    static_assert(kKeys / 4 >= kSmallestSum * (1 << static_cast<int>(kMostFreshLog2)), "a first sum may be too small");
    const CurveTerms terms(curve);
    float largest = largestOf(products);
    const float top = largest * terms.slope(largest);
    const float shifts[2] = {shiftOf(state[0]) * kLog2E, shiftOf(state[1]) * kLog2E};
    const bool fresh[2] = {state[0].reference == -INFINITY, state[1].reference == -INFINITY};
    const bool fits = largest <= curve.reach && top - fminf(shifts[0], shifts[1]) <= kMostLog2 &&
                      (top <= kMostFreshLog2 || !(fresh[0] || fresh[1]));
    if (!__all_sync(~0u, fits)) {
        return false;
    }
    const CappedWeight<false> capped[2] = {{terms, shifts[0], largest}, {terms, shifts[1], largest}};
    const float2 sums = weigh<Element, kKeys>(products, weights, capped);
    state[0] = {fresh[0] ? 0 : state[0].reference, state[0].sum + sums.x};
    state[1] = {fresh[1] ? 0 : state[1].reference, state[1].sum + sums.y};
    return true;
}

}  // namespace flashring

#endif
