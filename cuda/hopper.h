// What the host and the device side of the Hopper kernels share.
#ifndef FLASHRING_CUDA_HOPPER_H
#define FLASHRING_CUDA_HOPPER_H

#include <cuda.h>

#include "attention.h"

namespace flashring {

// Tiles are handed out one by one, the last queries of every head first: under a causal mask they see the most keys, and
// short tiles at the end even out when blocks finish. Documents are as long as they are, and have their tiles sorted.
// Heads go in groups whose keys and values stay in the L2 cache together.
struct TileOrder {
    int tiles, heads;           // tiles of queries a head; heads of the whole batch
    int groups, headsPerGroup;  // the last group also has what is left over
    const int32_t* sorted = nullptr;  // [tiles] in device memory, or null: the last first

    __host__ __device__ int count() const { return tiles * heads; }
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
};

struct HopperBackwardArguments {
    Arguments a;
    CUtensorMap q, k, v, dout;  // boxes of one panel: a tile of queries, or of keys
    CUtensorMap dq;             // boxes of 16 queries and 32 columns
};

template <class Element>
void hopperForward(const HopperArguments& arguments);
template <class Element>
void hopperBackward(const HopperBackwardArguments& arguments);

}  // namespace flashring

#endif
