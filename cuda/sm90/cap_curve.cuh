// tanh of small products by multiplications alone (CapCurve in arguments.h).
#ifndef FLASHRING_CUDA_SM90_CAP_CURVE_CUH
#define FLASHRING_CUDA_SM90_CAP_CURVE_CUH

#include "sm90/arguments.h"

namespace flashring {

// The same number, kept in a register: what a product multiplies from elsewhere takes twice the time.
__device__ __forceinline__ float inRegister(float x) {
    asm("" : "+f"(x));
    return x;
}

// The curve's terms in registers.
struct CurveTerms {
    float terms[CapCurve::kTerms];

    __device__ __forceinline__ explicit CurveTerms(const CapCurve& curve) {
#pragma unroll
        for (int i = 0; i < CapCurve::kTerms; ++i) {
            terms[i] = inRegister(curve.terms[i]);
        }
    }

    // What the product is to be multiplied by.
    __device__ __forceinline__ float slope(float product) const {
        const float square = __fmul_rn(product, product);
        float sum = terms[CapCurve::kTerms - 1];
#pragma unroll
        for (int i = CapCurve::kTerms - 2; i >= 0; --i) {
            sum = fmaf(square, sum, terms[i]);
        }
        return sum;
    }
};

// The largest absolute product; NaN counts for nothing, as it goes every way.
template <int kCount>
__device__ __forceinline__ float largestOf(const float (&products)[kCount]) {
    float largest[2] = {};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
        largest[i % 2] = fmaxf(largest[i % 2], fabsf(products[i]));
    }
    return fmaxf(largest[0], largest[1]);
}

}  // namespace flashring

#endif
