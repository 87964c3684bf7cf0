// The score of one pair, for what is computed pair by pair.
#ifndef FLASHRING_CUDA_SM90_PAIR_SCORE_CUH
#define FLASHRING_CUDA_SM90_PAIR_SCORE_CUH

#include "common/shaping.cuh"
#include "sm90/arguments.h"

namespace flashring {

// The score of a pair's product, and its derivative by the scaled product.
struct PairScore {
    float score, slope;
};

template <Shaping kShaping>
__device__ __forceinline__ PairScore scorePair(const Arguments& a, float product, int query, int key, int head) {
    if constexpr (kShaping == Shaping::Softcap) {
        const Softcap softcap{a.shape.softcap, a.shape.exponent};
        const float rest = softcap.rest(product);
        return {softcap.score(rest), Softcap::growth(rest)};
    }
    const float score = __fmul_rn(product, static_cast<float>(a.step.softmax_scale));
    if constexpr (kShaping == Shaping::Alibi) {
        return {withDistance(score, slopeOf(a.step, head), a.queryPositions[query], a.keyPositions[key]), 1};
    }
    return {score, 1};
}

}  // namespace flashring

#endif
