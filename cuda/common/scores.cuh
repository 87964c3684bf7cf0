// From products to probabilities, the same way in every kernel on tensor cores and in both directions: a score is a
// product of a query and a key times softmax_scale, rounded to float32, and a weight is e^(score - reference).
#ifndef FLASHRING_CUDA_COMMON_SCORES_CUH
#define FLASHRING_CUDA_COMMON_SCORES_CUH

#include <math.h>

#include "common/attention.h"
#include "common/ptx.cuh"

namespace flashring {

// Scores beyond this are subtracted before anything is multiplied. Up to it, product * scale * log2(e) - reference *
// log2(e) as one operation errs by less than half a bit of a float16 weight.
constexpr float kFarScore = 1024;

__device__ __forceinline__ bool isFar(float score) { return fabsf(score) > kFarScore; }

// softmax_scale, and the same times log2(e).
struct ScoreScale {
    float natural, log2;

    // Never fused into another operation: forward and backward have to round alike.
    __device__ __forceinline__ float score(float product) const { return __fmul_rn(product, natural); }
};

__device__ __forceinline__ ScoreScale scaleOf(const Arguments& a) { return {a.scale, a.scaleLog2}; }

// A log-sum-exp, and what rounding took from it.
struct Lse {
    float high, low;
};

// reference + logSum. Where logSum is the larger, `low` misses no more than its own rounding.
__device__ __forceinline__ Lse addLog(float reference, float logSum) {
    const float high = __fadd_rn(reference, logSum), low = __fsub_rn(logSum, __fsub_rn(high, reference));
    return {high, fabsf(high) < INFINITY ? low : 0};
}

// The lse that earlier steps left for a row.
__device__ __forceinline__ Lse loadLse(const flashring_step& step, int64_t batch, int64_t query, int64_t head) {
    return {*row<const float>(step.lse, batch, query, head),
            step.lse_low.data ? *row<const float>(step.lse_low, batch, query, head) : 0};
}

// What a row begins with: the lse that earlier steps left, or its head's sink, of weight 1 and no value; else -inf.
__device__ __forceinline__ Lse startLse(const flashring_step& step, int64_t batch, int64_t query, int64_t head) {
    return step.flags & FLASHRING_RESUME ? loadLse(step, batch, query, head)
           : step.sinks                  ? Lse{static_cast<const float*>(step.sinks)[head], 0}
                                         : Lse{-INFINITY, 0};
}

__device__ __forceinline__ void storeLse(const flashring_step& step, int64_t batch, int64_t query, int64_t head,
                                         Lse lse) {
    *row<float>(step.lse, batch, query, head) = lse.high;
    if (step.lse_low.data) {
        *row<float>(step.lse_low, batch, query, head) = lse.low;
    }
}

// e^(score - reference). The difference of two numbers close together is exact.
__device__ __forceinline__ float expDifference(float score, float reference) {
    return exp2Fast(__fsub_rn(score, reference) * static_cast<float>(M_LOG2E));
}

// The weight of a product against a reference within kFarScore.
struct NearWeight {
    float scaleLog2, shift;

    __device__ __forceinline__ NearWeight(ScoreScale scale, float reference)
        : scaleLog2(scale.log2), shift(reference * static_cast<float>(M_LOG2E)) {}
    __device__ __forceinline__ float operator()(float product) const {
        return exp2Fast(fmaf(product, scaleLog2, -shift));
    }
};

// The weight of a product against any reference.
struct FarWeight {
    ScoreScale scale;
    float reference;

    __device__ __forceinline__ float operator()(float product) const {
        return expDifference(scale.score(product), reference);
    }
};

// The probability of a product in any row: never above 1, though lse is rounded; 0 where lse is -inf; NaN stays. In
// rows that are not far it is NearWeight{scale, lse}.
struct FarProbability {
    ScoreScale scale;
    float lse;

    __device__ __forceinline__ float operator()(float product) const {
        const float difference = __fsub_rn(scale.score(product), lse);
        return lse == -INFINITY ? 0 : exp2Fast((difference > 0 ? 0 : difference) * static_cast<float>(M_LOG2E));
    }
};

}  // namespace flashring

#endif
