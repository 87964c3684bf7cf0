// The states that the teams of a decode step leave, and the one of earlier steps where it resumes, become the step's results: always in
// one order, so that the bits are the same on every run.
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
constexpr int kMaxMergeWidth = 128;

// What a state weighs against a reference.
__device__ inline float weightOf(Lse lse, float reference) {
    return expDifference(lse.high, reference) * exp2Fast(lse.low * static_cast<float>(M_LOG2E));
}

// The states of one row: `teams` of each part that holds a tile of its batch row, of which those have one that took a tile.
struct RowStates {
    const DecodeArguments& a;
    const DecodeCut cut;
    int batch, keyHead, row, part = 0, count = 0;

    __device__ RowStates(const DecodeArguments& arguments, int2 seen, int batchRow, int head, int r)
        : a(arguments), cut(arguments.cut(seen.x, seen.y)), batch(batchRow), keyHead(head), row(r) {
        if (cut.tiles > 0) {
            part = cut.partOf(batch * cut.row);
            count = (cut.partOf((batch + 1) * cut.row - 1) - part + 1) * a.teams;
        }
    }

    // Where state i is, or -1.
    __device__ int64_t place(int i) const {
        const int at = part + i / a.teams, team = i % a.teams, first = cut.firstOf(at) + team;
        const int begin = batch * cut.row, end = min(begin + cut.row, cut.firstOf(at + 1));
        const int skipped = first < begin ? (begin - first + a.teams - 1) / a.teams * a.teams : 0;
        return first + skipped < end ? a.state(at, batch, team, keyHead, row) : -1;
    }
};

// A block merges a.width columns of one row: as many groups of lanes as fit take a state each, four columns a lane.
template <class Element>
__global__ void __launch_bounds__(kMergeWarps * 32) mergeKernel(const __grid_constant__ DecodeArguments a) {
    __shared__ float tops[kMergeWarps], sums[kMergeWarps];
    __shared__ float4 outputs[kMergeWarps][kMaxMergeWidth / 4];
    const flashring_step& step = a.step;
    const int slices = a.pitch / a.width, slice = blockIdx.x % slices, heads = static_cast<int>(step.q_heads);
    const int token = blockIdx.x / slices / heads, head = blockIdx.x / slices % heads;
    const int batch = token / static_cast<int>(step.q_len), query = token % static_cast<int>(step.q_len);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, valueDim = static_cast<int>(step.value_dim);
    const int lanes = a.width / 4, groups = kMergeWarps * 32 / lanes, group = threadIdx.x / lanes;
    const int column = slice * a.width;
#if __CUDA_ARCH__ >= 900
    waitForEarlierKernel();
    letNextKernelStart();
#endif
    const Lse earlier = step.flags & FLASHRING_RESUME ? loadLse(step, batch, query, head) : Lse{-INFINITY, 0};
    const RowStates states(a, a.blocks > 0 ? *a.seen : int2{}, batch, head / a.group, query * a.group + head % a.group);

    float top = earlier.high;
    for (int i = threadIdx.x; i < states.count; i += kMergeWarps * 32) {
        const int64_t place = states.place(i);
        top = place < 0 ? top : fmaxf(top, a.lse[place].x);
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
    float4 out{};
#pragma unroll 4
    for (int i = group; i < states.count; i += groups) {
        const int64_t place = states.place(i);
        if (place >= 0) {
            const float2 lse = a.lse[place];
            const float4 x = *reinterpret_cast<const float4*>(a.out + place * a.pitch + column + threadIdx.x % lanes * 4);
            const float weight = weightOf({lse.x, lse.y}, reference);
            sum += weight;
            out = {fmaf(weight, x.x, out.x), fmaf(weight, x.y, out.y), fmaf(weight, x.z, out.z), fmaf(weight, x.w, out.w)};
        }
    }
    for (int distance = 16; distance >= lanes; distance /= 2) {
        sum += __shfl_xor_sync(~0u, sum, distance);
        out.x += __shfl_xor_sync(~0u, out.x, distance);
        out.y += __shfl_xor_sync(~0u, out.y, distance);
        out.z += __shfl_xor_sync(~0u, out.z, distance);
        out.w += __shfl_xor_sync(~0u, out.w, distance);
    }
    if (lane < lanes) {
        outputs[warp][lane] = out;
    }
    if (lane == 0) {
        sums[warp] = sum;
    }
    __syncthreads();
    if (static_cast<int>(threadIdx.x) * 2 >= a.width) {
        return;
    }

    float* const acc = step.acc.data ? row<float>(step.acc, batch, query, head) : nullptr;
    const int col = column + static_cast<int>(threadIdx.x) * 2;
    const bool resumes = earlier.high != -INFINITY;
    const float weight = resumes ? weightOf(earlier, reference) : 0;
    const float2 before = resumes ? loadPair(acc, col, valueDim, a.vectorOutputs) : float2{};
    float total = weight;
    float2 result{weight * before.x, weight * before.y};
#pragma unroll
    for (int w = 0; w < kMergeWarps; ++w) {
        const float2 part = reinterpret_cast<const float2*>(outputs[w])[threadIdx.x];
        total += sums[w];
        result.x += part.x;
        result.y += part.y;
    }
    const float inverse = total == 0 ? 0 : 1 / total;
    if (col == 0) {
        storeLse(step, batch, query, head, total == 0 ? Lse{-INFINITY, 0} : addLog(top, logf(total)));
    }
    if (acc) {
        storePair(acc, col, valueDim, a.vectorOutputs, result.x * inverse, result.y * inverse);
    }
    if (step.flags & FLASHRING_FINISH) {
        storePair(row<Element>(step.out, batch, query, head), col, valueDim, a.vectorOutputs, result.x * inverse, result.y * inverse);
    }
}

// Kernels that begin with a wait for the one before may start early where they were compiled to wait.
inline Start startOf(const DecodeArguments& a) { return computeCapability(a.step.device) >= 90 ? Start::Early : Start::InOrder; }

template <class Element>
void mergeStates(const DecodeArguments& a) {
    const flashring_step& step = a.step;
    launch(mergeKernel<Element>, "merge kernel", startOf(a), step.batch * step.q_len * step.q_heads * (a.pitch / a.width), kMergeWarps * 32, 0,
           step.stream, a);
}

}  // namespace flashring

#endif
