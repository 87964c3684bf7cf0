// Which keys the teams of a decode step walk over where batch rows have lengths of their own: planned from what is in
// device memory at the time, by every block alike.
#ifndef FLASHRING_CUDA_SM80_DECODE_ROWS_CUH
#define FLASHRING_CUDA_SM80_DECODE_ROWS_CUH

#include "common/sight.cuh"
#include "sm80/decode.h"

namespace flashring {

// The keys that the queries of a batch row see: [begin, end).
struct DecodeSpan {
    int begin, end;

    __device__ bool has(int key) const { return key >= begin && key < end; }

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

// Calls body(row, tiles, tiles of the rows before it, the keys it sees) for every batch row, each by one lane of a
// warp, which all come to each call; until it returns true. Returns the tiles of the rows before that.
template <class Body>
__device__ int forEachRow(const DecodeArguments& a, const Body& body) {
    const int lane = threadIdx.x % 32, rows = static_cast<int>(a.step.batch);
    const int shift = __ffs(a.counted()) - 1;  // a power of two of keys
    int total = 0;
    for (int first = 0; first < rows; first += 32) {
        const int row = first + lane;
        const DecodeSpan keys = row < rows ? spanOf(a.step, row) : DecodeSpan{0, 0};
        const int tiles = keys.begin < keys.end ? ((keys.end - 1) >> shift) + 1 - (keys.begin >> shift) : 0;
        int sum = tiles;
        for (int lanes = 1; lanes < 32; lanes *= 2) {
            const int other = __shfl_up_sync(~0u, sum, lanes);
            sum += lane >= lanes ? other : 0;
        }
        if (body(row, tiles, total + sum - tiles, keys)) {
            break;
        }
        total += __shfl_sync(~0u, sum, 31);
    }
    return total;
}

// The cut, and where a part starts in it and how many tiles it has.
struct DecodeStart {
    DecodeCut cut;
    DecodePlace place;
    int count;

    // Of part `part`, which begins with the n-th of what is counted of a batch row.
    __device__ void begin(const DecodeArguments& a, int part, int batch, const DecodeSpan& keys, int n) {
        const int first = keys.firstKey(a.counted()) + n * a.counted();
        place = {batch, first, keys};
        count = cut.least + (part < cut.longer);
        if (a.stretch > 0) {
            place.key = max(first, keys.firstKey(a.keys));
            count = ceilDiv(min(first + a.stretch, keys.end), a.keys) - place.key / a.keys;
        }
    }
};

// Planned by each warp for itself. The first one leaves what the merge reads.
__device__ __forceinline__ DecodeStart planRows(const DecodeArguments& a, int part) {
    const bool leaves = blockIdx.x == 0 && threadIdx.x < 32;
    DecodeStart start{a.cut(forEachRow(a,
                                       [&](int row, int, int before, const DecodeSpan&) {
                                           if (leaves && row < a.step.batch) {
                                               a.tiles[row] = before;
                                           }
                                           return false;
                                       })),
                      {},
                      0};
    if (leaves && threadIdx.x == 0) {
        a.tiles[a.step.batch] = start.cut.tiles;
    }
    const int wanted = start.cut.firstOf(part);
    if (part < start.cut.parts) {
        forEachRow(a, [&](int row, int tiles, int before, const DecodeSpan& keys) {
            const unsigned holds = __ballot_sync(~0u, wanted >= before && wanted < before + tiles);
            if (holds == 0) {
                return false;
            }
            const int lane = __ffs(static_cast<int>(holds)) - 1;
            const DecodeSpan own{__shfl_sync(~0u, keys.begin, lane), __shfl_sync(~0u, keys.end, lane)};
            start.begin(a, part, __shfl_sync(~0u, row, lane), own, wanted - __shfl_sync(~0u, before, lane));
            return true;
        });
    }
    return start;
}

// The same, compiled once for all kernels.
__device__ __noinline__ inline DecodeStart planRowsApart(const DecodeArguments& a, int part) {
    return planRows(a, part);
}

// What each query sees where all batch rows see the same, in shared memory.
struct DecodeSight {
    int lo[kMaxDecodeRows], hi[kMaxDecodeRows];
};

// Computes that. Run by the whole block.
__device__ __forceinline__ void lookAt(const flashring_step& step, DecodeSight& sight) {
    for (int i = threadIdx.x; i < step.q_len; i += blockDim.x) {
        const Interval seen = Sight(step)(i);
        sight.lo[i] = static_cast<int>(seen.first);
        sight.hi[i] = static_cast<int>(seen.last);
    }
    __syncthreads();
}

// Plans with it.
__device__ __forceinline__ DecodeStart planAlike(const DecodeArguments& a, const DecodeSight& sight, int part) {
    const DecodeSpan all{sight.lo[0], sight.hi[a.step.q_len - 1]};
    const int tiles = all.tiles(a.counted());
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        *a.tiles = tiles;
    }
    DecodeStart start{a.cut(static_cast<int>(a.step.batch) * tiles), {}, 0};
    if (part < start.cut.parts) {
        const int first = start.cut.firstOf(part);
        start.begin(a, part, first / tiles, all, first % tiles);
    }
    return start;
}

// What queries see, by either plan.
struct DecodeSeen {
    const DecodeArguments& a;
    const DecodeSight& sight;
    bool ownRows;

    // What all queries of a batch row see.
    __device__ DecodeSpan byAll(int batch) const {
        const BatchRow row = rowOf(batch);
        return {by(row, static_cast<int>(row.queries) - 1).begin, by(row, 0).end};
    }

    // What a packed row sees; rows past the last do as it does.
    __device__ DecodeSpan byPacked(int batch, int packed) const {
        const BatchRow row = rowOf(batch);
        return by(row, min(packed / a.group, static_cast<int>(row.queries) - 1));
    }

private:
    __device__ BatchRow rowOf(int batch) const {
        return ownRows ? batchRow(a.step, batch) : BatchRow{a.step.q_len, 0, 0};
    }
    __device__ DecodeSpan by(const BatchRow& row, int query) const {
        const Interval seen = ownRows ? visible(a.step, row, query) : Interval{sight.lo[query], sight.hi[query]};
        return {static_cast<int>(seen.first), static_cast<int>(seen.last)};
    }
};

}  // namespace flashring

#endif
