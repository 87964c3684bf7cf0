// From a warp's share of the output in registers to global memory.
#ifndef FLASHRING_CUDA_HOPPER_ROWS_CUH
#define FLASHRING_CUDA_HOPPER_ROWS_CUH

#include "hopper.h"
#include "hopper_softmax.cuh"
#include "outputs.cuh"

namespace flashring {

// What the new output and the one of earlier steps are multiplied by to give the output of both.
struct RowScales {
    float fresh, earlier;
    bool resume;  // there is an earlier one; else its memory means nothing
};

// Joins a row's state with that of earlier steps, one more block of keys of reference lse and sum 1. One lane stores the
// new lse; the others only compute.
__device__ __forceinline__ RowScales finishRow(const flashring_step& step, float reference, float sum, int64_t batch, int query,
                                               int head, bool stores) {
    float* const lse = row<float>(step.lse, batch, query, head);
    const float before = step.flags & FLASHRING_RESUME ? *lse * static_cast<float>(M_LOG2E) : -INFINITY;
    RowScales scales{1, 0, before != -INFINITY};
    if (scales.resume) {
        const float common = fmaxf(reference, before);
        scales = {exp2Fast(reference - common), exp2Fast(before - common), true};
        sum = fmaf(sum, scales.fresh, scales.earlier);
        reference = common;
    }
    const float inverse = sum == 0 ? 0 : __fdividef(1, sum);
    __syncwarp(__activemask());  // every lane has read lse
    if (stores) {
        *lse = sum == 0 ? -INFINITY : fmaf(reference, static_cast<float>(M_LN2), logf(sum));
    }
    return {scales.fresh * inverse, scales.earlier * inverse, scales.resume};
}

// Asks for the earlier output of the 16 rows of a warp that start at this query, long before finishing them needs it.
template <int kColumns>
__device__ __forceinline__ void prefetchEarlier(const flashring_step& step, int first, int head, int batch) {
    constexpr int kLines = kColumns / 32;  // of 128 bytes
    if (step.flags & FLASHRING_RESUME) {
        for (int i = threadIdx.x % 32; i < 16 * kLines; i += 32) {
            const int query = first + i / kLines, column = i % kLines * 32;
            if (query < step.q_len && column < step.value_dim) {
                asm volatile("prefetch.global.L2 [%0];" ::"l"(row<float>(step.acc, batch, query, head) + column));
            }
        }
    }
}

// Computes one row anew, a key at a time, and writes it: run by a warp. A value that is not finite reaches every row of a
// tile through the product, also those that do not see it, as its weight of 0 makes NaN of it.
template <class Element, int kColumns>
__device__ __forceinline__ void writeRowAlone(const Arguments& a, int query, int head, int batch) {
    const flashring_step& step = a.step;
    const int lane = threadIdx.x % 32, keyHead = head / static_cast<int>(step.q_heads / step.kv_heads);
    const int dim = static_cast<int>(step.head_dim), columns = static_cast<int>(step.value_dim);
    const Element* const q = row<const Element>(step.q, batch, query, head);
    float reference = -INFINITY, sum = 0, out[kColumns / 32] = {};
    for (int key = a.lo[query]; key < a.hi[query]; ++key) {
        const Element* const k = row<const Element>(step.k, batch, key, keyHead);
        const Element* const v = row<const Element>(step.v, batch, key, keyHead);
        float score = 0;
        for (int d = lane; d < dim; d += 32) {
            score = fmaf(static_cast<float>(q[d]), static_cast<float>(k[d]), score);
        }
        for (int distance = 16; distance > 0; distance /= 2) {
            score += __shfl_xor_sync(~0u, score, distance);
        }
        score *= a.scaleLog2;
        const float common = fmaxf(reference, score), shift = common == -INFINITY ? 0 : common;
        const float decay = exp2Fast(reference - shift), weight = exp2Fast(score - shift);
        reference = common;
        sum = fmaf(sum, decay, weight);
#pragma unroll
        for (int i = 0; i < kColumns / 32; ++i) {
            const float value = i * 32 + lane < columns ? static_cast<float>(v[i * 32 + lane]) : 0;
            out[i] = fmaf(weight, value, out[i] * decay);
        }
    }
    const RowScales scales = finishRow(step, reference, sum, batch, query, head, lane == 0);
#pragma unroll
    for (int i = 0; i < kColumns / 32; ++i) {
        const int column = i * 32 + lane;
        if (column < columns) {
            float x = out[i] * scales.fresh;
            if (step.acc.data) {
                float& acc = row<float>(step.acc, batch, query, head)[column];
                acc = x = scales.resume ? fmaf(acc, scales.earlier, x) : x;
            }
            if (step.flags & FLASHRING_FINISH) {
                row<Element>(step.out, batch, query, head)[column] = Element(x);
            }
        }
    }
}

// Lane i of each quad gives element j to lane j, and gets as element j what lane j had as element i.
__device__ __forceinline__ void transposeQuad(uint32_t (&x)[4]) {
    const unsigned quad = 0xfu << (threadIdx.x % 32 / 4 * 4);
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2) {
        const bool upper = threadIdx.x & bit;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (!(i & bit)) {
                const uint32_t other = __shfl_xor_sync(quad, upper ? x[i] : x[i | bit], bit);
                (upper ? x[i] : x[i | bit]) = other;
            }
        }
    }
}

// Writes one finished row of a quad: its columns {0, 1} + 8 n + 2 lane are out[4 n], out[4 n + 1].
template <class Element, int kColumns>
__device__ __forceinline__ void writeRow(const Arguments& a, const float* out, const RowScales& scales, int query, int head, int batch) {
    const flashring_step& step = a.step;
    const int lane = threadIdx.x % 4, columns = static_cast<int>(step.value_dim);
    float* const acc = step.acc.data ? row<float>(step.acc, batch, query, head) : nullptr;
    Element* const finished = step.flags & FLASHRING_FINISH ? row<Element>(step.out, batch, query, head) : nullptr;
    if (!acc && a.wideOutputs) {
        // The quad's lanes swap pairs until each has all 8 columns of one n in 4.
#pragma unroll
        for (int n = 0; n < kColumns / 8; n += 4) {
            uint32_t pairs[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                pairs[i] = pack<Element>(out[(n + i) * 4] * scales.fresh, out[(n + i) * 4 + 1] * scales.fresh);
            }
            transposeQuad(pairs);
            const int column = (n + lane) * 8;
            if (column < columns) {
                *reinterpret_cast<uint4*>(finished + column) = {pairs[0], pairs[1], pairs[2], pairs[3]};
            }
        }
        return;
    }
    // Many loads before the first store: none could pass it.
    constexpr int kAtOnce = kColumns <= 128 ? kColumns / 8 : 8;
#pragma unroll
    for (int first = 0; first < kColumns / 8; first += kAtOnce) {
        float2 pairs[kAtOnce];
        const auto column = [&](int i) { return (first + i) * 8 + lane * 2; };
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            pairs[i] = scales.resume ? loadPair(acc, column(i), columns, a.vectorOutputs) : float2{};
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            const float* const fresh = out + (first + i) * 4;
            pairs[i] = {fmaf(pairs[i].x, scales.earlier, fresh[0] * scales.fresh), fmaf(pairs[i].y, scales.earlier, fresh[1] * scales.fresh)};
        }
#pragma unroll
        for (int i = 0; i < kAtOnce && acc; ++i) {
            storePair(acc, column(i), columns, a.vectorOutputs, pairs[i].x, pairs[i].y);
        }
#pragma unroll
        for (int i = 0; i < kAtOnce && finished; ++i) {
            storePair(finished, column(i), columns, a.vectorOutputs, pairs[i].x, pairs[i].y);
        }
    }
}

// Writes the 16 rows of a warp that start at this query.
template <class Element, int kColumns>
__device__ __forceinline__ void writeRows(const Arguments& a, const float (&out)[kColumns / 2], const SoftmaxRow (&state)[2], int first,
                                          int head, int batch) {
    const int lane = threadIdx.x % 32, length = static_cast<int>(a.step.q_len);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int query = first + half * 8 + lane / 4;
        float sum = state[half].sum;
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        float probe = 0;
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
            probe = fmaf(out[n * 4 + half * 2], 0.0f, probe);
            probe = fmaf(out[n * 4 + half * 2 + 1], 0.0f, probe);
        }
        // Where the sum is NaN so is the row, by right.
        const unsigned strange = __ballot_sync(~0u, probe != 0 && sum == sum && query < length);
        if (query < length && !(strange >> (lane / 4 * 4) & 0xf)) {
            const RowScales scales = finishRow(a.step, state[half].reference, sum, batch, query, head, lane % 4 == 0);
            writeRow<Element, kColumns>(a, out + half * 2, scales, query, head, batch);
        }
        __syncwarp();
        for (int r = 0; strange && r < 8; ++r) {
            if (strange >> (r * 4) & 0xf) {
                writeRowAlone<Element, kColumns>(a, first + half * 8 + r, head, batch);
            }
        }
    }
}

}  // namespace flashring

#endif
