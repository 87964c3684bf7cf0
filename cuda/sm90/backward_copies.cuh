// What a block of the Hopper backward kernel works on, its shared memory, and the warps that fill it.
#ifndef FLASHRING_CUDA_SM90_BACKWARD_COPIES_CUH
#define FLASHRING_CUDA_SM90_BACKWARD_COPIES_CUH

#include <math.h>

#include "common/ptx.cuh"
#include "common/shaping.cuh"
#include "sm90/arguments.h"
#include "sm90/ptx.cuh"
#include "sm90/tiles.h"

namespace flashring {

template <int kIndex, Shaping kShapes = Shaping::None>
struct HopperBackwardConfig {
    static constexpr Shaping kShaping = kShapes;
    static constexpr HeadDims kDims = kHeadDims[kIndex];
    static constexpr HopperBackwardTile kTile = hopperBackwardTile(kDims);
};

// What is unusual about a tile of queries, as bits.
enum TileKind { kBordered = 1, kCareful = 2 };

// Scores start from -lse / scale, whose rounding is as large as lse: to this size less than half a bit of the weights
// in float16.
constexpr float kMostPlainLse = 128;

// Steeper slopes than this times a distance within a tile would round weights in float16 by half a bit.
constexpr float kMostPlainSlope = 16;

// What the consumers know of each query of a tile.
template <int kQueries, int kRowWarps, Shaping kShaping>
struct alignas(16) HopperQueryRows {
    static_assert(kRowWarps == 1 || kRowWarps == 2, "kind() reads two");
    float score[kQueries], dp[kQueries];  // what the products start from: -lse / scale, or 0 in a careful part; -delta
    float lse[kQueries];                  // what a careful tile has yet to subtract: 0 in its other parts; under a
                                          // softcap that of every tile, times log2(e)
    int lo[kQueries], hi[kQueries];
    alignas(8) int kinds[kRowWarps];  // TileKind of what each warp writes

    __device__ __forceinline__ int kind() const { return kinds[0] | kinds[kRowWarps - 1]; }
};

// Under ALiBi scores start from -(lse + slope * distance) / scale, of a distance to the block's first key, which all of
// them have ahead.
template <int kQueries, int kRowWarps>
struct HopperQueryRows<kQueries, kRowWarps, Shaping::Alibi> : HopperQueryRows<kQueries, kRowWarps, Shaping::None> {
    float distance[kQueries];  // what a careful tile has yet to subtract: 0 in its other parts
    float slope, stride;       // of the head; from the position of a key to that of the next
};

// Nothing at a distance weighs anything at this slope, nor at a steeper one; times any distance it is finite.
constexpr float kLargestSlope = 1e15f;

// In place of lse where it is -inf: all weights are 0, and what is compared with it stays finite.
constexpr float kNothingSeen = 1e30f;

// What a block works on: the tiles of queries [firstTile, lastTile) of each of the heads [firstHead, lastHead).
struct BackwardWork {
    int firstKey, keyHead, batch;
    int firstQuery, lastQuery;  // the queries that see any of the keys
    int firstTile, lastTile, firstHead, lastHead;

    __device__ BackwardWork(const KeyTileOrder& order, const flashring_step& step, int block, int keys, int queries) {
        const int early = order.early * order.heads, late = order.tiles - order.early, rest = block - early;
        const int head = block < early ? block / order.early : rest / late;
        const OrderedKeyTile found = order.sorted[block < early ? block % order.early : order.early + rest % late];
        const int keyHeads = static_cast<int>(step.kv_heads),
                  heads = static_cast<int>(step.q_heads) / keyHeads / order.parts;
        firstKey = found.tile * keys;
        keyHead = head / order.parts % keyHeads;
        batch = head / order.parts / keyHeads;
        firstQuery = found.firstQuery;
        lastQuery = found.lastQuery;
        firstTile = firstQuery / queries;
        lastTile = ceilDiv(lastQuery, queries);
        firstHead = (keyHead * order.parts + head % order.parts) * heads;
        lastHead = firstQuery < lastQuery ? firstHead + heads : firstHead;
    }
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
    static constexpr HeadDims kDims = Config::kDims;
    static constexpr Shaping kShaping = Config::kShaping;
    static constexpr int kKeyBytes = panels(Config::kDims.key) * panelBytes(kTile.keys());
    static constexpr int kValueBytes = panels(Config::kDims.value) * panelBytes(kTile.keys());
    static constexpr int kQueryBytes = panels(Config::kDims.key) * panelBytes(kTile.queries);
    static constexpr int kDoutBytes = panels(Config::kDims.value) * panelBytes(kTile.queries);
    static constexpr int kWarps = kTile.consumers * 4;

    char keys[kKeyBytes], values[kValueBytes];
    char queries[kTile.stages][kQueryBytes], douts[kTile.stages][kDoutBytes];
    char gradients[kTile.gradientStages()][panels(kTile.queries) * panelBytes(kTile.keys())];  // dS^T
    char dq[kWarps][16 * kTile.dqColumns(Config::kDims) * 4];  // of each warp: 16 queries
    HopperQueryRows<kTile.queries, kTile.rowWarps, kShaping> rows[kTile.stages];
    alignas(BackwardWork) char workMemory[sizeof(BackwardWork)];
    uint64_t keysFull, valuesFull;
    uint64_t queriesFull[kTile.stages], queriesEmpty[kTile.stages];  // rows included
    uint64_t doutsFull[kTile.stages], doutsEmpty[kTile.stages];
    uint64_t gradientsFull[kTile.gradientStages()];

    // dV leaves by way of the memory of queries and what follows them, dK by that of keys and values.
    static_assert(kTile.keys() * panels(Config::kDims.value) * 64 * 4 <=
                  kTile.stages * (kQueryBytes + kDoutBytes) + static_cast<int>(sizeof gradients));
    static_assert(kTile.keys() * panels(Config::kDims.key) * 64 * 4 <= kKeyBytes + kValueBytes);

    __device__ BackwardWork& work() { return *reinterpret_cast<BackwardWork*>(workMemory); }

    __device__ void initBarriers() {
        initBarrier(sharedAddress(&keysFull), 1);
        initBarrier(sharedAddress(&valuesFull), 1);
        for (int i = 0; i < kTile.stages; ++i) {
            initBarrier(sharedAddress(queriesFull + i), 1 + kTile.rowWarps);  // the copy, and the warps that write rows
            initBarrier(sharedAddress(queriesEmpty + i), kWarps);
            initBarrier(sharedAddress(doutsFull + i), 1);
            initBarrier(sharedAddress(doutsEmpty + i), kWarps);
        }
        for (const uint64_t& full : gradientsFull) {
            initBarrier(sharedAddress(&full), kWarps);
        }
        publishBarriers();
    }
};

// Fills a tile of `rows` rows; its bytes arrive at `full`.
__device__ inline void copyTile(char* tile, const CUtensorMap& map, int dim, int rows, int first, int head, int batch,
                                uint64_t& full) {
    arriveExpecting(sharedAddress(&full), panels(dim) * panelBytes(rows));
    for (int panel = 0; panel < panels(dim); ++panel) {
        copyBox(sharedAddress(tile) + panel * panelBytes(rows), map, panel * kPanelColumns, first, head, batch,
                sharedAddress(&full));
    }
}

// The block's keys and values, which do not wait for the rest of it.
template <class Config>
__device__ void copyKeys(HopperBackwardShared<Config>& shared, const HopperBackwardArguments& h,
                         const BackwardWork& work) {
    constexpr HopperBackwardTile kTile = Config::kTile;
    copyTile(shared.keys, h.k, Config::kDims.key, kTile.keys(), work.firstKey, work.keyHead, work.batch,
             shared.keysFull);
    copyTile(shared.values, h.v, Config::kDims.value, kTile.keys(), work.firstKey, work.keyHead, work.batch,
             shared.valuesFull);
}

// Lane 0 of warp 0 of the producer.
template <class Shared>
__device__ void copyQueries(Shared& shared, const HopperBackwardArguments& h) {
    constexpr auto kTile = Shared::kTile;
    constexpr HeadDims kDims = Shared::kDims;
    const BackwardWork& work = shared.work();
    RingIndex<kTile.stages> index;
    for (BackwardPlace place(work); place.exists(work); place.advance(work)) {
        const int stage = index.stage, query = place.tile * kTile.queries;
        wait(sharedAddress(&shared.queriesEmpty[stage]), index.parity ^ 1);
        copyTile(shared.queries[stage], h.q, kDims.key, kTile.queries, query, place.head, work.batch,
                 shared.queriesFull[stage]);
        wait(sharedAddress(&shared.doutsEmpty[stage]), index.parity ^ 1);
        copyTile(shared.douts[stage], h.dout, kDims.value, kTile.queries, query, place.head, work.batch,
                 shared.doutsFull[stage]);
        index.advance();
    }
}

// Warp `part` of those that fetch rows. What is careful is decided for its own part of the tile: nobody waits for
// another.
template <class Shared>
__device__ void copyRows(Shared& shared, const HopperBackwardArguments& h, int part) {
    constexpr bool kCapped = Shared::kShaping == Shaping::Softcap, kSloped = Shared::kShaping == Shaping::Alibi;
    constexpr int kQueries = Shared::kTile.queries, kOwn = kQueries / 32 / Shared::kTile.rowWarps;
    static_assert(kOwn * 32 * Shared::kTile.rowWarps == kQueries, "rows that no lane fetches");
    const Arguments& a = h.a;
    const int lane = threadIdx.x % 32, first = part * kOwn * 32 + lane;
    const BackwardWork& work = shared.work();
    RingIndex<Shared::kTile.stages> index;
    for (BackwardPlace place(work); place.exists(work); place.advance(work)) {
        float lse[kOwn], delta[kOwn];
        int lo[kOwn], hi[kOwn];
        float distance[kOwn] = {}, slope = 0;
        bool bordered = false, careful = !kCapped && h.careful;
        if constexpr (kSloped) {
            slope = min(slopeOf(a.step, place.head), kLargestSlope);
            careful |= slope > kMostPlainSlope;
        }
#pragma unroll
        for (int n = 0; n < kOwn; ++n) {
            const int i = place.tile * kQueries + first + n * 32;
            const bool sees = i >= work.firstQuery && i < work.lastQuery;
            lse[n] = sees ? *row<const float>(a.step.lse, work.batch, i, place.head) : -INFINITY;
            delta[n] = sees ? *row<const float>(a.step.delta, work.batch, i, place.head) : 0;
            lo[n] = sees ? a.lo[i] - work.firstKey : 0;
            hi[n] = sees ? a.hi[i] - work.firstKey : 0;
            if constexpr (kSloped) {
                distance[n] = sees ? static_cast<float>(a.queryPositions[i] - a.keyPositions[work.firstKey]) : 0;
            }
        }
#pragma unroll
        for (int n = 0; n < kOwn; ++n) {
            bordered |= lo[n] > 0 || hi[n] < Shared::kTile.keys();
            careful |= !kCapped && lse[n] != -INFINITY && fabsf(lse[n]) > kMostPlainLse;
        }
        bordered = __any_sync(~0u, bordered);
        careful = __any_sync(~0u, careful);
        wait(sharedAddress(&shared.queriesEmpty[index.stage]), index.parity ^ 1);
        auto& rows = shared.rows[index.stage];
#pragma unroll
        for (int n = 0; n < kOwn; ++n) {
            const bool nothing = lse[n] == -INFINITY;
            const int own = first + n * 32;
            const float start = kSloped ? fmaf(slope, distance[n], lse[n]) : lse[n];
            rows.score[own] = careful ? 0 : nothing ? -kNothingSeen : start * h.scoresStart;
            rows.dp[own] = -delta[n];
            rows.lse[own] = kCapped    ? (nothing ? kNothingSeen : lse[n] * static_cast<float>(M_LOG2E))
                            : !careful ? 0
                            : nothing  ? kNothingSeen
                                       : lse[n];
            if constexpr (kSloped) {
                rows.distance[own] = careful ? distance[n] : 0;
            }
            rows.lo[own] = lo[n];
            rows.hi[own] = hi[n];
        }
        if (lane == 0) {
            rows.kinds[part] = (bordered ? kBordered : 0) | (careful ? kCareful : 0);
            if constexpr (kSloped) {
                rows.slope = slope;
                rows.stride = a.step.kv_len > 1 ? static_cast<float>(a.keyPositions[1] - a.keyPositions[0]) : 0;
            }
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
