// Rows that the products of whole tiles have spoilt, found and computed again one by one.
#ifndef FLASHRING_CUDA_SM90_ROW_ALONE_CUH
#define FLASHRING_CUDA_SM90_ROW_ALONE_CUH

#include "sm90/pair_score.cuh"
#include "sm90/state.cuh"

namespace flashring {

// Computes one row again, key by key, and writes it, for rows that a value which they do not see has spoilt
// (kernels.h). Run by one warp.
template <class Element, int kColumns, Shaping kShaping>
__device__ __forceinline__ void writeRowAlone(const Arguments& a, int query, int head, int batch) {
    const flashring_step& step = a.step;
    const int lane = threadIdx.x % 32, keyHead = head / static_cast<int>(step.q_heads / step.kv_heads);
    const int dim = static_cast<int>(step.head_dim), columns = static_cast<int>(step.value_dim);
    const Element* const q = row<const Element>(step.q, batch, query, head);
    const bool resumes = step.flags & FLASHRING_RESUME;
    float reference = resumes ? -INFINITY : startLse(step, batch, query, head).high;
    float sum = reference == -INFINITY ? 0 : 1, out[kColumns / 32] = {};
    const auto add = [&](float score, float low, const auto* value) {
        const float common = fmaxf(reference, score), shift = common == -INFINITY ? 0 : common;
        const float decay = expDifference(reference, shift),
                    weight = exp2Fast((__fsub_rn(score, shift) + low) * static_cast<float>(M_LOG2E));
        reference = common;
        sum = fmaf(sum, decay, weight);
#pragma unroll
        for (int i = 0; i < kColumns / 32; ++i) {
            const int column = i * 32 + lane;
            out[i] = fmaf(weight, column < columns ? static_cast<float>(value[column]) : 0, out[i] * decay);
        }
    };
    for (int key = a.lo[query]; key < a.hi[query]; ++key) {
        const Element* const k = row<const Element>(step.k, batch, key, keyHead);
        float score = 0;
#pragma unroll 1
        for (int d = lane; d < dim; d += 32) {
            score = fmaf(static_cast<float>(q[d]), static_cast<float>(k[d]), score);
        }
        for (int distance = 16; distance > 0; distance /= 2) {
            score += __shfl_xor_sync(~0u, score, distance);
        }
        add(scorePair<kShaping>(a, score, query, key, head).score, 0, row<const Element>(step.v, batch, key, keyHead));
    }
    float* const acc = row<float>(step.acc, batch, query, head);
    if (resumes) {
        const Lse lse = loadLse(step, batch, query, head);
        if (lse.high != -INFINITY) {
            add(lse.high, lse.low, acc);
        }
    }
    __syncwarp();  // every lane has read lse
    if (lane == 0) {
        storeLse(step, batch, query, head, lseOf(reference, sum));
    }
#pragma unroll
    for (int i = 0; i < kColumns / 32; ++i) {
        const int column = i * 32 + lane;
        const float x = out[i] * inverseOf(sum);
        if (column < columns && step.acc.data) {
            acc[column] = x;
        }
        if (column < columns && step.flags & FLASHRING_FINISH) {
            row<Element>(step.out, batch, query, head)[column] = Element(x);
        }
    }
}

// Whether this step made an element of this lane's share of a row NaN or infinite. What earlier steps left so does not
// count.
template <int kColumns>
__device__ __forceinline__ bool spoilt(const Arguments& a, const float* out, int query, int head, int batch) {
    const flashring_step& step = a.step;
    const bool resumed = step.flags & FLASHRING_RESUME && *row<const float>(step.lse, batch, query, head) != -INFINITY;
    const int pair = threadIdx.x % 4 * 2, rest = resumed ? static_cast<int>(step.value_dim) - pair : 0;
    const float* const acc = row<const float>(step.acc, batch, query, head) + pair;
    bool found = false;
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
        const float2 before = loadPair(acc, n * 8, rest, a.vectorOutputs);
        found |= !(fabsf(out[n * 4]) < INFINITY) && fabsf(before.x) < INFINITY;
        found |= !(fabsf(out[n * 4 + 1]) < INFINITY) && fabsf(before.y) < INFINITY;
    }
    return found;
}

}  // namespace flashring

#endif
