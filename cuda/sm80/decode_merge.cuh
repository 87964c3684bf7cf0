// The states that the teams of a decode step leave, and the one of earlier steps where it resumes, become the step's
// results: always in one order, so that the bits are the same on every run.
#ifndef FLASHRING_CUDA_SM80_DECODE_MERGE_CUH
#define FLASHRING_CUDA_SM80_DECODE_MERGE_CUH

#include "common/device.h"
#include "common/early_start.cuh"
#include "common/outputs.cuh"
#include "common/scores.cuh"
#include "sm80/decode.h"
#include "sm80/row_state.cuh"

namespace flashring {

constexpr int kMergeWarps = 8;  // of a block
constexpr int kMaxDecodeDim = 256;
constexpr int kMergedAtOnce = 8;  // states that a lane asks for before it adds the first

// What a state weighs against a reference; 0 where it has seen nothing.
__device__ inline float weightOf(Lse lse, float reference) {
    return expDifference(lse.high, shiftOf(reference)) * exp2Fast(lse.low * static_cast<float>(M_LOG2E));
}

// Sums of states weighed against the largest of their lse, in the columns of one lane: four, and four 128 further.
struct Merged {
    float top = -INFINITY, sum = 0;
    float4 out[kMaxDecodeDim / 128] = {};

    __device__ void add(const float4& x, int n, float weight) {
        out[n] = {fmaf(weight, x.x, out[n].x), fmaf(weight, x.y, out[n].y), fmaf(weight, x.z, out[n].z),
                  fmaf(weight, x.w, out[n].w)};
    }

    // Weighs what there is against a larger maximum.
    __device__ void raise(float to) {
        const float decay = to == top ? 1 : expDifference(top, shiftOf(to));
        top = to;
        sum *= decay;
#pragma unroll
        for (float4& x : out) {
            x = {x.x * decay, x.y * decay, x.z * decay, x.w * decay};
        }
    }
};

// The states [first, count) in strides of `stride`, columns [column, column + 4) and 128 further.
__device__ inline Merged merge(const DecodeArguments& a, int64_t from, int64_t step, int first, int count, int stride,
                               int column) {
    Merged merged;
    for (int i = first; i < count; i += stride * kMergedAtOnce) {
        float2 lse[kMergedAtOnce];
        float4 out[kMergedAtOnce][kMaxDecodeDim / 128];
        float top = merged.top;
#pragma unroll
        for (int j = 0; j < kMergedAtOnce; ++j) {
            const bool exists = i + j * stride < count;
            const int64_t place = from + (i + j * stride) * step;
            lse[j] = exists ? a.lse[place] : float2{-INFINITY, 0};
#pragma unroll
            for (int n = 0; n < kMaxDecodeDim / 128; ++n) {
                out[j][n] = exists && column + n * 128 < a.pitch
                                ? *reinterpret_cast<const float4*>(a.out + place * a.pitch + column + n * 128)
                                : float4{};
            }
        }
#pragma unroll
        for (int j = 0; j < kMergedAtOnce; ++j) {
            top = fmaxf(top, lse[j].x);
        }
        merged.raise(top);
#pragma unroll
        for (int j = 0; j < kMergedAtOnce; ++j) {
            const float weight = weightOf({lse[j].x, lse[j].y}, top);
            merged.sum += weight;
#pragma unroll
            for (int n = 0; n < kMaxDecodeDim / 128; ++n) {
                merged.add(out[j][n], n, weight);
            }
        }
    }
    return merged;
}

// The states of a row: of `count` parts from the first on.
struct RowStates {
    int first, count;

    // Of a query of a batch row that has these tiles.
    __device__ RowStates(const flashring_step& step, const DecodeCut& cut, int before, int after, int batch, int query)
        : first(0), count(0) {
        if (before < after && (!step.q_lengths || query < step.q_lengths[batch])) {
            first = cut.partOf(before);
            count = cut.partOf(after - 1) - first + 1;
        }
    }
    RowStates() = default;
};

// What the warps that merge a row share.
struct MergeShared {
    float tops[kMergeWarps], sums[kMergeWarps];
    float4 outputs[kMergeWarps][kMaxDecodeDim / 4];
};

// `warps` warps of a block merge a row, which is one of few with many states, or one of many with few. Run by the whole
// block; some of its rows may not exist.
template <class Element>
__device__ __forceinline__ void mergeRow(const DecodeArguments& a, MergeShared& shared, const RowStates& states,
                                         int batch, int query, int head, bool exists, int warps) {
    const flashring_step& step = a.step;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, ofRow = warp % warps,
              valueDim = static_cast<int>(step.value_dim);
    const bool resume = step.flags & FLASHRING_RESUME;
    const Lse earlier = exists ? startLse(step, batch, query, head) : Lse{-INFINITY, 0};
    const int64_t from = a.state(states.first, batch, head / a.group, query * a.group + head % a.group),
                  next = step.kv_heads * a.rows;
    const Merged merged = merge(a, from, next, ofRow, states.count, warps, lane * 4);
    shared.outputs[warp][lane] = merged.out[0];
    shared.outputs[warp][lane + 32] = merged.out[1];
    if (lane == 0) {
        shared.tops[warp] = merged.top;
        shared.sums[warp] = merged.sum;
    }
    __syncthreads();
    if (!exists) {
        return;
    }

    const int first = warp - ofRow;
    float top = earlier.high;
    for (int w = first; w < first + warps; ++w) {
        top = fmaxf(top, shared.tops[w]);
    }
    const float weight = earlier.high == -INFINITY ? 0 : weightOf(earlier, top);
    float total = weight;
    for (int w = first; w < first + warps; ++w) {
        total += shared.sums[w] * expDifference(shared.tops[w], shiftOf(top));
    }
    const float inverse = total == 0 ? 0 : 1 / total;
    float* const acc = step.acc.data ? flashring::row<float>(step.acc, batch, query, head) : nullptr;
    for (int col = (ofRow * 32 + lane) * 2; col < a.pitch; col += warps * 64) {
        float2 result{};
        if (resume && earlier.high != -INFINITY) {  // a weight of 0 keeps NaN and infinity
            const float2 state = loadPair(acc, col, valueDim, a.vectorOutputs);
            result = {weight * state.x, weight * state.y};
        }
        for (int w = first; w < first + warps; ++w) {
            const float scale = expDifference(shared.tops[w], shiftOf(top));
            const float2 x = reinterpret_cast<const float2*>(shared.outputs[w])[col / 2];
            result = {fmaf(scale, x.x, result.x), fmaf(scale, x.y, result.y)};
        }
        if (acc) {
            storePair(acc, col, valueDim, a.vectorOutputs, result.x * inverse, result.y * inverse);
        }
        if (step.flags & FLASHRING_FINISH) {
            storePair(flashring::row<Element>(step.out, batch, query, head), col, valueDim, a.vectorOutputs,
                      result.x * inverse, result.y * inverse);
        }
    }
    if (ofRow == 0 && lane == 0) {
        storeLse(step, batch, query, head, total == 0 ? Lse{-INFINITY, 0} : addLog(top, logf(total)));
    }
}

template <class Element>
__global__ void __launch_bounds__(kMergeWarps * 32) mergeKernel(const __grid_constant__ DecodeArguments a, int warps) {
    __shared__ MergeShared shared;
    const flashring_step& step = a.step;
    const int heads = static_cast<int>(step.q_heads), length = static_cast<int>(step.q_len);
    const int row = blockIdx.x * (kMergeWarps / warps) + threadIdx.x / 32 / warps, token = row / heads,
              head = row % heads;
    const int batch = token / length, query = token % length;
    const bool exists = batch < step.batch;
#if __CUDA_ARCH__ >= 900
    waitForEarlierKernel();
    letNextKernelStart();
#endif
    RowStates states{};
    if (exists && a.blocks > 0) {
        const int ofRow = a.tiles[0], before = a.ownRows ? a.tiles[batch] : batch * ofRow;
        const int after = a.ownRows ? a.tiles[batch + 1] : before + ofRow;
        const DecodeCut cut = a.cut(a.ownRows ? a.tiles[step.batch] : static_cast<int>(step.batch) * ofRow);
        states = RowStates(step, cut, before, after, batch, query);
    }
    mergeRow<Element>(a, shared, states, batch, query, head, exists, warps);
}

// Kernels that begin with a wait for the one before may start early where they were compiled to wait.
inline Start startOf(const DecodeArguments& a) {
    return computeCapability(a.step.device) >= 90 ? Start::Early : Start::InOrder;
}

template <class Element>
void mergeStates(const DecodeArguments& a) {
    const flashring_step& step = a.step;
    const int64_t rows = step.batch * step.q_len * step.q_heads;
    int warps = kMergeWarps;  // as many as keep to a block a multiprocessor; they settle the order of sums
    while (a.stretch == 0 && warps > 1 && rows * warps > kMergeWarps * int64_t{multiprocessors(step.device)}) {
        warps /= 2;
    }
    launch(mergeKernel<Element>, "merge kernel", startOf(a), ceilDiv(rows * warps, int64_t{kMergeWarps}),
           kMergeWarps * 32, 0, step.stream, a, warps);
}

}  // namespace flashring

#endif
