// What the intervals kernel finds out for tiles of queries and of keys: their order, their spans, and who sees them.
#ifndef FLASHRING_CUDA_COMMON_TILING_CUH
#define FLASHRING_CUDA_COMMON_TILING_CUH

#include "common/attention.h"
#include "common/gap.cuh"
#include "common/sight.cuh"

namespace flashring {

constexpr int kMaxTilingThreads = 256;  // of a block, and so queries of a tile

// A few rounds of tiles over the multiprocessors: enough to even out, and few enough for their keys to stay in the L2
// cache.
constexpr int kStretch = 512;

// The block's part of tiling.order: tiles [begin, end) of all, by the keys between the first and the last that they
// see.
__device__ inline void sortTiles(const Sight& sight, const Tiling& tiling, int begin, int end, int tiles) {
    __shared__ unsigned lengths[kStretch];  // in blocks of keys, then the tile, so that all differ
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    constexpr int64_t kLongest = UINT32_MAX / kStretch;
    for (int i = thread; i < end - begin; i += threads) {
        const int64_t first = firstQuery(begin + i, tiles, tiling.queries, sight.step.q_len);
        const int64_t last = min(first + tiling.queries, sight.step.q_len) - 1;
        const int64_t blocks =
            max(int64_t{0}, sight(last).last - sight(max(first, int64_t{0})).first + tiling.keys - 1) / tiling.keys;
        lengths[i] = static_cast<unsigned>(min(blocks, kLongest)) * kStretch + static_cast<unsigned>(i);
    }
    __syncthreads();
    for (int i = thread; i < end - begin; i += threads) {
        int before = tiles - end;
        for (int j = 0; j < end - begin; ++j) {
            before += lengths[j] > lengths[i];
        }
        tiling.order[before] = begin + i;
    }
}

// The span of a tile, one thread a query that sees [lo, hi); the last of them has number count - 1.
__device__ inline void writeSpan(const Tiling& tiling, int tile, int count, int lo, int hi) {
    __shared__ int first[kMaxTilingThreads];
    __shared__ WidestGap widest;
    const int thread = static_cast<int>(threadIdx.x);
    first[thread] = lo;
    if (thread == 0) {
        widest = 0;
    }
    __syncthreads();
    if (thread + 1 < count) {
        offerGap(widest, hi, first[thread + 1], tiling.keys);
    }
    __syncthreads();
    if (thread == count - 1) {
        const Gap gap = gapOf(widest, hi);
        tiling.spans[tile] = {first[0], gap.begin, gap.end, hi};
        if (tile == 0) {
            *tiling.next = 0;
        }
    }
}

// Query i, which sees `seen`, writes where it is the first to see a tile of keys, and where it is the first to see
// nothing more of one. The last query also writes for tiles that nobody sees, or whose end nobody sees.
__device__ inline void writeSeenBy(const Sight& sight, const Tiling& tiling, int64_t i, const Interval& seen) {
    const int64_t length = sight.step.q_len, tiles = ceilDiv(sight.step.kv_len, tiling.keys);
    const Interval before = i > 0 ? sight(i - 1) : Interval{0, 0};
    int64_t begun = ceilDiv(before.last, tiling.keys), ended = before.first / tiling.keys;
    for (; begun * tiling.keys < seen.last; ++begun) {
        tiling.seenBy[begun].first = static_cast<int>(i);
    }
    for (; (ended + 1) * tiling.keys <= seen.first; ++ended) {
        tiling.seenBy[ended].last = static_cast<int>(i);
    }
    for (; i + 1 == length && begun < tiles; ++begun) {
        tiling.seenBy[begun].first = static_cast<int>(length);
    }
    for (; i + 1 == length && ended < tiles; ++ended) {
        tiling.seenBy[ended].last = static_cast<int>(length);
    }
}

}  // namespace flashring

#endif
