// What runs beside the Hopper backward kernel: zeros for the dQ that it gathers and the order of its blocks before it,
// and after it the caller's dq. Both are bound by memory.
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

// Blocks that clear wait for nothing: this kernel starts when whatever came before prepare()'s has ended. What they
// write last is what the backward kernel adds to first, most of it still in the L2 cache.
__global__ void __launch_bounds__(kThreads)
    beginKernel(uint4* words, int64_t count, const QuerySpan* spans, OrderedKeyTile* sorted, int tiles, int stretches) {
    letNextKernelStart();
    const int block = static_cast<int>(blockIdx.x);
    if (block < stretches) {
        waitForEarlierKernel();
        return sortStretch(spans, sorted, block * kStretch, min(kStretch, tiles - block * kStretch));
    }
    const int64_t first = int64_t{static_cast<int>(gridDim.x) - 1 - block} * kWordsPerBlock + threadIdx.x;
#pragma unroll
    for (int n = 0; n < kWordsPerBlock / kThreads; ++n) {
        if (first + n * kThreads < count) {
            words[first + n * kThreads] = {};
        }
    }
}

constexpr int kFinishWarps = HopperBackwardTile::queries / 16;

// One block for a tile of queries of a head, what was gathered last first: that is still in the L2 cache. A warp reads
// its 16 queries as they lie, and writes them row by row by way of shared memory.
template <int kDims, bool kAdd>
__global__ void __launch_bounds__(kFinishWarps * 32)
    finishKernel(const __grid_constant__ GatheredDq from, const __grid_constant__ flashring_tensor dq, int length,
                 int heads, int dim, float scale) {
    constexpr int kStride = kDims + 8;  // four rows of a pair each, at once, are in banks of their own
    constexpr int kWords = kDims / 4, kParts = 16 * kWords / 32;
    __shared__ __align__(16) float staging[kFinishWarps][16 * kStride];
    letNextKernelStart();
    waitForEarlierKernel();
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int tiles = from.blocks / kFinishWarps, place = static_cast<int>(gridDim.x - 1 - blockIdx.x),
              head = place / tiles;
    const int block = place % tiles * kFinishWarps + warp, rows = length - block * 16;
    float* const own = staging[warp];
    float4 parts[kParts];
    const float4* const source = reinterpret_cast<const float4*>(from.at(head, block, 0)) + lane;
#pragma unroll
    for (int n = 0; n < kParts; ++n) {
        parts[n] = __ldcs(source + n * 32);
    }
#pragma unroll
    for (int n = 0; n < kParts; ++n) {
        float* const pair = own + lane / 4 * kStride + n * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(pair) = {parts[n].x, parts[n].y};
        *reinterpret_cast<float2*>(pair + 8 * kStride) = {parts[n].z, parts[n].w};
    }
    __syncwarp();
    float* const target = row<float>(dq, head / heads, block * 16, head % heads);
    const auto forWords = [&](auto body) {
#pragma unroll
        for (int n = 0; n < kParts; ++n) {
            const int query = (n * 32 + lane) / kWords, column = (n * 32 + lane) % kWords * 4;
            if (query < rows && column < dim) {
                body(n, reinterpret_cast<float4*>(target + query * dq.stride_seq + column), query * kStride + column);
            }
        }
    };
    if constexpr (kAdd) {
        forWords([&](int n, const float4* word, int) { parts[n] = __ldcs(word); });
    }
    forWords([&](int n, float4* word, int at) {
        const float4 value = *reinterpret_cast<const float4*>(own + at), before = kAdd ? parts[n] : float4{};
        __stcs(word, {fmaf(value.x, scale, before.x), fmaf(value.y, scale, before.y), fmaf(value.z, scale, before.z),
                      fmaf(value.w, scale, before.w)});
    });
}

}  // namespace

void beginGathering(const GatheredDq& dq, int64_t heads, const QuerySpan* spans, OrderedKeyTile* sorted, int tiles,
                    void* stream) {
    const int64_t words = heads * dq.blocks * 16 * dq.dims / 4, stretches = ceilDiv(tiles, kStretch);
    launch(beginKernel, "Hopper backward's first kernel", Start::Early, stretches + ceilDiv(words, kWordsPerBlock),
           kThreads, 0, stream, reinterpret_cast<uint4*>(dq.data), words, spans, sorted, tiles,
           static_cast<int>(stretches));
}

void finishGathering(const GatheredDq& from, const flashring_step& step) {
    withHeadDims(step, [&](auto index) {
        if constexpr (!hopperBackwardIsWide(kHeadDims[decltype(index)::value])) {
            constexpr int kDims = kHeadDims[decltype(index)::value].key;
            launch(step.flags & FLASHRING_ADD_DQ ? finishKernel<kDims, true> : finishKernel<kDims, false>,
                   "Hopper backward's last kernel", Start::Early,
                   step.batch * step.q_heads * from.blocks / kFinishWarps, kFinishWarps * 32, 0, step.stream, from,
                   step.dq, static_cast<int>(step.q_len), static_cast<int>(step.q_heads),
                   static_cast<int>(step.head_dim), static_cast<float>(step.softmax_scale));
        }
    });
}

}  // namespace flashring
