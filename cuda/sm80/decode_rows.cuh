// Which keys the teams of a decode step walk over where batch rows have lengths of their own: planned from what is in
// device memory at the time, by every block alike.
#ifndef FLASHRING_CUDA_SM80_DECODE_ROWS_CUH
#define FLASHRING_CUDA_SM80_DECODE_ROWS_CUH

#include "sm80/decode.h"
#include "visibility.h"

namespace flashring {

// The keys that the queries of a batch row see: [begin, end).
struct DecodeSpan {
    int begin, end;

    // Tiles lie at multiples of their size, so that what is in a tile does not depend on where the span begins.
    __device__ int firstKey(int keys) const { return begin / keys * keys; }
    __device__ int tiles(int keys) const { return begin < end ? ceilDiv(end, keys) - begin / keys : 0; }
};

__device__ inline DecodeSpan spanOf(const flashring_step& step, int batch) {
    const BatchRow row = batchRow(step, batch);
    if (row.queries == 0) {
        return {0, 0};
    }
    const int64_t first = visible(step, row, 0).first, last = visible(step, row, row.queries - 1).last;
    return {static_cast<int>(first), static_cast<int>(last)};
}

// A tile of the cut: the one that begins with `key`, of a batch row whose queries see `keys`.
struct DecodePlace {
    int batch, key;
    DecodeSpan keys;

    __device__ bool startsRow() const { return key <= keys.begin; }

    // Whether it is the last one of its row.
    __device__ bool endsRow(int size) const { return key + size >= keys.end; }

    // On to the next tile, of the next row that has any where this one ends. Of a whole warp.
    __device__ void advance(const flashring_step& step, int size, bool ownRows) {
        const bool stays = !endsRow(size);
        key += size;
        if (stays) {
            return;
        }
        if (!ownRows) {
            ++batch;
            key = keys.firstKey(size);
            return;
        }
        const int lane = threadIdx.x % 32, rows = static_cast<int>(step.batch);
        for (int first = batch + 1; first < rows; first += 32) {
            const DecodeSpan own = first + lane < rows ? spanOf(step, first + lane) : DecodeSpan{0, 0};
            const unsigned some = __ballot_sync(~0u, own.begin < own.end);
            if (some) {
                const int found = __ffs(static_cast<int>(some)) - 1;
                batch = first + found;
                keys = {__shfl_sync(~0u, own.begin, found), __shfl_sync(~0u, own.end, found)};
                key = keys.firstKey(size);
                return;
            }
        }
    }
};

// In shared memory: sums over a block's warps, and where its teams start, as batch row and tile of it.
struct DecodeScan {
    int sums[kMaxDecodeThreads / 32];
    int2 starts[kMaxDecodeThreads / 32];
};

// Calls body(row, tiles, tiles of the rows before it) for every batch row, each by one thread of the block; returns the
// sum.
template <class Body>
__device__ int forEachRow(const DecodeArguments& a, DecodeScan& scan, const Body& body) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, rows = static_cast<int>(a.step.batch);
    int total = 0;
    for (int first = 0; first < rows; first += blockDim.x) {
        const int row = first + threadIdx.x;
        const int tiles = row < rows ? spanOf(a.step, row).tiles(a.keys) : 0;
        int sum = tiles;
        for (int lanes = 1; lanes < 32; lanes *= 2) {
            const int other = __shfl_up_sync(~0u, sum, lanes);
            sum += lane >= lanes ? other : 0;
        }
        if (lane == 31) {
            scan.sums[warp] = sum;
        }
        __syncthreads();
        int before = total + sum - tiles;
        for (int w = 0; w < static_cast<int>(blockDim.x) / 32; ++w) {
            before += w < warp ? scan.sums[w] : 0;
            total += scan.sums[w];
        }
        __syncthreads();
        if (row < rows) {
            body(row, tiles, before);
        }
    }
    return total;
}

// The cut of rows of their own, which block 0 leaves for the merge; and in scan.starts where each team of this block
// starts. Compiled once for all kernels.
__device__ __noinline__ inline DecodeCut planRows(const DecodeArguments& a, DecodeScan& scan, int firstPart) {
    const DecodeCut cut = a.cut(forEachRow(a, scan, [](int, int, int) {}));
    forEachRow(a, scan, [&](int row, int tiles, int before) {
        for (int team = 0; team < a.teams; ++team) {
            const int part = team * a.blocks + firstPart, tile = cut.firstOf(part) - before;
            if (part < cut.parts && tile >= 0 && tile < tiles) {
                scan.starts[team] = {row, tile};
            }
        }
        if (blockIdx.x == 0) {
            a.tiles[row] = before;
        }
    });
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        a.tiles[a.step.batch] = cut.tiles;
    }
    __syncthreads();
    return cut;
}

}  // namespace flashring

#endif
