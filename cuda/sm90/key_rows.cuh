// Transposed scores and dP of a consumer of the Hopper backward kernels: its rows are keys, its columns a tile of
// queries. Lane l of warp w holds keys 16 w + l / 4 and 8 more of 64, two queries in each 8.
#ifndef FLASHRING_CUDA_SM90_KEY_ROWS_CUH
#define FLASHRING_CUDA_SM90_KEY_ROWS_CUH

#include <math.h>

#include "sm90/backward_copies.cuh"
#include "sm90/capped_pairs.cuh"
#include "sm90/pairwise.cuh"

namespace flashring {

// Puts what `start` has of each query into all of its column.
template <int kCount>
__device__ __forceinline__ void startFrom(float (&product)[kCount], const float* start) {
#pragma unroll
    for (int n = 0; n < kCount / 4; ++n) {
        const float2 pair = *reinterpret_cast<const float2*>(start + n * 8 + static_cast<int>(threadIdx.x) % 4 * 2);
        product[n * 4] = product[n * 4 + 2] = pair.x;
        product[n * 4 + 1] = product[n * 4 + 3] = pair.y;
    }
}

// Puts (score - lse) / scale, at most 0, in place of what the products have from 0 on: scores are rounded as forward
// rounds them. Parts that started from -lse / scale keep what they have. In other tiles a weight is above 1 by less
// than half a bit of an operand, and rounds to 1.
template <int kCount>
__device__ __forceinline__ void subtractCarefully(float (&scores)[kCount], const float* lse,
                                                  const HopperBackwardArguments& h) {
    const float scale = static_cast<float>(h.a.step.softmax_scale), inverse = -h.scoresStart;
#pragma unroll
    for (int n = 0; n < kCount / 4; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float subtracted = lse[n * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2];
            scores[n * 4 + i] = atMostZero((__fmul_rn(scores[n * 4 + i], scale) - subtracted) * inverse);
        }
        __syncwarp();  // keeps the loads of later columns out of registers
    }
}

// The same under ALiBi, whose distances then count, too. `firstKey` is this lane's first, in the block.
template <int kCount, class Rows>
__device__ __forceinline__ void subtractCarefully(float (&scores)[kCount], const Rows& rows, int firstKey,
                                                  const HopperBackwardArguments& h) {
    const float scale = static_cast<float>(h.a.step.softmax_scale), inverse = -h.scoresStart;
#pragma unroll
    for (int n = 0; n < kCount / 4; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int query = n * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2;
            const float ahead = fmaf(static_cast<float>(firstKey + i / 2 * 8), rows.stride, -rows.distance[query]),
                        score = fmaf(rows.slope, ahead, __fmul_rn(scores[n * 4 + i], scale));
            scores[n * 4 + i] = atMostZero((score - rows.lse[query]) * inverse);
        }
        __syncwarp();  // keeps the loads of later columns out of registers
    }
}

// Puts -inf in place of the scores that the mask hides, kHiddenTanh where kTanhs; `firstKey` is the warp's first, in
// the block.
template <bool kTanhs = false, int kCount, class Rows>
__device__ __forceinline__ void hide(float (&scores)[kCount], const Rows& rows, int firstKey) {
    const int key = firstKey + static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
    for (int n = 0; n < kCount / 4; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const int query = n * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + e, lo = rows.lo[query],
                      hi = rows.hi[query];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float& score = scores[n * 4 + half * 2 + e];
                score = key + half * 8 >= lo && key + half * 8 < hi ? score : kTanhs ? kHiddenTanh : -INFINITY;
            }
        }
        __syncwarp();  // keeps the loads of later columns out of registers
    }
}

}  // namespace flashring

#endif
