// How a step of few queries against many keys is cut: its query heads are packed, its keys are split over teams of
// warps.
#ifndef FLASHRING_CUDA_SM80_DECODE_H
#define FLASHRING_CUDA_SM80_DECODE_H

#include <cuda_runtime.h>

#include "common/attention.h"
#include "common/shared_memory.h"
#include "kernels.h"
#include "rounding.h"

namespace flashring {

constexpr int kDecodeDims[] = {64, 128,
                               256};  // others are padded with zeros in shared memory, not in what is read for them

// A team of warps, 16 rows each, walks over a run of keys, `keys` at a time in `stages` buffers of its own: no team
// waits for another, and while one waits for its copies or its products, others compute. A block has as many teams as
// its shared memory and 8 warps allow.
struct DecodeTile {
    int rowWarps, keys, stages;

    constexpr int teamThreads() const { return rowWarps * 32; }
    constexpr int teamBytes(int dim) const { return stages * 2 * keys * (dim + 8) * 2; }
};

constexpr int kDecodeTiles = 3;  // of 16, 32 and 64 rows
constexpr int kMaxDecodeThreads = 256;
constexpr int kDecodeStaticBytes = 3 << 9;  // of shared memory, for what the kernel declares beside its buffers
constexpr int kLeastDecodeTiles = 3;        // of a part, where there are so many
constexpr int kLeastPage = 16;              // keys of the smallest pages that are found once for all lanes

// On Hopper more rows than that go by products of whole warpgroups (sm90/decode.cuh), in tiles of 64 rows: bytes
// sooner, as each of them is widened once for all rows.
constexpr int hopperDecodeRows(bool float8) { return float8 ? 16 : 32; }
constexpr int kHopperDecodeKeys = 64, kHopperDecodeTeams = 2, kHopperDecodeDim = 128;

// By warps of 16 rows and a merge behind them; by warpgroups of 64 rows and the same (Hopper); by warps whose blocks, a
// cluster for each key head, merge themselves (Hopper, short caches).
enum class DecodeWay { Warps, Warpgroups, Cluster };

constexpr int kClusterBlocks = 8;       // the most that every device takes
constexpr int kMostClusterKeys = 4096;  // of all batch rows: beyond, eight blocks read for too long

// Keys of a part where bits may not depend on the batch: few leave many states to merge, many leave teams without work.
constexpr int decodeStretch(int64_t rows) { return rows <= 16 ? 256 : rows <= 32 ? 512 : 1024; }

constexpr DecodeTile decodeTile(int dim, int index) {
    return index == 0   ? DecodeTile{.rowWarps = 1, .keys = dim == 64 ? 32 : 16, .stages = 3}
           : index == 1 ? DecodeTile{.rowWarps = 2, .keys = dim == 256 ? 16 : 32, .stages = dim == 64 ? 6 : 3}
                        : DecodeTile{.rowWarps = 4, .keys = dim == 256 ? 16 : 32, .stages = 5};
}

constexpr bool allDecodeTilesFit(SharedMemory memory) {
    bool fit = true;
    for (const int dim : kDecodeDims) {
        for (int index = 0; index < kDecodeTiles; ++index) {
            fit &= decodeTile(dim, index).teamBytes(dim) + kDecodeStaticBytes <= static_cast<int>(memory);
        }
    }
    return fit;
}
static_assert(allDecodeTilesFit(SharedMemory::KB99), "a team everywhere");

// Of rows of bytes there are but two tiles: each is one more kernel to compile.
constexpr int decodeTileIndex(int64_t rows, bool float8) { return rows <= 16 ? 0 : rows <= 32 && !float8 ? 1 : 2; }

// The dims whose tiles of 16-bit elements are as long as those of bytes; of bytes they are padded to 128 or 256.
constexpr int decodeTileDim(int dim, bool float8) { return float8 ? dim / 2 : dim; }

// The visible keys of a step are tiles, counted through all batch rows. A part is a run of them for one team. None is
// longer than another by more than one tile, and of short caches each has the tiles that a team asks for at once. Of
// steps that are batch-invariant a tile here is a stretch of keys (DecodeArguments::stretch), and each is a part.
struct DecodeCut {
    int tiles;
    int parts, least, longer;  // the first `longer` parts have one tile more than the least

    __host__ __device__ DecodeCut(int all, int mostParts, int leastTiles)
        : tiles(all),
          parts(ceilDiv(tiles, leastTiles) < mostParts ? ceilDiv(tiles, leastTiles) : mostParts),
          least(parts ? tiles / parts : 0),
          longer(tiles - least * parts) {}

    // The first tile of a part.
    __host__ __device__ int firstOf(int part) const { return part * least + (part < longer ? part : longer); }

    // The part that holds a tile.
    __host__ __device__ int partOf(int tile) const {
        const int inLonger = longer * (least + 1);
        return tile < inLonger ? tile / (least + 1) : longer + (tile - inLonger) / least;
    }
};

// What both kernels read. A part leaves the state of each batch row that it meets: the output over its keys and its
// lse. It lies at part + row: of two states that follow each other one of the two is the next, so that none collide.
struct DecodeArguments {
    flashring_step step;
    float scale, scaleLog2;  // softmax_scale, and times log2(e); of finished scores where they are shaped
    ScoreShape shape;
    bool vectorInputs;   // rows of q, k, v start on 16 bytes and are whole 16-byte words
    bool vectorOutputs;  // rows of out and acc start on pairs of elements and are whole pairs
    int group, rows;     // query heads of a key head; times queries
    int blocks, teams;   // of a key head; of a block
    int keys, pitch;     // of a tile; of a row of `out`
    int stretch;  // keys, whole tiles, that start at its multiples: parts where the step is batch-invariant, else 0
    DecodeWay way;
    bool ownRows;    // batch rows have lengths of their own, or pages
    int pageSize;    // 0: no pages
    int pageShift;   // its logarithm where the pages of a tile are found once for all its keys, else 0
    int32_t* tiles;  // [batch + 1] of all rows before each where they have their own; else of a row
    float* out;      // [parts + batch - 1, kv_heads, rows, pitch]
    float2* lse;     // [parts + batch - 1, kv_heads, rows] and what rounding took from it

    __host__ __device__ int64_t state(int part, int batch, int keyHead, int row) const {
        return (int64_t{part + batch} * step.kv_heads + keyHead) * rows + row;
    }
    __device__ DecodeCut cut(int all) const {
        return stretch > 0 ? DecodeCut{all, all, 1} : DecodeCut{all, blocks * teams, kLeastDecodeTiles};
    }
    __device__ int counted() const { return stretch > 0 ? stretch : keys; }  // keys of what the cut counts
};

// Hopper's kernel, of more than hopperDecodeRows() rows and up to kHopperDecodeDim dims.
void hopperDecode(const DecodeArguments& arguments);

// The one of short caches, of up to 16 rows and kHopperDecodeDim dims.
template <class Element>
void clusterDecode(const DecodeArguments& arguments);

// The kernel over a cache of bytes, whatever the dtype of the step.
void launchFloat8(const DecodeArguments& arguments);

template <class Element>
void decodeStep(const DecodeArguments& arguments);

}  // namespace flashring

#endif
