// How a step of few queries against many keys is cut: its query heads are packed, its keys are split over the multiprocessors.
#ifndef FLASHRING_CUDA_SM80_DECODE_H
#define FLASHRING_CUDA_SM80_DECODE_H

#include <cuda_runtime.h>

#include "kernels.h"
#include "rounding.h"

namespace flashring {

constexpr int kDecodeKeys = 64;                // of a tile
constexpr int kMaxDecodeRows = 64;             // queries times the query heads of a key head
constexpr int kDecodeDims[] = {64, 128, 256};  // others are padded with zeros in shared memory, not in what is read for them

// A block's warps: `rowWarps` of 16 rows each, times `keyWarps` that share the keys of a tile. A warp's part of the keys is a multiple
// of the 16 that one product sums over; more warps of rows read each key once more from shared memory.
struct DecodeTile {
    int rowWarps, keyWarps;

    constexpr int threads() const { return rowWarps * keyWarps * 32; }
};

constexpr DecodeTile kDecodeTiles[] = {{1, 4}, {2, 4}, {4, 2}};

// The visible keys of a step are tiles, counted through all batch rows. A part is a run of them, a block for each key head, so that the
// heads of one key are read side by side. There are no more parts than tiles.
struct DecodeCut {
    int begin, end;      // the local keys that any query sees
    int64_t row, tiles;  // tiles of a batch row, and of all
    int64_t parts;

    __host__ __device__ DecodeCut(int first, int last, int64_t batch, int64_t mostParts)
        : begin(first), end(last), row(first < last ? ceilDiv(last - first, kDecodeKeys) : 0), tiles(batch * row),
          parts(tiles < mostParts ? tiles : mostParts) {}

    // The first tile of a part.
    __host__ __device__ int64_t firstOf(int64_t part) const { return part * tiles / parts; }

    // The part that holds a tile.
    __host__ __device__ int64_t partOf(int64_t tile) const {
        int64_t part = tile * parts / tiles;
        while (firstOf(part + 1) <= tile) {
            ++part;
        }
        return part;
    }
};

// What both kernels read. A part leaves the state of each batch row that it meets, one for each warp of keys: the output over its keys
// and its lse. A part and the next batch row, or the same row and the next part, are numbered by part + row.
struct DecodeArguments {
    flashring_step step;
    float scale, scaleLog2;
    bool vectorInputs;   // rows of q, k, v start on 16 bytes and are whole 16-byte words
    bool vectorOutputs;  // rows of out and acc start on pairs of elements and are whole pairs
    int group, rows;     // query heads of a key head; times queries
    int parts, stages, keyWarps, pitch;
    int2* seen;          // begin and end of the cut
    float* out;          // [parts + batch - 1, kv_heads, keyWarps, rows, pitch]
    float2* lse;         // [parts + batch - 1, kv_heads, keyWarps, rows] and what rounding took from it

    __host__ __device__ int64_t state(int64_t part, int64_t batch, int64_t keyHead, int keyWarp, int row) const {
        return (((part + batch) * step.kv_heads + keyHead) * keyWarps + keyWarp) * rows + row;
    }
};

template <class Element>
void decodeStep(const DecodeArguments& arguments);

}  // namespace flashring

#endif
