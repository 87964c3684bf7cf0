// ALiBi on a warpgroup's scores. Distances are counted from the last key that a row sees, in keys, as all lie in one
// range: what its query is ahead of that is the same for all its scores, and is taken from lse in the end. So no score
// is above its product, weights are right against a reference of 0, whatever comes first, and most blocks take a short
// way from products to weights: an operation more a score than plain ones.
#ifndef FLASHRING_CUDA_SM90_SLOPED_CUH
#define FLASHRING_CUDA_SM90_SLOPED_CUH

#include "common/shaping.cuh"
#include "sm90/arguments.h"
#include "sm90/softmax.cuh"

namespace flashring {

// The least sum of a row's weights that is worth their bits: rows with less are computed alone.
constexpr float kLeastSlopedSum = 0x1p-64f;

// What is known of this lane's two rows in a block of keys.
struct SlopedBlock {
    float slope;      // of the head, a key
    float behind[2];  // keys from the last that the row sees to this lane's first

    __device__ __forceinline__ SlopedBlock(float ofKey, const int* hi, int key) : slope(ofKey) {
        const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            behind[half] = static_cast<float>(key + lane % 4 * 2 + 1 - hi[half * 8 + lane / 4]);
        }
    }
};

// The slope of a head from a key to the next.
__device__ __forceinline__ float slopeOfKey(const Arguments& a, int head) {
    const float stride = a.step.kv_len > 1 ? static_cast<float>(a.keyPositions[1] - a.keyPositions[0]) : 1;
    return slopeOf(a.step, head) * stride;
}

// Finished scores from products, in place.
template <int kScores>
__device__ __forceinline__ void slopeScores(float (&scores)[kScores], const SlopedBlock& block, float scale) {
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
        scores[i] = fmaf(block.slope, block.behind[i / 2 % 2] + static_cast<float>(i / 4 * 8 + i % 2),
                         __fmul_rn(scores[i], scale));
    }
}

// The short way: takes a block of products that all rows see into the state, as advance() does with finished scores.
// False, and nothing has changed, where it does not lead there.
template <class Element, int kKeys>
__device__ __forceinline__ bool advanceSloped(const float (&products)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                              SoftmaxRow (&state)[2], const SlopedBlock& block, float scale) {
    constexpr float kLog2E = static_cast<float>(M_LOG2E);
    const float shifts[2] = {shiftOf(state[0]), shiftOf(state[1])}, slope = block.slope * kLog2E,
                scaleLog2 = scale * kLog2E;
    float sums[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float start = fmaf(block.behind[half], slope, -shifts[half] * kLog2E);
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
            const float* const pair = products + n * 4 + half * 2;
            const float x = exp2Fast(fmaf(pair[0], scaleLog2, fmaf(slope, static_cast<float>(n * 8), start))),
                        y = exp2Fast(fmaf(pair[1], scaleLog2, fmaf(slope, static_cast<float>(n * 8 + 1), start)));
            sums[half] += x;
            sums[half] += y;
            weights[n / 2][n % 2 * 2 + half] = pack<Element>(x, y);
        }
    }
    return takeSums(state, {sums[0], sums[1]}, shifts, {true, true});
}

// The same where the block has no border of the mask, or false and finished scores for advance() in place of products.
template <class Element, int kKeys>
__device__ __forceinline__ bool takeSloped(float (&scores)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                           SoftmaxRow (&state)[2], const SlopedBlock& block, const Arguments& a,
                                           bool border) {
    const bool taken = !border && advanceSloped<Element, kKeys>(scores, weights, state, block, a.shape.scale);
    if (!taken) {
        slopeScores(scores, block, a.shape.scale);
    }
    return taken;
}

}  // namespace flashring

#endif
