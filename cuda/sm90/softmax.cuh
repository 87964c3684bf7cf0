// Online softmax of one warpgroup's scores. Lane l of a warp holds rows l / 4 and l / 4 + 8 of 16, two columns in each
// 8.
#ifndef FLASHRING_CUDA_SM90_SOFTMAX_CUH
#define FLASHRING_CUDA_SM90_SOFTMAX_CUH

#include <math.h>

#include "common/scores.cuh"

namespace flashring {

// Reference (a score; -inf before any key was seen) and sum of one row. Weights are e^(score - reference), and each
// lane of a quad holds its own part of the sum.
struct SoftmaxRow {
    float reference, sum;
};

// The largest sum of a lane's weights of a block before the reference must follow. It is far inside float16, and keeps
// all sums inside float32. A larger one would let equal weights at the end of a row all round the same way, where
// weights of 1 would not round. The first reference must give each lane at least the smallest sum, so that weights in
// float16 keep their bits.
constexpr float kLargestSum = 256, kSmallestSum = 0.25f;

// Earlier steps count as one more key, of score lse and value acc, whose weight is e^(lse - reference). The reference
// makes that about 2^10: lse stands for thousands of keys, and beside all of them float16 would have few bits for the
// weight of one.
struct EarlierRow {
    float reference, sum;  // -inf and 0 where no key was seen yet: acc means nothing then
};

__device__ __forceinline__ EarlierRow earlierRow(Lse lse) {
    constexpr float kLog1024 = 6.931471806f;
    const float reference = fmaxf(lse.high - kLog1024, -INFINITY);  // NaN stays in the sum alone
    const float sum = exp2Fast(((lse.high - reference) + lse.low) * static_cast<float>(M_LOG2E));
    return {reference, lse.high == -INFINITY ? 0 : sum};
}

// The state that this lane starts from: lane 0 of each quad holds the sum.
__device__ __forceinline__ SoftmaxRow startingFrom(const EarlierRow& row) {
    return {row.reference, threadIdx.x % 4 == 0 ? row.sum : 0};
}

// A low bit for each of a lane's columns, two in each 8, below the bound.
__device__ __forceinline__ uint32_t columnsBelow(int bound) {
    const int own = max(bound - static_cast<int>(threadIdx.x % 4 * 2), 0), count = own / 8 * 2 + min(own % 8, 2);
    return count < 32 ? (1u << count) - 1 : ~0u;
}

constexpr uint32_t kAllSeen = ~0u;

// Sets the scores of keys outside [lo, hi) of their row to -inf; `seen` says whether the block has any inside. A mask
// of bits becomes several predicates at a time. Returns 8 bits for each 32 keys, all 0 where no row of the warp sees
// any of them.
template <int kKeys>
__device__ __forceinline__ uint32_t hide(float (&scores)[kKeys / 2], bool (&seen)[2], const int* lo, const int* hi,
                                         int key) {
    static_assert(kKeys <= 128, "more columns of a lane than bits in a word");
    const int lane = threadIdx.x % 32;
    uint32_t either = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int from = lo[half * 8 + lane / 4] - key, to = hi[half * 8 + lane / 4] - key;
        seen[half] = from < kKeys && to > 0 && from < to;
        const uint32_t visible = columnsBelow(to) & ~columnsBelow(from);
        either |= visible;
#pragma unroll
        for (int i = 0; i < kKeys / 4; ++i) {
            float& score = scores[i / 2 * 4 + half * 2 + i % 2];
            score = visible >> i & 1 ? score : -INFINITY;
        }
    }
    return __reduce_or_sync(~0u, either);
}

// The reference to weigh against; 0 for a row that has seen nothing yet.
__device__ __forceinline__ float shiftOf(const SoftmaxRow& row) {
    return row.reference == -INFINITY ? 0 : row.reference;
}

// Computes the weights of 8 keys of a row, rounded to Element, and adds them to the sum.
template <class Element, int kKeys, class Weight>
__device__ __forceinline__ void weighEight(const float (&scores)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                           float& sum, int n, int half, const Weight& weight) {
    const float x = weight(scores[n * 4 + half * 2]), y = weight(scores[n * 4 + half * 2 + 1]);
    sum += x;
    sum += y;
    weights[n / 2][n % 2 * 2 + half] = pack<Element>(x, y);
}

// Computes the weights of a block of keys; returns their sum for each row.
template <class Element, int kKeys, class Weight>
__device__ __forceinline__ float2 weigh(const float (&scores)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                        const Weight (&weightOf)[2]) {
    float sums[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
            weighEight<Element, kKeys>(scores, weights, sums[half], n, half, weightOf[half]);
        }
    }
    return {sums[0], sums[1]};
}

// The same after hide() returned `seen`: leaves out the exponentials of keys that nobody sees.
template <class Element, int kKeys, class Weight>
__device__ __forceinline__ float2 weighSeen(const float (&scores)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                            const Weight (&weightOf)[2], uint32_t seen) {
    float sums[2] = {};
#pragma unroll
    for (int first = 0; first < kKeys / 8; first += 4) {
#pragma unroll
        for (int n = first; n < first + 4 && n < kKeys / 8; ++n) {
            weights[n / 2][n % 2 * 2] = weights[n / 2][n % 2 * 2 + 1] = 0;
        }
        if (seen >> (first * 2) & 0xff) {
#pragma unroll
            for (int n = first; n < first + 4 && n < kKeys / 8; ++n) {
                weighEight<Element, kKeys>(scores, weights, sums[0], n, 0, weightOf[0]);
                weighEight<Element, kKeys>(scores, weights, sums[1], n, 1, weightOf[1]);
            }
        }
    }
    return {sums[0], sums[1]};
}

// Whether weights of these sums, of scores against `shifts`, were worth computing (below). Then they count.
__device__ __forceinline__ bool takeSums(SoftmaxRow (&state)[2], float2 sums, const float (&shifts)[2],
                                         const bool (&seen)[2]) {
    const bool fresh[2] = {state[0].reference == -INFINITY && seen[0], state[1].reference == -INFINITY && seen[1]};
    const bool fits = sums.x <= kLargestSum && sums.y <= kLargestSum && !(fresh[0] && sums.x < kSmallestSum) &&
                      !(fresh[1] && sums.y < kSmallestSum) && !isFar(fmaxf(fabsf(shifts[0]), fabsf(shifts[1])));
    const bool all = __all_sync(~0u, fits);
    if (all) {
        state[0].reference = fresh[0] ? 0 : state[0].reference;
        state[1].reference = fresh[1] ? 0 : state[1].reference;
        state[0].sum += sums.x;
        state[1].sum += sums.y;
    }
    return all;
}

// There is nothing to wait for before `out` is touched.
struct Settled {
    __device__ __forceinline__ void operator()() const {}
};

// Takes a block of scores into the state and leaves the weights for the next product. Where the reference moves, `out`
// is scaled down, once settle() has waited for what is still being added to it.
//
// Weights are computed against the reference as it stands, at first 0, without looking for the block's maximum. Only
// where a sum shows that the reference does not fit, or is far from 0, is the maximum found and everything done again.
// The division by the sum at the end makes any reference exact. seenKeys is what hide() returned.
template <class Element, int kKeys, int kColumns, class Settle = Settled>
__device__ __forceinline__ void advance(const float (&scores)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                        float (&out)[kColumns], SoftmaxRow (&state)[2], const bool (&seen)[2],
                                        ScoreScale scale, uint32_t seenKeys = kAllSeen, Settle settle = {}) {
    const float shifts[2] = {shiftOf(state[0]), shiftOf(state[1])};
    const NearWeight near[2] = {{scale, shifts[0]}, {scale, shifts[1]}};
    float2 sums;
    if (seenKeys == kAllSeen) {
        sums = weigh<Element, kKeys>(scores, weights, near);
    } else {
        sums = weighSeen<Element, kKeys>(scores, weights, near, seenKeys);
    }
    if (!takeSums(state, sums, shifts, seen)) {
        settle();
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float top = -INFINITY;
#pragma unroll
            for (int n = 0; n < kKeys / 8; ++n) {
                top = fmaxf(top, fmaxf(scores[n * 4 + half * 2], scores[n * 4 + half * 2 + 1]));
            }
            top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
            top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
            SoftmaxRow& row = state[half];
            const float before = row.reference;
            row.reference = fmaxf(before, scale.score(top));
            const float decay = expDifference(before, shiftOf(row));
            row.sum *= decay;
#pragma unroll
            for (int n = 0; n < kColumns / 4; ++n) {
                out[n * 4 + half * 2] *= decay;
                out[n * 4 + half * 2 + 1] *= decay;
            }
        }
        const FarWeight far[2] = {{scale, shiftOf(state[0])}, {scale, shiftOf(state[1])}};
        sums = weigh<Element, kKeys>(scores, weights, far);
        state[0].sum += sums.x;
        state[1].sum += sums.y;
    }
}

}  // namespace flashring

#endif
