// One forward step on Hopper: FlashAttention-2 (Dao 2023), algorithm 1, with the copy engine, asynchronous products of whole
// warpgroups, and softmax and products of different warpgroups side by side as in FlashAttention-3 (Shah 2024, section 3.1).
//
// Each block stays on its multiprocessor and takes tiles of queries until there are none. Its warpgroups:
//   producer    warp 0 copies queries, keys and values into rings of tiles; warp 1 fetches what the next tile sees
//   consumers   64 queries each. Per block of keys: softmax of the scores, then, as one batch of products,
//               O += P V of this block and S = Q K^T of the next one, which may be the first of the next tile
// While one consumer computes its softmax the products of the others run. They fall into such a rhythm by themselves, or take
// turns in issuing their batches where the tile table says so.
#ifndef FLASHRING_CUDA_HOPPER_FORWARD_CUH
#define FLASHRING_CUDA_HOPPER_FORWARD_CUH

#include <math.h>

#include "hopper_ptx.cuh"
#include "hopper_rows.cuh"
#include "hopper_schedule.cuh"
#include "hopper_softmax.cuh"
#include "hopper_tiles.h"
#include "hopper_wgmma.cuh"

namespace flashring {

// Steps that resume have a kernel of their own: what they bring in would cost the others registers.
template <int kIndex, bool kResume>
struct HopperConfig {
    static constexpr HeadDims kDims = kHeadDims[kIndex];
    static constexpr HopperTile kTile = hopperTile(kDims);
    static constexpr bool kResumes = kResume, kStateInRing = kResume && hopperStateInRing(kDims);
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

// Warp 1 of the producer: fetches each tile while an earlier one is worked on. It takes the next one from the counter only when
// warp 0 asks for it: a tile that waits here is missed at the end, when other blocks have nothing left.
template <class Config>
__device__ void schedule(HopperShared<Config>& shared, const HopperArguments& h) {
    constexpr int kQueries = Config::kTile.queries();
    const bool first = threadIdx.x % 32 == 0;
    RingIndex<kSlots> slot;
    RingIndex<1> wanted;
    const auto take = [&] { return __shfl_sync(~0u, first ? static_cast<int>(gridDim.x) + atomicAdd(h.next, 1) : 0, 0); };
    for (int index = static_cast<int>(blockIdx.x);;) {
        const TileFetch<kQueries> tile(h.a, h.order, h.spans, index);
        if (Config::kResumes && tile.unchanged(h.a.step.flags)) {
            index = take();
            continue;
        }
        wait(sharedAddress(&shared.slotEmpty[slot.stage]), slot.parity ^ 1);
        tile.store(shared.slots[slot.stage]);
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
__device__ void copyState(const HopperArguments& h, char* target, const uint64_t& full, const uint64_t& empty, uint32_t parity, int query,
                          int head, int batch) {
    wait(sharedAddress(&empty), parity ^ 1);
    arriveExpecting(sharedAddress(&full), stateBytes(Config::kDims));
    for (int box = 0; box < stateBoxes(Config::kDims); ++box) {
        copyBox(sharedAddress(target) + box * kStateBoxBytes, h.acc, box * kStateBoxColumns, query, head, batch, sharedAddress(&full));
    }
}

// Lane 0 of warp 0 of the producer. Values follow their keys one block late: the consumers ask for them in that order.
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
            const uint32_t full = sharedAddress(&shared.valuesFull[value.stage]), target = sharedAddress(shared.values[value.stage]);
            wait(sharedAddress(&shared.valuesEmpty[value.stage]), value.parity ^ 1);
            arriveExpecting(full, Shared::kValueBytes);
            for (int panel = 0; panel < panels(Config::kDims.value); ++panel) {
                copyBox(target + panel * panelBytes(kTile.keys), h.v, panel * kPanelColumns, valueRow, valueHead, valueBatch, full);
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
                copyBox(target + panel * panelBytes(64), h.q, panel * kPanelColumns, first + consumer * 64, head, batch, full);
            }
        }
        query.advance();
        for (int row = span.begin, next; row < span.end; row = next) {
            next = span.next(row, kTile.keys);
            if (next >= span.end) {  // the consumers are a few blocks behind: enough for the next tile to come
                arrive(sharedAddress(&shared.tileWanted));
            }
            const uint32_t keysFull = sharedAddress(&shared.keysFull[key.stage]), target = sharedAddress(shared.keys[key.stage]);
            wait(sharedAddress(&shared.keysEmpty[key.stage]), key.parity ^ 1);
            arriveExpecting(keysFull, Shared::kKeyBytes);
            for (int panel = 0; panel < panels(Config::kDims.key); ++panel) {
                copyBox(target + panel * panelBytes(kTile.keys), h.k, panel * kPanelColumns, row, keyHead, batch, keysFull);
            }
            key.advance();
            copyValues();
            if (Config::kStateInRing && row == span.begin) {
                copyState<Config>(h, shared.keys[key.stage], shared.keysFull[key.stage], shared.keysEmpty[key.stage], key.parity, first, head, batch);
                key.advance();
                copyState<Config>(h, shared.values[value.stage], shared.valuesFull[value.stage], shared.valuesEmpty[value.stage], value.parity,
                                  first + 64, head, batch);
                value.advance();
            }
            valueRow = row;
            valueHead = keyHead;
            valueBatch = batch;
        }
    }
    copyValues();
}

// One consumer warpgroup. Scores of the next block are computed beside the weighted values of this one, so a tile's end
// reaches into the next tile: its first scores are on their way while this one's output is written.
template <class Element, class Config>
class Consumer {
    using Shared = HopperShared<Config>;
    static constexpr HopperTile kTile = Config::kTile;
    static constexpr HeadDims kDims = Config::kDims;
    static constexpr int kKeys = kTile.keys, kTurnThreads = 256;
    // Blocks passed before the first and after the last that is used: while the last one's values are held, only as many
    // keys as there are stages can come after it.
    static constexpr int kMostPassed = kTile.stages / 2;
    // With fewer stages the next keys would rather come during the softmax.
    static constexpr bool kWaitsAhead = kTile.stages > 2;
    // Code of its own for a tile's last step leaves a tight loop for the others. Elsewhere ptxas spills, or serialises the products.
    static constexpr bool kOwnLastStep = kWaitsAhead && (!Config::kResumes || Config::kStateInRing);

public:
    __device__ __forceinline__ Consumer(Shared& shared, const HopperArguments& h, int number)
        : shared_(shared), h_(h), number_(number), warpQuery_(number * 64 + uniform(threadIdx.x % 128 / 32) * 16) {}

    __device__ __forceinline__ void run() {
        wait(address(shared_.slotFull[0]), 0);
        if (uniform(shared_.slots[0].head) < 0) {
            return;  // this block's tiles were all skipped
        }
        if (kTile.turns && number_ == kTile.consumers - 1) {
            arriveNamed(1, kTurnThreads);  // the first consumer's turn
        }
        enterTile();
        waitForKeys(key_);
        beginProducts();
        multiplyKeys();
        commitProducts();
        releaseTakenQueries();
        askForLse();
        waitForProducts<0>();
        begin();
        lookAhead();
        releaseUsedKeys();
        if constexpr (kOwnLastStep) {
            do {
                while (next_ < end_) {
                    step(false);
                }
            } while (step(true));
        } else {
            while (step(next_ >= end_)) {
            }
        }
        passValues();
    }

private:
    static __device__ __forceinline__ uint32_t address(const uint64_t& barrier) { return sharedAddress(&barrier); }

    // Says for this warp that it is done with what the barrier guards.
    static __device__ __forceinline__ void release(const uint64_t& barrier) {
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            arrive(address(barrier));
        }
    }

    __device__ __forceinline__ void releaseKeys() {
        release(shared_.keysEmpty[key_.stage]);
        key_.advance();
    }

    // Those that are in use, and the state behind them where it came by the ring.
    __device__ __forceinline__ void releaseUsedKeys() {
        releaseKeys();
        if (Config::kStateInRing && stateCame_) {
            key_.advance();
            stateCame_ = false;
        }
    }

    __device__ __forceinline__ void releaseValues() {
        release(shared_.valuesEmpty[value_.stage]);
        value_.advance();
    }

    __device__ __forceinline__ void releaseQueries() {
        release(shared_.queriesEmpty[query_.stage][number_]);
        query_.advance();
    }

    // Queries in registers are only sure to have left shared memory once products that need them were issued: an arrival at a barrier
    // may overtake loads.
    __device__ __forceinline__ void releaseTakenQueries() {
        if (kTile.queriesInRegisters && more_) {
            releaseQueries();
        }
    }

    __device__ __forceinline__ void takeTurn() const {
        if constexpr (kTile.turns) {
            syncNamed(1 + number_, kTurnThreads);
        }
    }

    __device__ __forceinline__ void endTurn(bool more) const {
        if (kTile.turns && (more || number_ + 1 < kTile.consumers)) {
            arriveNamed(1 + (number_ + 1) % kTile.consumers, kTurnThreads);
        }
    }

    __device__ __forceinline__ void waitForKeys(RingIndex<kTile.stages> key) const {
        wait(address(shared_.keysFull[key.stage]), key.parity);
    }

    // Those of the block whose scores are ready.
    __device__ __forceinline__ void waitForValues() {
        passValues();
        wait(address(shared_.valuesFull[value_.stage]), value_.parity);
    }

    __device__ __forceinline__ void passKeys() {
        takeTurn();
        endTurn(true);
        waitForKeys(key_);
        releaseKeys();
        ++valuesToPass_;
    }

    __device__ __forceinline__ void passValues() {
        for (; valuesToPass_ > 0; --valuesToPass_) {
            wait(address(shared_.valuesFull[value_.stage]), value_.parity);
            releaseValues();
        }
    }

    // Goes to the first block that these queries see of the tile in slot_, and takes its queries. Of the tile's blocks each
    // consumer works on those between the first and the last that its own queries see, and lets the others pass; a
    // consumer that sees nothing works on the first.
    __device__ __forceinline__ void enterTile() {
        wait(address(shared_.slotFull[slot_.stage]), slot_.parity);
        const auto& tile = shared_.slots[slot_.stage];
        more_ = uniform(tile.head) >= 0;
        if (!more_) {
            return;
        }
        const int lo = uniform(tile.lo[number_ * 64]), hi = uniform(tile.hi[number_ * 64 + 63]);
        row_ = uniform(tile.span.begin);
        end_ = max(lo < hi ? hi : row_ + 1, uniform(tile.span.end) - kMostPassed * kKeys);
        // None where the state comes after the first, or where turns bind consumers: one that passed at the end of the tile before,
        // and here again, would hold values whose stage the other needs to end its turn (tests/cpp/hopper_protocol.py).
        constexpr int kMost = Config::kStateInRing || kTile.turns ? 0 : kMostPassed;
        for (int passed = 0; passed < kMost && row_ + kKeys <= lo && lo < hi; ++passed) {
            const int next = uniform(tile.span.next(row_, kKeys));
            if (next >= uniform(tile.span.end)) {
                break;  // there is no other: behind a gap these queries have lo < hi, and see nothing
            }
            passKeys();
            row_ = next;
        }
        wait(address(shared_.queriesFull[query_.stage][number_]), query_.parity);
        if constexpr (kTile.queriesInRegisters) {
            const int lane = threadIdx.x % 32;
            const uint32_t base = sharedAddress(shared_.queries[query_.stage][number_]) + (warpQuery_ % 64 + lane % 16) * 128;
#pragma unroll
            for (int k = 0; k < kDims.key / 16; ++k) {
                loadMatrices<false>(queries_[k], base + k / 4 * panelBytes(64) + ((k % 4 * 32 + lane / 16 * 16) ^ (lane % 8 * 16)));
            }
        }
    }

    // scores = Q K^T
    __device__ __forceinline__ void multiplyKeys() {
        using Product = Wgmma<kKeys>;
        const uint64_t keys = describe(sharedAddress(shared_.keys[0]), 0) + key_.stage * described(Shared::kKeyBytes);
        const uint64_t queries = describe(sharedAddress(shared_.queries[0][number_]), 0) + query_.stage * described(sizeof shared_.queries[0]);
#pragma unroll
        for (int k = 0; k < kDims.key / 16; ++k) {
            const uint64_t b = keys + described(k / 4 * panelBytes(kKeys) + k % 4 * 32);
            if constexpr (kTile.queriesInRegisters) {
                k == 0 ? Product::template registers<Element, 0, 0>(scores_, queries_[k], b)
                       : Product::template registers<Element, 1, 0>(scores_, queries_[k], b);
            } else {
                const uint64_t a = queries + described(k / 4 * panelBytes(64) + k % 4 * 32);
                k == 0 ? Product::template shared<Element, 0>(scores_, a, b) : Product::template shared<Element, 1>(scores_, a, b);
            }
        }
    }

    // out += weights V
    __device__ __forceinline__ void multiplyValues() {
        constexpr int kBehindKeys = sizeof shared_.keys;  // from there, it takes one addition
        const uint64_t values = describe(sharedAddress(shared_.keys[0]), 0) + (describe(0, panelBytes(kKeys)) - describe(0, 0)) +
                                described(kBehindKeys) + value_.stage * described(Shared::kValueBytes);
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k) {
            Wgmma<kDims.value>::template registers<Element, 1, 1>(out_, weights_[k], values + described(k * 16 * 128));
        }
    }

    // Asks for lse of the tile in slot_. Not before the products that come before it were issued: they would wait for it.
    __device__ __forceinline__ void askForLse() {
        const auto& tile = shared_.slots[slot_.stage];
        const int first = more_ ? tile.first + warpQuery_ : static_cast<int>(h_.a.step.q_len);
        loadLse<Config::kResumes>(h_.a.step, earlierLse_, first, tile.head, tile.batch);
    }

    // What earlier steps left of the output came by way of the ring after the tile's first keys: for the first consumer in place of
    // keys, for the second in place of values. Where a stage has no room for it, it comes in while the softmax of the first block
    // is computed.
    __device__ __forceinline__ void begin() {
        state_[0] = startingFrom(earlierLse_[0]);
        state_[1] = startingFrom(earlierLse_[1]);
        earlierComes_ = Config::kResumes && !Config::kStateInRing;
        if constexpr (Config::kStateInRing) {
            const auto key = key_.next();  // the tile's first keys are still in use
            if (more_) {
                waitForKeys(key);
                waitForValues();
            }
            // Read also where there is no tile, and it is of no use: as a branch, ptxas would serialise the products.
            readEarlier<kDims.value>(number_ == 0 ? shared_.keys[key.stage] : shared_.values[value_.stage], warpQuery_ % 64, out_, state_);
            orderBeforeCopies();
            if (more_) {
                release(shared_.keysEmpty[key.stage]);
                releaseValues();
                stateCame_ = true;
            }
        } else {
#pragma unroll
            for (int i = 0; i < kDims.value / 2; ++i) {
                out_[i] = 0;
            }
        }
        if (earlierComes_) {
            const auto& tile = shared_.slots[slot_.stage];
            loadEarlier<kDims.value>(h_.a, out_, state_, tile.first + warpQuery_, tile.head, tile.batch);
        }
    }

    // What the next step needs, while the products before it are under way: nothing hides it later.
    __device__ __forceinline__ void lookAhead() {
        const auto& tile = shared_.slots[slot_.stage];
        next_ = uniform(tile.span.next(row_, kKeys));
        border_ = tile.lo[warpQuery_ + 15] > row_ || tile.hi[warpQuery_] < row_ + kKeys;
        if (kWaitsAhead && more_) {
            waitForValues();
            if (next_ < end_) {
                waitForKeys(Config::kStateInRing && stateCame_ ? key_.next().next() : key_.next());
            }
        }
    }

    // Lets the tile's last blocks pass, which these queries do not see, and goes to the next one.
    __device__ __forceinline__ void leaveTile() {
        const auto& span = shared_.slots[slot_.stage].span;
        for (const int end = uniform(span.end); row_ < end; row_ = uniform(span.next(row_, kKeys))) {
            passKeys();
        }
        slot_.advance();
        enterTile();
    }

    // From the scores of one block to those of the next, which is the first of the next tile after the last one; false where there is
    // none.
    __device__ __forceinline__ bool step(const bool last) {
        const uint32_t slot = slot_.stage;
        const auto& tile = shared_.slots[slot];
        const int row = row_;
        row_ = next_;
        if (!kTile.queriesInRegisters && last) {
            releaseQueries();
        }
        if (last && kWaitsAhead) {
            leaveTile();
        }
        bool seen[2] = {true, true};
        uint32_t seenKeys = kAllSeen;
        if (border_) {
            const uint32_t keys = hide<kKeys>(scores_, seen, tile.lo + warpQuery_, tile.hi + warpQuery_, row);
            seenKeys = kWaitsAhead && last ? keys : kAllSeen;  // elsewhere it costs more registers than there are
        }
        advance<Element, kKeys>(scores_, weights_, out_, state_, seen, h_.a.scaleLog2, seenKeys);
        if (earlierComes_) {
#pragma unroll
            for (int i = 0; i < kDims.value / 2; ++i) {
                out_[i] *= kEarlierSum;
            }
            earlierComes_ = false;
        }

        if (!kWaitsAhead) {
            waitForValues();
            if (last) {
                leaveTile();
            }
        }
        if (more_ && (last || !kWaitsAhead)) {
            waitForKeys(key_);
        }
        takeTurn();
        beginProducts();
        multiplyValues();
        commitProducts();
        multiplyKeys();  // of nothing useful where there is no next tile
        commitProducts();
        endTurn(more_);
        waitForProducts<1>();
        releaseValues();
        if (last) {
            releaseTakenQueries();
            askForLse();
            writeRows<Element, kDims.value>(h_.a, out_, state_, tile.first + warpQuery_, tile.head, tile.batch);
            release(shared_.slotEmpty[slot]);
            begin();
        }
        lookAhead();
        waitForProducts<0>();
        if (more_) {
            releaseUsedKeys();
        }
        return more_;
    }

    Shared& shared_;
    const HopperArguments& h_;
    const int number_, warpQuery_;  // of the consumers; first query of this warp in the tile
    RingIndex<kSlots> slot_;
    RingIndex<kTile.queryStages> query_;
    RingIndex<kTile.stages> key_, value_;
    int row_, next_, end_;    // first key of the block whose scores are ready, and of the one after; end of the keys that these queries see
    bool border_;             // that block has keys that are not seen
    int valuesToPass_ = 0;    // blocks whose keys went by, and whose values come before the next that are used
    bool stateCame_ = false;    // by way of the ring, behind the keys in use
    bool more_, earlierComes_;  // there is a tile; what earlier steps left of its output is on its way to out_
    float earlierLse_[2];
    float out_[kDims.value / 2], scores_[kKeys / 2];
    uint32_t weights_[kKeys / 16][4], queries_[kTile.queriesInRegisters ? kDims.key / 16 : 1][4];
    SoftmaxRow state_[2];
};

template <class Element, class Config>
__global__ void __launch_bounds__(Config::kTile.threads(), 1) hopperForwardKernel(const __grid_constant__ HopperArguments h) {
    extern __shared__ __align__(1024) char memory[];
    HopperShared<Config>& shared = *reinterpret_cast<HopperShared<Config>*>(memory);
    if (threadIdx.x == 0) {
        shared.initBarriers();
        prefetchMap(h.q);
        prefetchMap(h.k);
        prefetchMap(h.v);
    }
    __syncthreads();
    letNextKernelStart();
    waitForEarlierKernel();
    const int warpgroup = uniform(static_cast<int>(threadIdx.x) / 128);
    if (warpgroup == 0) {
        lowerRegisters<Config::kTile.producerRegisters>();
        if (threadIdx.x / 32 == 1) {
            schedule(shared, h);
        } else if (threadIdx.x == 0) {
            copyTiles(shared, h);
        }
    } else {
        raiseRegisters<Config::kTile.consumerRegisters>();
        Consumer<Element, Config>(shared, h, warpgroup - 1).run();
    }
}

template <class Element, class Config>
void launchHopper(const HopperArguments& h) {
    constexpr int kBytes = sizeof(HopperShared<Config>);
    static_assert(kBytes <= 227 << 10, "more shared memory than a block can have");
    static_assert(Config::kTile.registersFit(), "more registers than a block is started with: the last consumer would wait for ever");
    launch(hopperForwardKernel<Element, Config>, "Hopper forward kernel", Start::Early,
           min(multiprocessors(h.a.step.device), h.order.count()), Config::kTile.threads(), kBytes, h.a.step.stream, h);
}

template <class Element>
void hopperForward(const HopperArguments& h) {
    withHeadDims(h.a.step, [&](auto index) {
        h.a.step.flags & FLASHRING_RESUME ? launchHopper<Element, HopperConfig<decltype(index)::value, true>>(h)
                                          : launchHopper<Element, HopperConfig<decltype(index)::value, false>>(h);
    });
}

}  // namespace flashring

#endif
