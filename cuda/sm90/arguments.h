// What the host and the device side of the Hopper kernels share.
#ifndef FLASHRING_CUDA_SM90_ARGUMENTS_H
#define FLASHRING_CUDA_SM90_ARGUMENTS_H

#include <cuda.h>

#include "common/attention.h"
#include "sm90/tiles.h"

namespace flashring {

// Tiles are handed out one by one, the last queries of every head first: under a causal mask they see the most keys,
// and short tiles at the end even out when blocks finish. Documents are as long as they are, and have their tiles
// sorted. Heads go in groups whose keys and values stay in the L2 cache together.
struct TileOrder {
    int tiles, heads;           // tiles of queries a head; heads of the whole batch
    int groups, headsPerGroup;  // the last group also has what is left over
    const int32_t* sorted = nullptr;  // [tiles] in device memory, or null: the last first

    __host__ __device__ int count() const { return tiles * heads; }
};

// `unit` times tanh(score / softcap), of a small product: an odd polynomial, within 2^-21 of the unit up to a third of
// the softcap.
struct CapCurve {
    static constexpr int kTerms = 3;

    float terms[kTerms];
    float reach;  // the largest product that it holds for; -1: it holds for none

    CapCurve() = default;
    CapCurve(const flashring_step& step, double unit);
};

struct HopperArguments {
    Arguments a;
    CUtensorMap q, k, v;   // boxes of one panel: 64 queries, or a block of keys
    CUtensorMap acc;       // boxes of 64 queries and 32 columns; where a step resumes and hopperStateInRing()
    CUtensorMap outBoxes, accBoxes;  // of 16 queries and 128 bytes; where the copy engine writes
    bool boxedOut, boxedAcc;         // out, and acc
    TileOrder order;
    const KeySpan* spans;  // [order.tiles]
    int32_t* next;         // tiles handed out beyond the first of each block
    CapCurve curve;
};

// dQ while it is gathered, float32 and not scaled yet, in the order of the accumulators that it comes from:
// [batch, q_heads, blocks of 16 queries, dims / 8, lanes, 4]. Lane l holds columns 2 (l % 4) and the next of 8, of
// query l / 4 and, behind them, of query l / 4 + 8. So 16 queries and 8 columns are 512 bytes that a warp writes at
// once.
struct GatheredDq {
    float* data;
    int blocks, dims;  // blocks of 16 queries a head, in whole tiles of queries; columns, of kHeadDims

    // Of these 16 queries, from this column of 8 on; the head is of all batches.
    __host__ __device__ float* at(int head, int block, int column) const {
        return data + (static_cast<int64_t>(head) * blocks + block) * 16 * dims + column * 16;
    }

    __device__ float* element(int head, int query, int column) const {
        return at(head, query / 16, column / 8 * 8) + (query % 8 * 4 + column % 8 / 2) * 4 + query % 16 / 8 * 2 +
               column % 2;
    }
};

// A tile of keys as a block finds it, and where among its head's tiles it comes.
struct OrderedKeyTile {
    int tile, firstQuery, lastQuery, unused;
};

// The blocks of the backward kernel: of each head its tiles with the most to do, head by head, so that what a head's
// blocks read stays in the L2 cache; then those of all heads that are left, which are short where lengths differ, and
// even out when multiprocessors finish.
struct KeyTileOrder {
    const OrderedKeyTile* sorted;  // [tiles]
    int tiles, early;              // tiles of keys a head; those that go first
    int parts, heads;              // parts that the query heads of a key head are split into; parts in the whole batch
};

struct HopperBackwardArguments {
    Arguments a;
    CUtensorMap q, k, v, dout;  // boxes of one panel: a tile of queries, or of keys (64 where dQ has its own kernel)
    CUtensorMap dk, dv;         // boxes of 16 keys and 32 columns
    CUtensorMap dqBoxes;        // of 16 queries and 32 columns; where a kernel of its own computes dQ
    GatheredDq dq;              // where none does
    KeyTileOrder order;
    TileOrder queryOrder;       // of that kernel
    bool addsDkv;               // what dk and dv hold stays, or several blocks add to them
    float scoresStart;          // -1 / softmax_scale: what scores start from, times lse
    bool careful;               // the scale is too small or too large for that
    float factorLog2;           // log2(e) times the softcap; without one, times softmax_scale
    CapCurve curve;             // of unit 1
};

// Before hopperBackward(): zeros in dq, and `sorted` from the spans of `tiles` tiles, those with the most queries
// first.
void beginGathering(const GatheredDq& dq, int64_t heads, const QuerySpan* spans, OrderedKeyTile* sorted, int tiles,
                    void* stream);

// After it: dq of the step, or what is added to it, from what was gathered.
void finishGathering(const GatheredDq& from, const flashring_step& step);

template <class Element>
void hopperForward(const HopperArguments& arguments);
template <class Element>
void hopperForwardCapped(const HopperArguments& arguments);  // with a softcap; dims of hopperShapes()
template <class Element>
void hopperForwardSloped(const HopperArguments& arguments);  // with ALiBi, in bfloat16, of a step that does not resume
template <class Element, Shaping kShaping>
void hopperBackward(const HopperBackwardArguments& arguments);  // dims that are not wide
template <class Element, Shaping kShaping>
void hopperBackwardSeparate(const HopperBackwardArguments& arguments);  // dq, too

}  // namespace flashring

#endif
