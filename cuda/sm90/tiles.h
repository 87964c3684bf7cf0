// Every tile size of the Hopper kernels, with its reasons.
#ifndef FLASHRING_CUDA_SM90_TILES_H
#define FLASHRING_CUDA_SM90_TILES_H

#include "common/head_dims.h"
#include "kernels.h"
#include "rounding.h"

namespace flashring {

// A block is one producer warpgroup and `consumers` consumer warpgroups of 64 queries each; it walks over the keys,
// `keys` at a time. Registers are per thread; what the consumers gain over `launchRegisters` the producer has to give.
//
// While one consumer computes its softmax the others keep the tensor cores busy, so more keys a block hide more
// latency, until scores (keys / 2 registers), weights (keys / 4), output (value dim / 2) and what a consumer keeps of
// its queries (dim / 4, where they are read from registers: it saves a third of the shared memory's bandwidth) no
// longer fit.
//
// Shared memory (227 KB) holds `queryStages` tiles of queries, so that the next tile's are there when this one ends
// (one is enough where they go on to registers), and `stages` of keys and values each.
struct HopperTile {
    int consumers, keys, queryStages, stages;
    bool queriesInRegisters, turns;
    int producerRegisters, consumerRegisters;

    constexpr int queries() const { return consumers * 64; }
    constexpr int threads() const { return (consumers + 1) * 128; }
    constexpr int launchRegisters() const { return 65536 / threads() / 8 * 8; }
    constexpr bool registersFit() const {
        return producerRegisters + consumers * consumerRegisters <= (consumers + 1) * launchRegisters();
    }
};

// Consumers with as much to keep as those of wide heads fall behind each other without turns; the others lose by
// waiting. At dim 64 the exponentials take as long as the products: three consumers overlap them best, on 160 registers
// each.
constexpr HopperTile hopperTile(HeadDims dims) {
    if (dims.key <= 64) {
        return {.consumers = 3, .keys = 128, .queryStages = 2, .stages = 4, .queriesInRegisters = false, .turns = false,
                .producerRegisters = 32, .consumerRegisters = 160};
    }
    if (dims.key <= 128) {
        return {.consumers = 2, .keys = 128, .queryStages = 1, .stages = 3, .queriesInRegisters = true, .turns = false,
                .producerRegisters = 40, .consumerRegisters = 232};
    }
    if (dims.value <= 192) {
        const int keys = dims.value <= 128 ? 96 : 80;
        return {.consumers = 2, .keys = keys, .queryStages = 2, .stages = 2, .queriesInRegisters = false, .turns = true,
                .producerRegisters = 40, .consumerRegisters = 232};
    }
    return {.consumers = 2, .keys = 80, .queryStages = 1, .stages = 2, .queriesInRegisters = false, .turns = true,
            .producerRegisters = 40, .consumerRegisters = 232};
}

// The float32 output of earlier steps, for one consumer's 64 queries, as boxes of the copy engine.
constexpr int kStateBoxColumns = 32, kStateBoxBytes = 64 * 128;

constexpr int stateBoxes(HeadDims dims) { return ceilDiv(dims.value, kStateBoxColumns); }
constexpr int stateBytes(HeadDims dims) { return stateBoxes(dims) * kStateBoxBytes; }

// Whether it comes by way of the ring of keys and values: where a stage of each has room for one of two consumers'
// share. Else the consumers load it themselves, which takes longer than the softmax that it hides behind.
constexpr bool hopperStateInRing(HeadDims dims) {
    const HopperTile tile = hopperTile(dims);
    const int narrower = dims.key < dims.value ? dims.key : dims.value;
    return tile.consumers == 2 && ceilDiv(narrower, 64) * 128 * tile.keys >= stateBytes(dims);
}

// Whether a tile's output can leave by way of the memory of queries: the tile's own, where the next tile's have
// another, or the next tile's where they go on to registers and have done so by then. It has to be wide enough.
constexpr bool hopperStagesOutput(HeadDims dims) {
    const HopperTile tile = hopperTile(dims);
    return (tile.queriesInRegisters || tile.queryStages > 1) && ceilDiv(dims.value, 64) <= ceilDiv(dims.key, 64);
}

// What becomes of products before they are scores. Each has kernels of its own, which the others' speed does not know
// of, at the dims that models with it have.
enum class Shaping { None, Softcap, Alibi };

constexpr bool hopperShapes(HeadDims dims, Shaping shaping) {
    return shaping == Shaping::None ||
           (dims.key == dims.value && (dims.key == 128 || (dims.key == 256 && shaping == Shaping::Softcap)));
}

// Backward: a block is one producer warpgroup and `consumers` consumer warpgroups; it keeps 64 keys for each consumer
// and walks over the queries, 64 at a time, two tiles of them in shared memory. A consumer's dK and dV (dim registers),
// scores and their gradients (64 registers) and its part of dQ share its registers; wider heads than 128 would not fit,
// and have kernels of their own (below).
//
// Products read shared memory about as fast as it goes. At dim 64 three consumers read each tile of queries for half as
// many keys again. Where a share of dQ's columns would be too narrow, or has columns that are not there, consumers take
// turns with all of it, one a tile. At dim 128 each computes its share a tile later, when the other's dS is there, and
// before its dV and dK, which keep the tensor cores busy while dQ is handed over.
//
// The rows of a tile (lse, delta, mask) are fetched by warps that the producer has anyway. Two of them keep one row a
// lane and need no more than 24 registers, and so each consumer gets 240, which dim 128 uses. The rest of the
// producer's warps have nothing to do.
struct HopperBackwardTile {
    int consumers;
    bool dqInTurn;  // else each consumer computes 64 of its columns
    int rowWarps;   // 64 queries of a tile, an equal part each
    int producerRegisters, consumerRegisters;

    static constexpr int queries = 64, stages = 2;

    constexpr int keys() const { return consumers * 64; }
    constexpr int threads() const { return (consumers + 1) * 128; }
    constexpr int dqColumns(HeadDims dims) const { return dqInTurn ? dims.key : 64; }
    // Of dS. Where dQ comes a tile later, one consumer may write the tile after that which the other still reads.
    constexpr int gradientStages() const { return dqInTurn ? stages : 3; }
    constexpr bool registersFit() const {
        return producerRegisters + consumers * consumerRegisters <= (consumers + 1) * (65536 / threads() / 8 * 8);
    }
};

constexpr HopperBackwardTile hopperBackwardTile(HeadDims dims) {
    if (dims.key <= 64) {
        return {.consumers = 3, .dqInTurn = true, .rowWarps = 1, .producerRegisters = 32, .consumerRegisters = 160};
    }
    if (dims.key <= 96) {
        return {.consumers = 2, .dqInTurn = true, .rowWarps = 1, .producerRegisters = 32, .consumerRegisters = 232};
    }
    return {.consumers = 2, .dqInTurn = false, .rowWarps = 2, .producerRegisters = 24, .consumerRegisters = 240};
}

// Backward by two kernels, one for dK and dV and one for dQ. Scores and dP are computed twice, 7 products instead of 5;
// but nothing is gathered in memory. Wide heads go so, as a tile of 64 keys would have 64 KB of dQ gathered every 2,600
// clocks, twice as much as dims of 128, whose largest single cost it is; and deterministic steps, as what is gathered
// comes in no certain order.
constexpr bool hopperBackwardIsWide(HeadDims dims) { return dims.key > 128; }

// Whether those two serve the shaping: heads that have no other.
constexpr bool hopperSeparates(HeadDims dims, Shaping shaping) {
    return shaping == Shaping::None || (hopperBackwardIsWide(dims) && hopperShapes(dims, shaping));
}

// The kernel for dK and dV of wide heads; blocks keep 64 keys. One consumer computes scores, P and dV, the other dP, dS
// and dK; P goes from one to the other by shared memory. Their first operands, the last `heldPanels` times 64 columns
// of K and V, stay in registers, and the memory that they came by holds queries: those are in use from their scores to
// their dK, half as long again as a step, so that two stages would not be enough.
struct HopperWideTile {
    int heldPanels;
    int stages, doutStages;  // of queries and dO

    static constexpr int queries = 64, rowWarps = 2, threads = 384, producerRegisters = 24, consumerRegisters = 240;

    static constexpr int keys() { return 64; }
};

constexpr HopperWideTile hopperWideTile(HeadDims dims) {
    if (dims.value <= 192) {
        return {.heldPanels = 3, .stages = 4, .doutStages = 3};
    }
    return {.heldPanels = 2, .stages = 3, .doutStages = 2};
}

// The same of other heads: as HopperBackwardTile, less dQ, whose memory holds more queries.
struct HopperNarrowTile {
    int consumers, rowWarps, producerRegisters, consumerRegisters;

    static constexpr int queries = 64, stages = 4;

    constexpr int keys() const { return consumers * 64; }
    constexpr int threads() const { return (consumers + 1) * 128; }
};

constexpr HopperNarrowTile hopperNarrowTile(HeadDims dims) {
    if (dims.key <= 64) {
        return {.consumers = 3, .rowWarps = 1, .producerRegisters = 32, .consumerRegisters = 160};
    }
    return {.consumers = 2, .rowWarps = 2, .producerRegisters = 24, .consumerRegisters = 240};
}

// The kernel for dQ: each consumer has 64 queries, and what of shared memory Q and dO leave is for keys, 64 at a time.
// They are in use from their scores to their dQ, longer than values are. At dim 64 the exponentials take two thirds of
// what the products take: three consumers overlap them best.
struct HopperQueryTile {
    int consumers, keyStages, valueStages;
    int producerRegisters, consumerRegisters;

    static constexpr int keys = 64;

    constexpr int queries() const { return consumers * 64; }
    constexpr int threads() const { return (consumers + 1) * 128; }
};

constexpr HopperQueryTile hopperQueryTile(HeadDims dims) {
    if (dims.key <= 64) {
        return {.consumers = 3, .keyStages = 6, .valueStages = 6, .producerRegisters = 32, .consumerRegisters = 160};
    }
    const int keyStages = dims.key <= 128 ? 4 : dims.value <= 192 ? 3 : 2;
    const int valueStages = dims.key <= 128 ? 4 : dims.value <= 128 ? 3 : dims.value <= 192 ? 2 : 1;
    return {.consumers = 2,
            .keyStages = keyStages,
            .valueStages = valueStages,
            .producerRegisters = 24,
            .consumerRegisters = 240};
}

// Whether no more registers are asked for than a block is started with: else the last consumer would wait for ever.
template <class Tile>
constexpr bool registersFit(const Tile& tile, int threads, int consumers) {
    return tile.producerRegisters + consumers * tile.consumerRegisters <= (consumers + 1) * (65536 / threads / 8 * 8);
}

// Keys of a block of backward, whichever kernel it is.
constexpr int hopperBackwardKeys(HeadDims dims) {
    return hopperBackwardIsWide(dims) ? HopperWideTile::keys() : hopperBackwardTile(dims).keys();
}

}  // namespace flashring

#endif
