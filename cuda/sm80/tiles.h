// Every tile size of the mma kernels, with its reasons.
#ifndef FLASHRING_CUDA_SM80_TILES_H
#define FLASHRING_CUDA_SM80_TILES_H

#include "common/head_dims.h"
#include "common/shared_memory.h"

namespace flashring {

// Rows of the tables name every field: nvcc takes one that is left out for 0, whatever its default.

constexpr int kStaticSharedBytes = 32;  // of a kernel's limit, for what it declares beside its tiles

// A block of `warps` warps holds `queries` queries and walks over the keys, `keys` at a time.
//
// 32 queries a warp use each fragment of K and V read from shared memory twice, without which the reads and not the
// products would set the pace; scores and output of 32 x 64 and 32 x 128 then fill the register file (255 a thread at
// two blocks of 4 warps). Wider outputs halve the queries of a warp instead.
//
// With 99 KB, and 100 KB a multiprocessor, two blocks of up to 49 KB fill each other's waits: 128 queries leave room
// for 64 keys of 64 dims (96 spill registers) and for 32 of 96. Wider heads make one block of 8 warps with 16 queries
// each: tensor cores there are half as fast beside the same shared memory, so that fragments need not be used twice,
// and 128 queries still halve what 64 would read from the L2 cache.
struct ForwardTile {
    int queries, keys, warps, blocksPerSm;
};

constexpr ForwardTile forwardTile(HeadDims dims, SharedMemory memory) {
    if (memory == SharedMemory::KB99) {
        return dims.key <= 64      ? ForwardTile{.queries = 128, .keys = 64, .warps = 4, .blocksPerSm = 2}
               : dims.key <= 96    ? ForwardTile{.queries = 128, .keys = 32, .warps = 4, .blocksPerSm = 2}
               : dims.value <= 128 ? ForwardTile{.queries = 128, .keys = 64, .warps = 8, .blocksPerSm = 1}
                                   : ForwardTile{.queries = 128, .keys = 32, .warps = 8, .blocksPerSm = 1};
    }
    return dims.value <= 64    ? ForwardTile{.queries = 128, .keys = 128, .warps = 4, .blocksPerSm = 2}
           : dims.value <= 128 ? ForwardTile{.queries = 128, .keys = 64, .warps = 4, .blocksPerSm = 2}
                               : ForwardTile{.queries = 128, .keys = 64, .warps = 8, .blocksPerSm = 1};
}

// Wider heads than kHeadDims has: one tile everywhere, which fits 99 KB. Two blocks share a multiprocessor with more.
constexpr HeadDims kWideHeadDims{512, 256};
constexpr ForwardTile kWideForwardTile{.queries = 64, .keys = 16, .warps = 4, .blocksPerSm = 1};

// The least set with the same forward tiles.
constexpr SharedMemory forwardSet(SharedMemory memory) {
    return memory == SharedMemory::KB227 ? SharedMemory::KB163 : memory;
}

constexpr bool forwardCompiledFor(int architecture, SharedMemory set) {
    return compiledFor(architecture, set) ||
           (set == SharedMemory::KB163 && compiledFor(architecture, SharedMemory::KB227));
}

// A block of `warps` warps holds `keys` keys and walks over the queries, `queries` at a time. The last three fields
// say how many warps share each product's queries or keys; the rest of the warps split its other side: scores are
// queries x keys, dK and dV keys x dims, dQ queries x dims.
//
// dK and dV stay in registers (128 a thread where keys x dims = 128 x 128). Everything else is read from shared memory.
// Two stages of queries and of dO hide their loads, and save a barrier each, where there is room. With 227 KB there is
// even room for two blocks of 4 warps where dims are 64, which fill each other's waits.
//
// With 99 KB a block is alone. It holds as many keys as fit, as every tile of keys reads all queries and adds to all of
// dQ in the L2 cache; then queries, of which 64 use the fragments of K, V, P and dS better than 32; then second stages.
// At 256 dims 32 x 32 scores are work for 4 of the 8 warps.
struct BackwardTile {
    int queries, keys;
    int warps, blocksPerSm;
    int queryStages, doutStages;
    int scoreQueryWarps, gradientKeyWarps, dqQueryWarps;
};

constexpr BackwardTile backwardTile(HeadDims dims, SharedMemory memory) {
    if (memory == SharedMemory::KB99) {
        if (dims.key <= 64) {
            return {.queries = 64, .keys = 128, .warps = 8, .blocksPerSm = 1, .queryStages = 2, .doutStages = 1,
                    .scoreQueryWarps = 2, .gradientKeyWarps = 4, .dqQueryWarps = 4};
        }
        if (dims.key <= 96) {
            return {.queries = 64, .keys = 64, .warps = 8, .blocksPerSm = 1, .queryStages = 2, .doutStages = 2,
                    .scoreQueryWarps = 4, .gradientKeyWarps = 4, .dqQueryWarps = 4};
        }
        if (dims.key <= 128) {
            return {.queries = 64, .keys = 64, .warps = 8, .blocksPerSm = 1, .queryStages = 1, .doutStages = 1,
                    .scoreQueryWarps = 4, .gradientKeyWarps = 2, .dqQueryWarps = 2};
        }
        if (dims.key <= 192) {
            const int stages = dims.value <= 128 ? 2 : 1;
            return {.queries = 32, .keys = 64, .warps = 8, .blocksPerSm = 1, .queryStages = 2, .doutStages = stages,
                    .scoreQueryWarps = 2, .gradientKeyWarps = 2, .dqQueryWarps = 2};
        }
        return {.queries = 32, .keys = 32, .warps = 8, .blocksPerSm = 1, .queryStages = 2, .doutStages = 1,
                .scoreQueryWarps = 2, .gradientKeyWarps = 1, .dqQueryWarps = 1};
    }
    const bool wide = memory == SharedMemory::KB227;
    const int stages = wide ? 2 : 1;
    if (dims.key <= 64 && wide) {
        return {.queries = 64, .keys = 128, .warps = 4, .blocksPerSm = 2, .queryStages = 2, .doutStages = 2,
                .scoreQueryWarps = 2, .gradientKeyWarps = 4, .dqQueryWarps = 2};
    }
    if (dims.key <= 64) {
        return {.queries = 128, .keys = 128, .warps = 8, .blocksPerSm = 1, .queryStages = 2, .doutStages = 1,
                .scoreQueryWarps = 4, .gradientKeyWarps = 4, .dqQueryWarps = 4};
    }
    if (dims.key <= 96) {
        return {.queries = 64, .keys = 128, .warps = 8, .blocksPerSm = 1, .queryStages = 2, .doutStages = 2,
                .scoreQueryWarps = 2, .gradientKeyWarps = 4, .dqQueryWarps = 4};
    }
    if (dims.key <= 128) {
        return {.queries = 64, .keys = 128, .warps = 8, .blocksPerSm = 1, .queryStages = 2, .doutStages = stages,
                .scoreQueryWarps = 2, .gradientKeyWarps = 4, .dqQueryWarps = 2};
    }
    if (dims.key <= 192) {
        return {.queries = 64, .keys = 64, .warps = 8, .blocksPerSm = 1, .queryStages = 2, .doutStages = stages,
                .scoreQueryWarps = 4, .gradientKeyWarps = 2, .dqQueryWarps = 2};
    }
    return {.queries = 64, .keys = 64, .warps = 8, .blocksPerSm = 1, .queryStages = stages, .doutStages = stages,
            .scoreQueryWarps = 4, .gradientKeyWarps = 2, .dqQueryWarps = 2};
}

}  // namespace flashring

#endif
