// What runs beside the Hopper backward kernel: zeros for the dQ that it gathers and the order of its blocks before it, and after it
// the caller's dq. Both are bound by memory.
#include "common/early_start.cuh"
#include "sm90/arguments.h"
#include "sm90/tiles.h"

namespace flashring {
namespace {

constexpr int kThreads = 256;
constexpr int kStretch = 512;         // tiles of keys that are sorted together
constexpr int kWordsPerBlock = 4096;  // of 16 bytes

// The block's stretch of `sorted`: its tiles of keys by the tiles of queries that see them, the most first.
__device__ void sortStretch(const QuerySpan* spans, OrderedKeyTile* sorted, int first, int count) {
    __shared__ unsigned long long lengths[kStretch];  // then the tile, so that all differ
    constexpr int kQueries = HopperBackwardTile::queries;
    const int thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < count; i += kThreads) {
        const QuerySpan span = spans[first + i];
        const int tiles = span.first < span.last ? ceilDiv(span.last, kQueries) - span.first / kQueries : 0;
        lengths[i] = static_cast<unsigned long long>(tiles) << 32 | static_cast<unsigned>(kStretch - i);
    }
    __syncthreads();
    for (int i = thread; i < count; i += kThreads) {
        int before = 0;
        for (int j = 0; j < count; ++j) {
            before += lengths[j] > lengths[i];
        }
        const QuerySpan span = spans[first + i];
        sorted[first + before] = {first + i, span.first, span.last, 0};
    }
}

__global__ void __launch_bounds__(kThreads) beginKernel(uint4* words, int64_t count, const QuerySpan* spans, OrderedKeyTile* sorted, int tiles,
                                                        int stretches) {
    letNextKernelStart();
    waitForEarlierKernel();
    const int block = static_cast<int>(blockIdx.x);
    if (block < stretches) {
        return sortStretch(spans, sorted, block * kStretch, min(kStretch, tiles - block * kStretch));
    }
    const int64_t first = int64_t{block - stretches} * kWordsPerBlock + threadIdx.x;
#pragma unroll
    for (int n = 0; n < kWordsPerBlock / kThreads; ++n) {
        if (first + n * kThreads < count) {
            words[first + n * kThreads] = {};
        }
    }
}

// One block for a tile of queries of a head; a thread turns 4 columns of two queries at a time.
template <int kDims, bool kAdd>
__global__ void __launch_bounds__(kThreads) finishKernel(const __grid_constant__ GatheredDq from, const __grid_constant__ flashring_tensor dq,
                                                         int length, int heads, int dim, float scale) {
    letNextKernelStart();
    waitForEarlierKernel();
    constexpr int kQueries = HopperBackwardTile::queries, kParts = kQueries / 2 * kDims / 4;
    static_assert(kParts % kThreads == 0);
    const int tiles = from.blocks * 16 / kQueries, tile = static_cast<int>(blockIdx.x) % tiles, head = static_cast<int>(blockIdx.x) / tiles;
    const auto add = [&](float* target, float4 value) {
        const float4 before = kAdd ? *reinterpret_cast<const float4*>(target) : float4{};
        *reinterpret_cast<float4*>(target) = {fmaf(value.x, scale, before.x), fmaf(value.y, scale, before.y), fmaf(value.z, scale, before.z),
                                              fmaf(value.w, scale, before.w)};
    };
    float4 pairs[kParts / kThreads][2];
#pragma unroll
    for (int n = 0; n < kParts / kThreads; ++n) {
        const int part = n * kThreads + static_cast<int>(threadIdx.x), column = part % (kDims / 4) * 4, pair = part / (kDims / 4);
        const float* const source = from.element(head, tile * kQueries + pair / 8 * 16 + pair % 8, column);
        pairs[n][0] = __ldcs(reinterpret_cast<const float4*>(source));
        pairs[n][1] = __ldcs(reinterpret_cast<const float4*>(source) + 1);
    }
#pragma unroll
    for (int n = 0; n < kParts / kThreads; ++n) {
        const int part = n * kThreads + static_cast<int>(threadIdx.x), column = part % (kDims / 4) * 4, pair = part / (kDims / 4);
        const int query = tile * kQueries + pair / 8 * 16 + pair % 8;
        float* const target = row<float>(dq, head / heads, query, head % heads) + column;
        const float4 first = pairs[n][0], second = pairs[n][1];
        if (column < dim && query < length) {
            add(target, {first.x, first.y, second.x, second.y});
        }
        if (column < dim && query + 8 < length) {
            add(target + 8 * dq.stride_seq, {first.z, first.w, second.z, second.w});
        }
    }
}

}  // namespace

void beginGathering(const GatheredDq& dq, int64_t heads, const QuerySpan* spans, OrderedKeyTile* sorted, int tiles, void* stream) {
    const int64_t words = heads * dq.blocks * 16 * dq.dims / 4, stretches = ceilDiv(tiles, kStretch);
    launch(beginKernel, "Hopper backward's first kernel", Start::Early, stretches + ceilDiv(words, kWordsPerBlock), kThreads, 0, stream,
           reinterpret_cast<uint4*>(dq.data), words, spans, sorted, tiles, static_cast<int>(stretches));
}

void finishGathering(const GatheredDq& from, const flashring_step& step) {
    withHeadDims(step, [&](auto index) {
        if constexpr (kHeadDims[decltype(index)::value].key <= kMostHopperGatheringDim) {
            constexpr int kDims = kHeadDims[decltype(index)::value].key;
            launch(step.flags & FLASHRING_ADD_DQ ? finishKernel<kDims, true> : finishKernel<kDims, false>, "Hopper backward's last kernel", Start::Early,
                   step.batch * step.q_heads * from.blocks * 16 / HopperBackwardTile::queries, kThreads, 0, step.stream, from, step.dq,
                   static_cast<int>(step.q_len), static_cast<int>(step.q_heads), static_cast<int>(step.head_dim),
                   static_cast<float>(step.softmax_scale));
        }
    });
}

}  // namespace flashring
