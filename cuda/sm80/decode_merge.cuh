// The states that the parts of a decode step leave, and the one of earlier steps where it resumes, become the step's results: always in
// the order of the keys, so that the bits are the same on every run.
#ifndef FLASHRING_CUDA_SM80_DECODE_MERGE_CUH
#define FLASHRING_CUDA_SM80_DECODE_MERGE_CUH

#include "common/device.h"
#include "common/early_start.cuh"
#include "common/outputs.cuh"
#include "common/scores.cuh"
#include "sm80/decode.h"
#include "sm80/row_state.cuh"

namespace flashring {

constexpr int kMergeWarps = 8;  // of a block, which merges one row: they share its states, and then its columns
constexpr int kMaxDecodeDim = 256;

// What a state weighs against a reference.
__device__ inline float weightOf(Lse lse, float reference) {
    return expDifference(lse.high, reference) * exp2Fast(lse.low * static_cast<float>(M_LOG2E));
}

template <class Element>
__global__ void __launch_bounds__(kMergeWarps * 32) mergeKernel(const __grid_constant__ DecodeArguments a) {
    __shared__ float tops[kMergeWarps], sums[kMergeWarps];
    __shared__ float4 outputs[kMergeWarps][kMaxDecodeDim / 4];
    const flashring_step& step = a.step;
    const int heads = static_cast<int>(step.q_heads), head = blockIdx.x % heads;
    const int query = blockIdx.x / heads % static_cast<int>(step.q_len), batch = blockIdx.x / heads / static_cast<int>(step.q_len);
    const int keyHead = head / a.group, r = query * a.group + head % a.group;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, valueDim = static_cast<int>(step.value_dim);
#if __CUDA_ARCH__ >= 900
    waitForEarlierKernel();
#endif
    const Lse earlier = step.flags & FLASHRING_RESUME ? loadLse(step, batch, query, head) : Lse{-INFINITY, 0};
    int64_t part = 0;
    int states = 0;
    if (a.blocks > 0) {
        const int2 seen = *a.seen;
        const DecodeCut cut = a.cut(seen.x, seen.y);
        if (cut.tiles > 0) {
            part = cut.partOf(batch * cut.row);
            states = static_cast<int>(cut.partOf((batch + 1) * cut.row - 1) - part) + 1;
        }
    }
    const auto place = [&](int i) { return a.state(part + i, batch, keyHead, r); };

    float top = earlier.high;
    for (int i = threadIdx.x; i < states; i += kMergeWarps * 32) {
        top = fmaxf(top, a.lse[place(i)].x);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        top = fmaxf(top, __shfl_xor_sync(~0u, top, distance));
    }
    if (lane == 0) {
        tops[warp] = top;
    }
    __syncthreads();
#pragma unroll
    for (int w = 0; w < kMergeWarps; ++w) {
        top = fmaxf(top, tops[w]);
    }
    const float reference = shiftOf(top);

    float sum = 0;
    float4 out[2] = {};  // columns 4 lane and 128 further
#pragma unroll 4
    for (int i = warp; i < states; i += kMergeWarps) {
        const int64_t from = place(i);
        const float2 lse = a.lse[from];
        const float weight = weightOf({lse.x, lse.y}, reference);
        sum += weight;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
            const int col = n * 128 + lane * 4;
            if (col < a.pitch) {
                const float4 x = *reinterpret_cast<const float4*>(a.out + from * a.pitch + col);
                out[n] = {fmaf(weight, x.x, out[n].x), fmaf(weight, x.y, out[n].y), fmaf(weight, x.z, out[n].z), fmaf(weight, x.w, out[n].w)};
            }
        }
    }
    outputs[warp][lane] = out[0];
    outputs[warp][lane + 32] = out[1];
    if (lane == 0) {
        sums[warp] = sum;
    }
    __syncthreads();
    const int col = static_cast<int>(threadIdx.x) * 2;
    if (col >= kMaxDecodeDim) {
        return;
    }

    float* const acc = step.acc.data ? row<float>(step.acc, batch, query, head) : nullptr;
    const float weight = weightOf(earlier, reference);
    const float2 state = earlier.high == -INFINITY ? float2{} : loadPair(acc, col, valueDim, a.vectorOutputs);
    float total = earlier.high == -INFINITY ? 0 : weight;
    float2 result{earlier.high == -INFINITY ? 0 : weight * state.x, earlier.high == -INFINITY ? 0 : weight * state.y};
#pragma unroll
    for (int w = 0; w < kMergeWarps; ++w) {
        const float* const output = reinterpret_cast<const float*>(outputs[w]);
        total += sums[w];
        result.x += output[col];
        result.y += output[col + 1];
    }
    const float inverse = total == 0 ? 0 : 1 / total;
    if (threadIdx.x == 0) {
        storeLse(step, batch, query, head, total == 0 ? Lse{-INFINITY, 0} : addLog(top, logf(total)));
    }
    if (acc) {
        storePair(acc, col, valueDim, a.vectorOutputs, result.x * inverse, result.y * inverse);
    }
    if (step.flags & FLASHRING_FINISH) {
        storePair(row<Element>(step.out, batch, query, head), col, valueDim, a.vectorOutputs, result.x * inverse, result.y * inverse);
    }
}

template <class Element>
void mergeStates(const DecodeArguments& a) {
    const flashring_step& step = a.step;
    const Start start = a.blocks > 0 && computeCapability(step.device) >= 90 ? Start::Early : Start::InOrder;
    launch(mergeKernel<Element>, "merge kernel", start, step.batch * step.q_len * step.q_heads, kMergeWarps * 32, 0, step.stream, a);
}

}  // namespace flashring

#endif
