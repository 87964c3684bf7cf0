// The producer of the forward kernel: its shared memory, and the two warps that fetch tiles and copy queries, keys and
// values.
#ifndef FLASHRING_CUDA_SM90_FORWARD_COPIES_CUH
#define FLASHRING_CUDA_SM90_FORWARD_COPIES_CUH

#include "sm90/ptx.cuh"
#include "sm90/schedule.cuh"
#include "sm90/state.cuh"
#include "sm90/tiles.h"

namespace flashring {

// Steps that resume have kernels of their own: loading the state would cost the others registers. So have those with a
// softcap or ALiBi, as a branch costs the others 2 to 4 % (docs/measurements/scores-h200.md).
template <int kIndex, bool kResume, Shaping kShapes = Shaping::None>
struct HopperConfig {
    static constexpr Shaping kShaping = kShapes;
    static constexpr HeadDims kDims = kHeadDims[kIndex];
    static constexpr HopperTile kTile = hopperTile(kDims);
    static constexpr bool kResumes = kResume, kStateInRing = kResume && hopperStateInRing(kDims);
    // The most blocks that a consumer skips after the last and before the first that it uses. While it holds the last
    // one's values, no more keys can follow than there are stages. It skips none before the first where the state comes
    // behind that one, nor where consumers take turns: having skipped blocks of the tile before, too, it would hold
    // values whose stage the other consumer needs to end its turn (tests/cpp/cuda/sm90_forward_protocol.py).
    static constexpr int kMostPassedAfter = kTile.stages / 2,
                         kMostPassedBefore = kStateInRing || kTile.turns ? 0 : kMostPassedAfter;
};

constexpr int kSlots = 2;

// Shared memory of a block. Starts on 1,024 bytes.
template <class Config>
struct HopperShared {
    static constexpr HopperTile kTile = Config::kTile;
    static constexpr int kQueryBytes = panels(Config::kDims.key) * panelBytes(64);  // of one consumer
    static constexpr int kKeyBytes = panels(Config::kDims.key) * panelBytes(kTile.keys);
    static constexpr int kValueBytes = panels(Config::kDims.value) * panelBytes(kTile.keys);

    char queries[kTile.queryStages][kTile.consumers][kQueryBytes];
    char keys[kTile.stages][kKeyBytes];
    char values[kTile.stages][kValueBytes];
    TileSlot<kTile.queries()> slots[kSlots];
    uint64_t queriesFull[kTile.queryStages][kTile.consumers], queriesEmpty[kTile.queryStages][kTile.consumers];
    uint64_t keysFull[kTile.stages], keysEmpty[kTile.stages];
    uint64_t valuesFull[kTile.stages], valuesEmpty[kTile.stages];
    uint64_t slotFull[kSlots], slotEmpty[kSlots], tileWanted;

    __device__ void initBarriers() {
        const auto init = [](uint64_t* barriers, int n, int count) {
            for (int i = 0; i < n; ++i) {
                initBarrier(sharedAddress(barriers + i), count);
            }
        };
        constexpr int kWarps = kTile.consumers * 4;  // each consumer warp says for itself that it is done with a tile
        init(queriesFull[0], kTile.queryStages * kTile.consumers, 1);
        init(queriesEmpty[0], kTile.queryStages * kTile.consumers, 4);
        init(keysFull, kTile.stages, 1);
        init(keysEmpty, kTile.stages, kWarps);
        init(valuesFull, kTile.stages, 1);
        init(valuesEmpty, kTile.stages, kWarps);
        init(slotFull, kSlots, 1);
        init(slotEmpty, kSlots, kWarps + 1);  // and warp 0 of the producer
        init(&tileWanted, 1, 1);
        publishBarriers();
    }
};

// Warp 1 of the producer: fetches each tile while an earlier one is worked on. It takes the next one from the counter
// only when warp 0 asks for it: a tile that waited here would be missing at the end, when other blocks have run out of
// work.
template <class Config>
__device__ void schedule(HopperShared<Config>& shared, const HopperArguments& h) {
    constexpr int kQueries = Config::kTile.queries();
    const bool first = threadIdx.x % 32 == 0;
    RingIndex<kSlots> slot;
    RingIndex<1> wanted;
    const auto take = [&] {
        return __shfl_sync(~0u, first ? static_cast<int>(gridDim.x) + atomicAdd(h.next, 1) : 0, 0);
    };
    for (int index = static_cast<int>(blockIdx.x);;) {
        const TileFetch<kQueries> tile(h.a, h.order, h.spans, index);
        if (Config::kResumes && tile.unchanged(h.a.step.flags)) {
            index = take();
            continue;
        }
        wait(sharedAddress(&shared.slotEmpty[slot.stage]), slot.parity ^ 1);
        tile.store(shared.slots[slot.stage], Config::kTile.keys, Config::kMostPassedBefore, Config::kMostPassedAfter);
        __syncwarp();
        if (first) {
            arrive(sharedAddress(&shared.slotFull[slot.stage]));
        }
        if (!tile.more()) {
            return;
        }
        if constexpr (Config::kResumes) {
            prefetchEarlier<kQueries>(h.a, tile.first(), tile.head(), tile.batch());
        }
        slot.advance();
        wait(sharedAddress(&shared.tileWanted), wanted.parity);
        wanted.advance();
        index = take();
    }
}

// Copies what earlier steps left of the output of 64 queries to a stage of the ring.
template <class Config>
__device__ void copyState(const HopperArguments& h, char* target, const uint64_t& full, const uint64_t& empty,
                          uint32_t parity, int query, int head, int batch) {
    wait(sharedAddress(&empty), parity ^ 1);
    arriveExpecting(sharedAddress(&full), stateBytes(Config::kDims));
    for (int box = 0; box < stateBoxes(Config::kDims); ++box) {
        copyBox(sharedAddress(target) + box * kStateBoxBytes, h.acc, box * kStateBoxColumns, query, head, batch,
                sharedAddress(&full));
    }
}

// Lane 0 of warp 0 of the producer. Values follow their keys one block later, as the consumers need them.
template <class Config>
__device__ void copyTiles(HopperShared<Config>& shared, const HopperArguments& h) {
    using Shared = HopperShared<Config>;
    constexpr HopperTile kTile = Config::kTile;
    RingIndex<kSlots> slot;
    RingIndex<kTile.queryStages> query;
    RingIndex<kTile.stages> key, value;
    const int group = static_cast<int>(h.a.step.q_heads / h.a.step.kv_heads);
    int valueRow = -1, valueHead = 0, valueBatch = 0;  // the values to come

    const auto copyValues = [&] {
        if (valueRow >= 0) {
            const uint32_t full = sharedAddress(&shared.valuesFull[value.stage]),
                           target = sharedAddress(shared.values[value.stage]);
            wait(sharedAddress(&shared.valuesEmpty[value.stage]), value.parity ^ 1);
            arriveExpecting(full, Shared::kValueBytes);
            for (int panel = 0; panel < panels(Config::kDims.value); ++panel) {
                copyBox(target + panel * panelBytes(kTile.keys), h.v, panel * kPanelColumns, valueRow, valueHead,
                        valueBatch, full);
            }
            value.advance();
        }
    };

    for (;;) {
        wait(sharedAddress(&shared.slotFull[slot.stage]), slot.parity);
        const auto& tile = shared.slots[slot.stage];
        const int first = tile.first, head = tile.head, batch = tile.batch, keyHead = head / group;
        const KeySpan span = tile.span;
        arrive(sharedAddress(&shared.slotEmpty[slot.stage]));
        slot.advance();
        if (head < 0) {
            break;
        }
        for (int consumer = 0; consumer < kTile.consumers; ++consumer) {
            const uint32_t full = sharedAddress(&shared.queriesFull[query.stage][consumer]);
            const uint32_t target = sharedAddress(shared.queries[query.stage][consumer]);
            wait(sharedAddress(&shared.queriesEmpty[query.stage][consumer]), query.parity ^ 1);
            arriveExpecting(full, Shared::kQueryBytes);
            for (int panel = 0; panel < panels(Config::kDims.key); ++panel) {
                copyBox(target + panel * panelBytes(64), h.q, panel * kPanelColumns, first + consumer * 64, head, batch,
                        full);
            }
        }
        query.advance();
        for (int row = span.begin, next; row < span.end; row = next) {
            next = span.next(row, kTile.keys);
            if (next >= span.end) {  // the consumers are a few blocks behind: enough for the next tile to come
                arrive(sharedAddress(&shared.tileWanted));
            }
            const uint32_t keysFull = sharedAddress(&shared.keysFull[key.stage]),
                           target = sharedAddress(shared.keys[key.stage]);
            wait(sharedAddress(&shared.keysEmpty[key.stage]), key.parity ^ 1);
            arriveExpecting(keysFull, Shared::kKeyBytes);
            for (int panel = 0; panel < panels(Config::kDims.key); ++panel) {
                copyBox(target + panel * panelBytes(kTile.keys), h.k, panel * kPanelColumns, row, keyHead, batch,
                        keysFull);
            }
            key.advance();
            copyValues();
            if (Config::kStateInRing && row == span.begin) {
                copyState<Config>(h, shared.keys[key.stage], shared.keysFull[key.stage], shared.keysEmpty[key.stage],
                                  key.parity, first, head, batch);
                key.advance();
                copyState<Config>(h, shared.values[value.stage], shared.valuesFull[value.stage],
                                  shared.valuesEmpty[value.stage], value.parity, first + 64, head, batch);
                value.advance();
            }
            valueRow = row;
            valueHead = keyHead;
            valueBatch = batch;
        }
    }
    copyValues();
}

}  // namespace flashring

#endif
