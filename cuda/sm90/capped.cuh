// A softcap on a warpgroup's scores. Most blocks go a short way, from products to weights at once; the others have
// their scores finished in place (shaping.cuh) and go on as plain ones do.
#ifndef FLASHRING_CUDA_SM90_CAPPED_CUH
#define FLASHRING_CUDA_SM90_CAPPED_CUH

#include "common/shaping.cuh"
#include "sm90/arguments.h"
#include "sm90/softmax.cuh"

namespace flashring {

// The weight of a product by the curve that holds for small ones. `largest` tells whether they were.
struct CappedWeight {
    const float (&terms)[CapCurve::kTerms];
    float shift;  // the reference times log2(e)
    float& largest;

    __device__ __forceinline__ float operator()(float product) const {
        const float square = __fmul_rn(product, product);
        largest = fmaxf(largest, fabsf(product));
        float slope = terms[CapCurve::kTerms - 1];
#pragma unroll
        for (int i = CapCurve::kTerms - 2; i >= 0; --i) {
            slope = fmaf(square, slope, terms[i]);
        }
        return exp2Fast(fmaf(product, slope, -shift));
    }
};

__device__ __forceinline__ float cappedScore(const ScoreShape& shape, float product) {
    const Softcap softcap{shape.softcap, shape.exponent};
    return softcap.score(softcap.rest(product));
}

// Finished scores from products, in place.
template <int kScores>
__device__ __forceinline__ void capScores(float (&scores)[kScores], const ScoreShape& shape) {
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
        scores[i] = cappedScore(shape, scores[i]);
    }
}

// The same number, kept in a register: what a product multiplies from elsewhere takes twice the time.
__device__ __forceinline__ float inRegister(float x) {
    asm("" : "+f"(x));
    return x;
}

// The short way: takes a block of products that all rows see into the state, as advance() does with finished scores.
// False, and nothing has changed, where it does not lead there.
template <class Element, int kKeys>
__device__ __forceinline__ bool advanceCapped(const float (&products)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                              SoftmaxRow (&state)[2], const CapCurve& curve) {
    constexpr float kLog2E = static_cast<float>(M_LOG2E);
    const float shifts[2] = {shiftOf(state[0]), shiftOf(state[1])};
    float terms[CapCurve::kTerms], largest = 0;
#pragma unroll
    for (int i = 0; i < CapCurve::kTerms; ++i) {
        terms[i] = inRegister(curve.terms[i]);
    }
    const CappedWeight capped[2] = {{terms, shifts[0] * kLog2E, largest}, {terms, shifts[1] * kLog2E, largest}};
    float2 sums = weigh<Element, kKeys>(products, weights, capped);
    sums.x = largest <= curve.reach ? sums.x : INFINITY;  // which does not fit
    return takeSums(state, sums, shifts, {true, true});
}

}  // namespace flashring

#endif
