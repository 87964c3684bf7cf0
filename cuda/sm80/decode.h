// How a step of few queries against many keys is cut: its query heads are packed, its keys are split over teams of warps.
#ifndef FLASHRING_CUDA_SM80_DECODE_H
#define FLASHRING_CUDA_SM80_DECODE_H

#include <cuda_runtime.h>

#include "kernels.h"
#include "rounding.h"

namespace flashring {

constexpr int kMaxDecodeRows = 64;             // queries times the query heads of a key head
constexpr int kDecodeDims[] = {64, 128, 256};  // others are padded with zeros in shared memory, not in what is read for them

// A team of warps, with 16 rows or 32 each, takes every so many-th tile of `keys` keys into `stages` buffers of its own: no team waits for
// another, and while one waits for its copies or its products, others compute. A block has as many teams as its shared memory and 8 warps
// allow. Two fragments of rows a warp use what is read from shared memory twice, and fill each other's waits; with 256 dims there
// are no registers for them.
struct DecodeTile {
    int rowWarps, fragments, keys, stages;

    constexpr int teamThreads() const { return rowWarps * 32; }
    constexpr int teamBytes(int dim) const { return stages * 2 * keys * (dim + 8) * 2; }
};

constexpr int kMaxDecodeThreads = 256;

// For up to 16, 32 and 64 rows.
constexpr DecodeTile decodeTile(int dim, int index) {
    return index == 0   ? DecodeTile{.rowWarps = 1, .fragments = 1, .keys = dim == 64 ? 32 : 16, .stages = 3}
           : dim == 256 ? DecodeTile{.rowWarps = 2 * index, .fragments = 1, .keys = 16, .stages = index == 1 ? 3 : 5}
           : index == 1 ? DecodeTile{.rowWarps = 1, .fragments = 2, .keys = dim == 64 ? 32 : 16, .stages = 3}
                        : DecodeTile{.rowWarps = 2, .fragments = 2, .keys = 32, .stages = dim == 64 ? 6 : 3};
}

constexpr int decodeTileIndex(int64_t rows) { return rows <= 16 ? 0 : rows <= 32 ? 1 : 2; }

// The visible keys of a step are tiles, counted through all batch rows. A part is a run of them for one block, none longer than another by
// more than one tile.
struct DecodeCut {
    int begin, end;    // the local keys that any query sees
    int row, tiles;    // tiles of a batch row, and of all
    int parts, least, longer;  // the first `longer` parts have one tile more than the least

    __host__ __device__ DecodeCut(int first, int last, int keys, int batch, int mostParts)
        : begin(first), end(last), row(first < last ? ceilDiv(last - first, keys) : 0), tiles(batch * row),
          parts(tiles < mostParts ? tiles : mostParts), least(parts ? tiles / parts : 0), longer(tiles - least * parts) {}

    // The first tile of a part.
    __host__ __device__ int firstOf(int part) const { return part * least + (part < longer ? part : longer); }

    // The part that holds a tile.
    __host__ __device__ int partOf(int tile) const {
        const int inLonger = longer * (least + 1);
        return tile < inLonger ? tile / (least + 1) : longer + (tile - inLonger) / least;
    }
};

// What both kernels read. Each team leaves the state of each batch row of its part that it has a tile of: the output over its keys and
// its lse. A part and the next batch row, or the same row and the next part, are numbered by part + row.
struct DecodeArguments {
    flashring_step step;
    float scale, scaleLog2;
    bool vectorInputs;   // rows of q, k, v start on 16 bytes and are whole 16-byte words
    bool vectorOutputs;  // rows of out and acc start on pairs of elements and are whole pairs
    int group, rows;     // query heads of a key head; times queries
    int blocks, teams;   // of a key head; of a block
    int keys, pitch;     // of a tile; of a row of `out`
    int width;           // columns that a block merges
    int2* seen;          // begin and end of the cut
    float* out;          // [blocks + batch - 1, teams, kv_heads, rows, pitch]
    float2* lse;         // [blocks + batch - 1, teams, kv_heads, rows] and what rounding took from it

    __host__ __device__ int64_t state(int part, int batch, int team, int keyHead, int row) const {
        return ((int64_t{part + batch} * teams + team) * step.kv_heads + keyHead) * rows + row;
    }
    __device__ DecodeCut cut(int begin, int end) const { return {begin, end, keys, static_cast<int>(step.batch), blocks}; }
};

template <class Element>
void decodeStep(const DecodeArguments& arguments);

}  // namespace flashring

#endif
