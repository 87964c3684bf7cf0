// What a block of the Hopper backward kernel works on, its shared memory, and the warps that fill it.
#ifndef FLASHRING_CUDA_HOPPER_BACKWARD_COPIES_CUH
#define FLASHRING_CUDA_HOPPER_BACKWARD_COPIES_CUH

#include <math.h>

#include "hopper.h"
#include "hopper_ptx.cuh"
#include "hopper_tiles.h"
#include "mma.cuh"

namespace flashring {

template <int kIndex>
struct HopperBackwardConfig {
    static constexpr HeadDims kDims = kHeadDims[kIndex];
    static constexpr HopperBackwardTile kTile = hopperBackwardTile(kDims);
};

// What the consumers know of each query of a tile.
template <int kQueries>
struct HopperQueryRows {
    float shift[kQueries], delta[kQueries];  // lse in units of log2; inf where the query sees nothing
    int lo[kQueries], hi[kQueries];
};

// What a block works on: the tiles of queries [firstTile, lastTile) of each of the heads [firstHead, lastHead).
struct BackwardWork {
    int firstKey, keyHead, batch;
    int firstQuery, lastQuery;  // the queries that see any of the keys
    int firstTile, lastTile, firstHead, lastHead;
};

// A tile of a block's work.
struct BackwardPlace {
    int head, tile;

    __device__ explicit BackwardPlace(const BackwardWork& work) : head(work.firstHead), tile(work.firstTile) {}

    __device__ bool exists(const BackwardWork& work) const { return head < work.lastHead; }

    __device__ void advance(const BackwardWork& work) {
        if (++tile == work.lastTile) {
            tile = work.firstTile;
            ++head;
        }
    }
};

// Shared memory of a block. Starts on 1,024 bytes.
template <class Config>
struct HopperBackwardShared {
    static constexpr HopperBackwardTile kTile = Config::kTile;
    static constexpr int kKeyBytes = panels(Config::kDims.key) * panelBytes(kTile.keys);
    static constexpr int kValueBytes = panels(Config::kDims.value) * panelBytes(kTile.keys);
    static constexpr int kQueryBytes = panels(Config::kDims.key) * panelBytes(kTile.queries);
    static constexpr int kDoutBytes = panels(Config::kDims.value) * panelBytes(kTile.queries);
    static constexpr int kWarps = kTile.consumers * 4;

    char keys[kKeyBytes], values[kValueBytes];
    char queries[kTile.stages][kQueryBytes], douts[kTile.stages][kDoutBytes];
    char gradients[2][panels(kTile.queries) * panelBytes(kTile.keys)];  // dS^T
    char dq[kWarps][2][16 * 128];                                       // of each warp: 16 queries, 2 boxes of 32 columns
    HopperQueryRows<kTile.queries> rows[kTile.stages];
    BackwardWork work;
    uint64_t keysFull, valuesFull;
    uint64_t queriesFull[kTile.stages], queriesEmpty[kTile.stages];  // rows included
    uint64_t doutsFull[kTile.stages], doutsEmpty[kTile.stages];
    uint64_t gradientsFull[2];

    __device__ void initBarriers() {
        initBarrier(sharedAddress(&keysFull), 1);
        initBarrier(sharedAddress(&valuesFull), 1);
        for (int i = 0; i < kTile.stages; ++i) {
            initBarrier(sharedAddress(queriesFull + i), 2);  // the copy, and the warp that writes rows
            initBarrier(sharedAddress(queriesEmpty + i), kWarps);
            initBarrier(sharedAddress(doutsFull + i), 1);
            initBarrier(sharedAddress(doutsEmpty + i), kWarps);
        }
        initBarrier(sharedAddress(gradientsFull), kWarps);
        initBarrier(sharedAddress(gradientsFull + 1), kWarps);
        publishBarriers();
    }
};


// Lane 0 of warp 0 of the producer.
template <class Config>
__device__ void copyBackwardTiles(HopperBackwardShared<Config>& shared, const HopperBackwardArguments& h) {
    using Shared = HopperBackwardShared<Config>;
    constexpr HopperBackwardTile kTile = Config::kTile;
    const auto copy = [](char* tile, const CUtensorMap& map, int dim, int rows, int first, int head, int batch, uint64_t& full) {
        arriveExpecting(sharedAddress(&full), panels(dim) * panelBytes(rows));
        for (int panel = 0; panel < panels(dim); ++panel) {
            copyBox(sharedAddress(tile) + panel * panelBytes(rows), map, panel * kPanelColumns, first, head, batch, sharedAddress(&full));
        }
    };
    const BackwardWork& work = shared.work;
    copy(shared.keys, h.k, Config::kDims.key, kTile.keys, work.firstKey, work.keyHead, work.batch, shared.keysFull);
    RingIndex<kTile.stages> index;
    BackwardPlace place(work);
    for (bool first = true; place.exists(work); place.advance(work), first = false) {
        const int stage = index.stage, query = place.tile * kTile.queries;
        wait(sharedAddress(&shared.queriesEmpty[stage]), index.parity ^ 1);
        copy(shared.queries[stage], h.q, Config::kDims.key, kTile.queries, query, place.head, work.batch, shared.queriesFull[stage]);
        if (first) {
            copy(shared.values, h.v, Config::kDims.value, kTile.keys, work.firstKey, work.keyHead, work.batch, shared.valuesFull);
        }
        wait(sharedAddress(&shared.doutsEmpty[stage]), index.parity ^ 1);
        copy(shared.douts[stage], h.dout, Config::kDims.value, kTile.queries, query, place.head, work.batch, shared.doutsFull[stage]);
        index.advance();
    }
}

// Warp 1 of the producer.
template <class Config>
__device__ void copyRows(HopperBackwardShared<Config>& shared, const Arguments& a) {
    constexpr int kQueries = Config::kTile.queries, kOwn = kQueries / 32;
    const int lane = threadIdx.x % 32;
    const BackwardWork& work = shared.work;
    RingIndex<Config::kTile.stages> index;
    for (BackwardPlace place(work); place.exists(work); place.advance(work)) {
        float lse[kOwn], delta[kOwn];
        int lo[kOwn], hi[kOwn];
#pragma unroll
        for (int n = 0; n < kOwn; ++n) {
            const int i = place.tile * kQueries + n * 32 + lane;
            const bool sees = i >= work.firstQuery && i < work.lastQuery;
            lse[n] = sees ? *row<const float>(a.step.lse, work.batch, i, place.head) : -INFINITY;
            delta[n] = sees ? *row<const float>(a.step.delta, work.batch, i, place.head) : 0;
            lo[n] = sees ? a.lo[i] - work.firstKey : 0;
            hi[n] = sees ? a.hi[i] - work.firstKey : 0;
        }
        wait(sharedAddress(&shared.queriesEmpty[index.stage]), index.parity ^ 1);
        auto& rows = shared.rows[index.stage];
#pragma unroll
        for (int n = 0; n < kOwn; ++n) {
            rows.shift[n * 32 + lane] = lse[n] == -INFINITY ? INFINITY : lse[n] * static_cast<float>(M_LOG2E);
            rows.delta[n * 32 + lane] = delta[n];
            rows.lo[n * 32 + lane] = lo[n];
            rows.hi[n * 32 + lane] = hi[n];
        }
        __syncwarp();
        if (lane == 0) {
            arrive(sharedAddress(&shared.queriesFull[index.stage]));
        }
        index.advance();
    }
}

}  // namespace flashring

#endif
