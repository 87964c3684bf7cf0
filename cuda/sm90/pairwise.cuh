// Pairs of one query and one key at a time: what the backward products of whole tiles cannot do.
#ifndef FLASHRING_CUDA_SM90_PAIRWISE_CUH
#define FLASHRING_CUDA_SM90_PAIRWISE_CUH

#include <math.h>

#include "common/ptx.cuh"
#include "sm90/pair_score.cuh"

namespace flashring {

// The smaller of x and 0; NaN stays NaN.
__device__ inline float atMostZero(float x) {
    float least;
    asm("min.NaN.f32 %0, %1, 0f00000000;" : "=f"(least) : "f"(x));
    return least;
}

// Adds to dq (as it is gathered), dk and dv what the pairs of `queries` queries from `query` on and the keys [key,
// keyEnd) give, those the mask hides left out: one warp a pair, all atomically. Run by kWarps warps, the first of which
// is 4.
//
// For tiles where a border of the mask meets NaN or infinity (kernels.h).
template <class Element, Shaping kShaping, int kWarps>
__device__ __forceinline__ void addPairs(const Arguments& a, const GatheredDq& dq, int query, int queries, int key,
                                         int keyEnd, int head, int batch) {
    const flashring_step& step = a.step;
    const int lane = threadIdx.x % 32, keyHead = head / static_cast<int>(step.q_heads / step.kv_heads);
    const int queryEnd = min(query + queries, static_cast<int>(step.q_len));
    const int keyDim = static_cast<int>(step.head_dim), valueDim = static_cast<int>(step.value_dim);
    const float scale = static_cast<float>(step.softmax_scale);
#pragma unroll 1
    for (int i = query; i < queryEnd; ++i) {
        const Element* const q = row<const Element>(step.q, batch, i, head);
        const Element* const dout = row<const Element>(step.dout, batch, i, head);
        const float lse = *row<const float>(step.lse, batch, i, head),
                    delta = *row<const float>(step.delta, batch, i, head);
        const int last = min(keyEnd, a.hi[i]);
#pragma unroll 1
        for (int j = max(key, a.lo[i]) + static_cast<int>(threadIdx.x) / 32 - 4; j < last; j += kWarps) {
            const Element* const k = row<const Element>(step.k, batch, j, keyHead);
            const Element* const v = row<const Element>(step.v, batch, j, keyHead);
            float score = 0, dp = 0;
#pragma unroll 1
            for (int d = lane; d < keyDim; d += 32) {
                score = fmaf(static_cast<float>(q[d]), static_cast<float>(k[d]), score);
            }
#pragma unroll 1
            for (int d = lane; d < valueDim; d += 32) {
                dp = fmaf(static_cast<float>(dout[d]), static_cast<float>(v[d]), dp);
            }
            for (int distance = 16; distance > 0; distance /= 2) {
                score += __shfl_xor_sync(~0u, score, distance);
                dp += __shfl_xor_sync(~0u, dp, distance);
            }
            const bool counts = lse != -INFINITY;
            const PairScore shaped = scorePair<kShaping>(a, score, i, j, head);
            const float p = counts ? exp2Fast(atMostZero(shaped.score - lse) * static_cast<float>(M_LOG2E)) : 0;
            const float ds = counts ? p * (dp - delta) * shaped.slope : 0;
#pragma unroll 1
            for (int d = lane; d < keyDim; d += 32) {
                atomicAdd(dq.element(batch * static_cast<int>(step.q_heads) + head, i, d),
                          ds * static_cast<float>(k[d]));
                atomicAdd(row<float>(step.dk, batch, j, keyHead) + d, ds * scale * static_cast<float>(q[d]));
            }
#pragma unroll 1
            for (int d = lane; d < valueDim; d += 32) {
                atomicAdd(row<float>(step.dv, batch, j, keyHead) + d, p * static_cast<float>(dout[d]));
            }
        }
    }
}

// Weight of a pair, and the gradient of its scaled score; 0 where the query sees nothing.
struct PairWeight {
    float p, ds;
};

// Of a query that sees the key: run by a warp.
template <class Element, Shaping kShaping>
__device__ __forceinline__ PairWeight weighPair(const Arguments& a, int query, int key, int head, int batch) {
    const flashring_step& step = a.step;
    const int lane = threadIdx.x % 32, keyHead = head / static_cast<int>(step.q_heads / step.kv_heads);
    const auto multiply = [&](const Element* x, const Element* y, int64_t dim) {
        float sum = 0;
#pragma unroll 1
        for (int d = lane; d < static_cast<int>(dim); d += 32) {
            sum = fmaf(static_cast<float>(x[d]), static_cast<float>(y[d]), sum);
        }
        for (int distance = 16; distance > 0; distance /= 2) {
            sum += __shfl_xor_sync(~0u, sum, distance);
        }
        return sum;
    };
    const float lse = *row<const float>(step.lse, batch, query, head);
    if (lse == -INFINITY) {
        return {0, 0};
    }
    const float product = multiply(row<const Element>(step.q, batch, query, head),
                                   row<const Element>(step.k, batch, key, keyHead), step.head_dim);
    const float dp = multiply(row<const Element>(step.dout, batch, query, head),
                              row<const Element>(step.v, batch, key, keyHead), step.value_dim);
    const PairScore shaped = scorePair<kShaping>(a, product, query, key, head);
    const float p = exp2Fast(atMostZero(shaped.score - lse) * static_cast<float>(M_LOG2E));
    return {p, p * (dp - *row<const float>(step.delta, batch, query, head)) * shaped.slope};
}

// sum += weight * a row of `dim` columns, of which each lane has every 32nd. False once nothing of it can change any
// more.
template <class Element, int kColumns>
__device__ __forceinline__ bool addRow(float (&sum)[kColumns], float weight, const Element* row, int64_t dim) {
    bool open = false;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
        const int d = i * 32 + static_cast<int>(threadIdx.x) % 32;
        if (d < static_cast<int>(dim)) {
            sum[i] = fmaf(weight, static_cast<float>(row[d]), sum[i]);
            open |= !isnan(sum[i]);
        }
    }
    return __any_sync(~0u, open);
}

}  // namespace flashring

#endif
