// A consumer warpgroup of the forward kernel: 64 queries of each tile, from their scores to their output.
#ifndef FLASHRING_CUDA_SM90_FORWARD_CONSUMER_CUH
#define FLASHRING_CUDA_SM90_FORWARD_CONSUMER_CUH

#include "sm90/capped.cuh"
#include "sm90/forward_copies.cuh"
#include "sm90/outputs.cuh"
#include "sm90/sloped.cuh"
#include "sm90/softmax.cuh"
#include "sm90/wgmma.cuh"

namespace flashring {

// One consumer warpgroup. Scores of the next block are computed beside the weighted values of this one, so a tile's end
// reaches into the next tile: its first scores are on their way while this one's output is written.
template <class Element, class Config>
class Consumer {
    using Shared = HopperShared<Config>;
    static constexpr HopperTile kTile = Config::kTile;
    static constexpr HeadDims kDims = Config::kDims;
    static constexpr int kKeys = kTile.keys, kTurnThreads = 256;
    // With fewer stages it is better to let the next keys arrive during the softmax.
    static constexpr bool kWaitsAhead = kTile.stages > 2, kRoomy = kWaitsAhead && Config::kShaping == Shaping::None;
    // A tile's last step has code of its own, which keeps the loop of the others tight. Elsewhere that makes ptxas
    // spill, or serialise the products.
    static constexpr bool kOwnLastStep =
        kWaitsAhead && Config::kShaping != Shaping::Alibi && (!Config::kResumes || Config::kStateInRing);
    static constexpr bool kCapped = Config::kShaping == Shaping::Softcap, kSloped = Config::kShaping == Shaping::Alibi,
                          kShortWay = !Config::kStateInRing;  // there is a register left for it
    // Boxes of 16 rows in a warp's part of the queries' memory, where output leaves through it. Steps that resume store
    // acc, which is twice as large, and were 2 to 3 % slower that way.
    static constexpr int kBoxes = hopperStagesOutput(kDims) && !Config::kResumes ? panels(kDims.value) : 0;

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
        if (kTile.queriesInRegisters) {
            releaseQueries(0);
        }
        askForLse();
        waitForProducts<0>();
        begin();
        releaseUsedKeys();
        waitAhead<true>();
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
        waitForBoxes();
    }

private:
    static __device__ __forceinline__ uint32_t address(const uint64_t& barrier) { return sharedAddress(&barrier); }

    __device__ __forceinline__ void releaseKeys() {
        releaseBarrier(shared_.keysEmpty[key_.stage]);
        key_.advance();
    }

    // Releases the keys in use, and the state behind them where it came through the ring.
    __device__ __forceinline__ void releaseUsedKeys() {
        releaseKeys();
        if (Config::kStateInRing && stateCame_) {
            key_.advance();
            stateCame_ = false;
        }
    }

    __device__ __forceinline__ void releaseValues() {
        releaseBarrier(shared_.valuesEmpty[value_.stage]);
        value_.advance();
    }

    __device__ __forceinline__ void releaseQueries(uint32_t stage) const {
        releaseBarrier(shared_.queriesEmpty[stage][number_]);
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

    // Waits for the values of the block whose scores are ready.
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

    // Whether any of this warp's queries does not see all of the block's keys.
    __device__ __forceinline__ bool hasBorder() const {
        const auto& tile = shared_.slots[slot_.stage];
        return tile.lo[warpQuery_ + 15] > row_ || tile.hi[warpQuery_] < row_ + kKeys;
    }

    // Takes the queries of the tile in slot_ and goes to the first block of keys that they see.
    __device__ __forceinline__ void enterTile() {
        wait(address(shared_.slotFull[slot_.stage]), slot_.parity);
        const auto& tile = shared_.slots[slot_.stage];
        more_ = uniform(tile.head) >= 0;
        if (!more_) {
            return;
        }
        const TileStart start = tile.starts[number_];
        row_ = uniform(start.row);
        next_ = uniform(start.next);
        end_ = uniform(start.end);
        border_ = hasBorder();
        slope_ = kSloped ? slopeOfKey(h_.a, uniform(tile.head)) : 0;
        for (int passed = uniform(start.passed); passed > 0; --passed) {
            passKeys();
        }
        wait(address(shared_.queriesFull[query_.stage][number_]), query_.parity);
        if constexpr (kTile.queriesInRegisters) {
            loadOwnRows(queries_, shared_.queries[query_.stage][number_], warpQuery_ % 64);
            query_.advance();
        }
    }

    // scores = Q K^T
    __device__ __forceinline__ void multiplyKeys() {
        using Product = Wgmma<kKeys>;
        const uint64_t keys = describe(sharedAddress(shared_.keys[0]), 0) + key_.stage * described(Shared::kKeyBytes);
        const uint64_t queries = describe(sharedAddress(shared_.queries[0][number_]), 0) +
                                 query_.stage * described(sizeof shared_.queries[0]);
#pragma unroll
        for (int k = 0; k < kDims.key / 16; ++k) {
            const uint64_t b = keys + described(k / 4 * panelBytes(kKeys) + k % 4 * 32);
            if constexpr (kTile.queriesInRegisters) {
                k == 0 ? Product::template registers<Element, 0, 0>(scores_, queries_[k], b)
                       : Product::template registers<Element, 1, 0>(scores_, queries_[k], b);
            } else {
                const uint64_t a = queries + described(k / 4 * panelBytes(64) + k % 4 * 32);
                k == 0 ? Product::template shared<Element, 0>(scores_, a, b)
                       : Product::template shared<Element, 1>(scores_, a, b);
            }
        }
    }

    // out += weights V
    __device__ __forceinline__ void multiplyValues() {
        constexpr int kBehindKeys = sizeof shared_.keys;  // from there, it takes one addition
        const uint64_t values = describe(sharedAddress(shared_.keys[0]), 0) +
                                (describe(0, panelBytes(kKeys)) - describe(0, 0)) + described(kBehindKeys) +
                                value_.stage * described(Shared::kValueBytes);
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k) {
            Wgmma<kDims.value>::template registers<Element, 1, 1>(out_, weights_[k], values + described(k * 16 * 128));
        }
    }

    // Starts to load lse of the tile in slot_. Only after the products before it were issued, which would wait for it.
    __device__ __forceinline__ void askForLse() {
        const auto& tile = shared_.slots[slot_.stage];
        const int first = more_ ? tile.first + warpQuery_ : static_cast<int>(h_.a.step.q_len);
        loadLse<Config::kResumes>(h_.a.step, earlierLse_, first, tile.head, tile.batch);
    }

    // Begins a tile with what earlier steps left of its output. It comes through the ring behind the tile's first keys,
    // for the first consumer in place of keys and for the second in place of values. Where a stage has no room for it,
    // it is loaded while the softmax of the first block is computed.
    __device__ __forceinline__ void begin() {
        earlier_[0] = earlierRow(earlierLse_[0]);
        earlier_[1] = earlierRow(earlierLse_[1]);
        state_[0] = kSloped ? SoftmaxRow{0, 0} : startingFrom(earlier_[0]);
        state_[1] = kSloped ? SoftmaxRow{0, 0} : startingFrom(earlier_[1]);
        earlierComes_ = Config::kResumes && !Config::kStateInRing;
        if constexpr (Config::kStateInRing) {
            const auto key = key_.next();  // the tile's first keys are still in use
            if (more_) {
                waitForKeys(key);
                waitForValues();
            }
            // Read even where there is no tile and it means nothing: a branch would make ptxas serialise the products.
            readEarlier<kDims.value>(number_ == 0 ? shared_.keys[key.stage] : shared_.values[value_.stage],
                                     warpQuery_ % 64, out_, earlier_);
            orderBeforeCopies();
            if (more_) {
                releaseBarrier(shared_.keysEmpty[key.stage]);
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

    // Finds out what the next step does while products are under way: later nothing would hide the time.
    __device__ __forceinline__ void lookAhead() {
        next_ = uniform(shared_.slots[slot_.stage].span.next(row_, kKeys));
        border_ = hasBorder();
    }

    // Waits for what the next step needs: values, and the keys after those whose scores are ready. kGivenBack: the
    // latter were released.
    template <bool kGivenBack>
    __device__ __forceinline__ void waitAhead() {
        if (kWaitsAhead && more_) {
            waitForValues();
            if (next_ < end_) {
                // A template parameter, since ptxas would take an argument to differ from thread to thread.
                waitForKeys(kGivenBack ? key_ : Config::kStateInRing && stateCame_ ? key_.next().next() : key_.next());
            }
        }
    }

    // Skips the tile's last blocks, which these queries do not see, and goes to the next tile.
    __device__ __forceinline__ void leaveTile() {
        const auto& span = shared_.slots[slot_.stage].span;
        for (const int end = uniform(span.end); row_ < end; row_ = uniform(span.next(row_, kKeys))) {
            passKeys();
        }
        slot_.advance();
        enterTile();
    }

    // Goes from the scores of one block to those of the next: after a tile's last block, to the first of the next tile.
    // False where there is none.
    __device__ __forceinline__ bool step(const bool last) {
        const uint32_t slot = slot_.stage;
        const auto& tile = shared_.slots[slot];
        const int row = row_;
        const bool border = border_;
        const float slope = slope_;
        row_ = next_;
        const uint32_t queryStage = kTile.queriesInRegisters ? 0 : query_.stage;
        if (!kTile.queriesInRegisters && last) {
            if constexpr (kBoxes == 0) {
                releaseQueries(queryStage);
            }
            query_.advance();
        }
        if (last && kWaitsAhead) {
            leaveTile();
        }
        bool taken = false;  // the short way
        if constexpr (kSloped) {
            const SlopedBlock block(slope, tile.hi + warpQuery_, row);
            taken = takeSloped<Element, kKeys>(scores_, weights_, state_, block, h_.a, border);
        }
        if constexpr (kCapped && kShortWay) {
            taken = !border && (kWaitsAhead ? advanceBounded<Element, kKeys>(scores_, weights_, state_, h_.curve)
                                            : advanceCapped<Element, kKeys>(scores_, weights_, state_, h_.curve));
        }
        if (kCapped && !taken) {
            capScores(scores_, h_.a.shape);
        }
        if (!taken) {
            bool seen[2] = {true, true};
            uint32_t seenKeys = kAllSeen;
            if (border) {
                const uint32_t keys = hide<kKeys>(scores_, seen, tile.lo + warpQuery_, tile.hi + warpQuery_, row);
                seenKeys = kRoomy && last ? keys : kAllSeen;  // registers are scarce
            }
            advance<Element, kKeys>(scores_, weights_, out_, state_, seen, scaleOf(h_.a), seenKeys);
        }
        if (earlierComes_) {
#pragma unroll
            for (int i = 0; i < kDims.value / 2; ++i) {
                out_[i] *= earlier_[i / 2 % 2].sum;
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
        RowEnds ends;
        const auto findEnds = [&] {
            ends = endsOf<Config>(h_.a, state_, tile.first + warpQuery_, tile.head, tile.batch);
        };
        if (last && kOwnLastStep) {
            findEnds();
        }
        waitForProducts<1>();
        releaseValues();
        if (last) {
            if (kTile.queriesInRegisters && kBoxes == 0 && more_) {
                releaseQueries(0);  // only now: an arrival may overtake loads whose values were not used yet
            }
            if (!kOwnLastStep) {
                findEnds();
            }
            askForLse();
            const uint32_t staging = sharedAddress(shared_.queries[queryStage][number_]) + warpQuery_ % 64 * 128;
            writeRows<Element, kDims.value, kBoxes, Config::kShaping>(h_, out_, ends, staging);
            releaseBarrier(shared_.slotEmpty[slot]);
            begin();
        }
        if (!last) {
            lookAhead();
        }
        if (!last || kBoxes == 0) {
            waitAhead<false>();
        }
        waitForProducts<0>();
        if (more_) {
            releaseUsedKeys();
        }
        if (last && kBoxes > 0) {
            if (more_ || !kTile.queriesInRegisters) {
                waitForBoxes();  // have left that memory
                releaseQueries(queryStage);
            }
            waitAhead<true>();  // only now: those values come after queries that need the memory
        }
        return more_;
    }

    Shared& shared_;
    const HopperArguments& h_;
    const int number_, warpQuery_;  // of the consumers; first query of this warp in the tile
    RingIndex<kSlots> slot_;
    RingIndex<kTile.queryStages> query_;
    RingIndex<kTile.stages> key_, value_;
    int row_, next_;            // first key of the block whose scores are ready, and of the one after
    int end_;                   // of the keys that these queries see
    bool border_;               // some query does not see all of that block
    int valuesToPass_ = 0;      // blocks whose keys were skipped and whose values are still to be
    bool stateCame_ = false;    // through the ring, behind the keys in use
    bool more_, earlierComes_;  // there is a tile; what earlier steps left of its output is on its way to out_
    float slope_;               // ALiBi's, of the tile's head, from a key to the next
    Lse earlierLse_[2];
    EarlierRow earlier_[2];
    float out_[kDims.value / 2], scores_[kKeys / 2];
    uint32_t weights_[kKeys / 16][4], queries_[kTile.queriesInRegisters ? kDims.key / 16 : 1][4];
    SoftmaxRow state_[2];
};

}  // namespace flashring

#endif
