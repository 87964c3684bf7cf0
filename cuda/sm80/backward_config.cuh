// What one block of the backward kernel does, and the shared memory that it has for it.
#ifndef FLASHRING_CUDA_SM80_BACKWARD_CONFIG_CUH
#define FLASHRING_CUDA_SM80_BACKWARD_CONFIG_CUH

#include "sm80/shape.cuh"
#include "sm80/shared_tile.cuh"
#include "sm80/tiles.h"

namespace flashring {

// What the block needs to know of each query of a tile.
template <int kQueries>
struct QueryRows {
    int lo[kQueries], hi[kQueries];
    float lse[kQueries], delta[kQueries];
};

template <int kIndex, SharedMemory kMemory>
struct BackwardConfig {
    static constexpr HeadDims kDims = kHeadDims[kIndex];
    static constexpr BackwardTile kTile = backwardTile(kDims, kMemory);
    static constexpr int kThreads = kTile.warps * 32;

    // The part of each product that one warp computes.
    static constexpr int kScoreKeyWarps = kTile.warps / kTile.scoreQueryWarps;
    static constexpr int kScoreQueries = kTile.queries / kTile.scoreQueryWarps;
    static constexpr int kScoreKeys = kTile.keys / kScoreKeyWarps < 16 ? 16 : kTile.keys / kScoreKeyWarps;
    // else the last warps are left without scores
    static constexpr bool kAllScore = kScoreKeys * kScoreKeyWarps == kTile.keys;
    // more would not fit into registers beside dK and dV
    static constexpr int kStrip = kScoreKeys < 32 ? kScoreKeys : 32;
    static constexpr int kDimWarps = kTile.warps / kTile.gradientKeyWarps;
    static constexpr int kGradientKeys = kTile.keys / kTile.gradientKeyWarps;
    static constexpr int kKeyDims = kDims.key / kDimWarps, kValueDims = kDims.value / kDimWarps;
    static constexpr int kDqDimWarps = kTile.warps / kTile.dqQueryWarps;
    static constexpr int kDqQueries = kTile.queries / kTile.dqQueryWarps, kDqDims = kDims.key / kDqDimWarps;

    using Keys = SharedTile<kTile.keys, kDims.key>;
    using Values = SharedTile<kTile.keys, kDims.value>;
    using Queries = SharedTile<kTile.queries, kDims.key>;
    using Douts = SharedTile<kTile.queries, kDims.value>;
    using Scores = SharedTile<kTile.queries, kTile.keys>;
    using Rows = QueryRows<kTile.queries>;
    static constexpr int kStageBytes = Queries::kBytes + static_cast<int>(sizeof(Rows));
    static constexpr int kSharedBytes = Keys::kBytes + Values::kBytes + kTile.queryStages * kStageBytes +
                                        kTile.doutStages * Douts::kBytes + 2 * Scores::kBytes;
    static_assert(kSharedBytes + kStaticSharedBytes <= static_cast<int>(kMemory), "what a block gets");
    static_assert(kScoreQueries % 16 == 0 && kScoreKeys % kStrip == 0 && kStrip % 16 == 0 &&
                      kTile.keys % kScoreKeys == 0 && kGradientKeys % 16 == 0 && kKeyDims % 16 == 0 &&
                      kValueDims % 16 == 0 && kDqQueries % 16 == 0 && kDqDims % 16 == 0 && kTile.queries % 16 == 0 &&
                      kTile.keys % 16 == 0,
                  "whole fragments, in pairs");
};

}  // namespace flashring

#endif
