// A softcap in the backward kernels: from a warpgroup's products to tanh, and from there to weights and dS. The curve
// for small products is that of the forward kernels.
#ifndef FLASHRING_CUDA_SM90_CAPPED_PAIRS_CUH
#define FLASHRING_CUDA_SM90_CAPPED_PAIRS_CUH

#include "common/shaping.cuh"
#include "sm90/arguments.h"
#include "sm90/cap_curve.cuh"

namespace flashring {

// In place of tanh where the mask hides a pair: its weight is 0, and dP times what comes of it stays finite up to 1e26.
constexpr float kHiddenTanh = -1e6f;

// Puts tanh(score / softcap) in place of products, each warp by its own way.
template <int kCount>
__device__ __forceinline__ void capProducts(float (&products)[kCount], const HopperBackwardArguments& h) {
    if (__all_sync(~0u, largestOf(products) <= h.curve.reach)) {
        const CurveTerms curve(h.curve);
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            products[i] = products[i] * curve.slope(products[i]);
        }
    } else {
        const Softcap softcap{h.a.shape.softcap, h.a.shape.exponent};
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            products[i] = fmaf(softcap.rest(products[i]), -2.0f, 1.0f);
        }
    }
}

// The weight of a pair from its tanh, and what that times dP has yet to be multiplied by.
struct CappedPair {
    const HopperBackwardArguments& h;
    float lse;  // times log2(e)

    __device__ __forceinline__ float operator()(float tanh, float& slope) const {
        slope = fmaf(-tanh, tanh, 1.0f);
        return exp2Fast(fmaf(tanh, h.factorLog2, -lse));
    }
};

// lse of this lane's column e of two in each 8, as copyRows() leaves it under a softcap.
template <class Rows>
__device__ __forceinline__ float lseOf(const Rows& rows, int n, int e) {
    return rows.lse[n * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + e];
}

}  // namespace flashring

#endif
