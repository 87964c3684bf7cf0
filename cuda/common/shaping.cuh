// What scores are beyond scaled products (flashring.h): softcap, then ALiBi. The same way forward and backward, which
// have to round alike. Run where a whole tile of products is there, behind one branch; what follows finds finished
// scores, whose scale is 1.
#ifndef FLASHRING_CUDA_COMMON_SHAPING_CUH
#define FLASHRING_CUDA_COMMON_SHAPING_CUH

#include <math.h>

#include "common/ptx.cuh"
#include "flashring.h"

namespace flashring {

// tanh(x) = 1 - 2 rest with rest = 1 / (e^2x + 1), which takes two fast instructions and three common ones.
struct Softcap {
    float bound, exponent;  // softcap; 2 log2(e) softmax_scale / softcap

    __device__ __forceinline__ float rest(float product) const {
        return reciprocalFast(exp2Fast(__fmul_rn(product, exponent)) + 1);
    }
    __device__ __forceinline__ float score(float rest) const { return fmaf(rest, -2 * bound, bound); }
    __device__ __forceinline__ static float growth(float rest) {
        return 4 * rest * (1 - rest);
    }  // dscore / d(scaled product)
};

// A score less slope * |query - key|. Positions are subtracted as the integers they are: rounded one by one, they would
// be off by more than their distance where both are far from 0.
__device__ __forceinline__ float withDistance(float score, float slope, int64_t query, int64_t key) {
    return fmaf(-slope, fabsf(static_cast<float>(query - key)), score);
}

__device__ __forceinline__ float slopeOf(const flashring_step& step, int head) {
    return static_cast<const float*>(step.alibi_slopes)[head];
}

}  // namespace flashring

#endif
