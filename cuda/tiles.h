// Every tile size of the mma kernels, with its reasons.
#ifndef FLASHRING_CUDA_TILES_H
#define FLASHRING_CUDA_TILES_H

#include <utility>

#include "flashring.h"

namespace flashring {

struct HeadDims {
    int key, value;
};

// Kernels exist for these; others are padded with zeros in shared memory to the first pair that holds them.
constexpr HeadDims kHeadDims[] = {{64, 64}, {96, 96}, {128, 128}, {192, 128}, {192, 192}, {256, 256}};
constexpr int kHeadDimsCount = sizeof kHeadDims / sizeof kHeadDims[0];

// A block of `warps` warps holds `queries` queries and walks over the keys, `keys` at a time.
//
// 32 queries a warp use each fragment of K and V read from shared memory twice, without which the reads and not the
// products would set the pace; scores and output of 32 x 64 and 32 x 128 then fill the register file (255 a thread at
// two blocks of 4 warps). Wider outputs halve the queries of a warp instead.
struct ForwardTile {
    int queries, keys, warps, blocksPerSm;
};

constexpr ForwardTile forwardTile(HeadDims dims) {
    return dims.value <= 64 ? ForwardTile{128, 128, 4, 2} : dims.value <= 128 ? ForwardTile{128, 64, 4, 2} : ForwardTile{128, 64, 8, 1};
}

// Bytes of shared memory that a block gets on compute capability 8.0, and on 9.0 and newer.
enum class SharedMemory { Ampere = 163 << 10, Hopper = 227 << 10 };

// A block of `warps` warps holds `keys` keys and walks over the queries, `queries` at a time. The last three numbers say
// how many warps share each product's queries or keys; the rest of the warps split its other side: scores are queries x
// keys, dK and dV keys x dims, dQ queries x dims.
//
// dK and dV stay in registers (128 a thread where keys x dims = 128 x 128). Everything else is read from shared memory. Two
// stages of queries and of dO hide their loads, and save a barrier each, where there is room. On Hopper there is even
// room for two blocks of 4 warps where dims are 64, which fill each other's waits.
struct BackwardTile {
    int queries, keys, warps, blocksPerSm, queryStages, doutStages;
    int scoreQueryWarps, gradientKeyWarps, dqQueryWarps;
};

constexpr BackwardTile backwardTile(HeadDims dims, SharedMemory memory) {
    const bool hopper = memory == SharedMemory::Hopper;
    const int stages = hopper ? 2 : 1;
    if (dims.key <= 64) {
        return hopper ? BackwardTile{64, 128, 4, 2, 2, 2, 2, 4, 2} : BackwardTile{128, 128, 8, 1, 2, 1, 4, 4, 4};
    }
    return dims.key <= 96    ? BackwardTile{64, 128, 8, 1, 2, 2, 2, 4, 4}
           : dims.key <= 128 ? BackwardTile{64, 128, 8, 1, 2, stages, 2, 4, 2}
           : dims.key <= 192 ? BackwardTile{64, 64, 8, 1, 2, stages, 4, 2, 2}
                             : BackwardTile{64, 64, 8, 1, stages, stages, 4, 2, 2};
}

template <int kIndex>
using HeadDimsIndex = std::integral_constant<int, kIndex>;

// Calls body with the index, as a type, of the first pair in kHeadDims that holds the step's dims. There always is one.
template <class Body, int kIndex = 0>
void withHeadDims(const flashring_step& step, Body&& body) {
    constexpr HeadDims dims = kHeadDims[kIndex];
    if constexpr (kIndex + 1 < kHeadDimsCount) {
        if (step.head_dim > dims.key || step.value_dim > dims.value) {
            return withHeadDims<Body, kIndex + 1>(step, static_cast<Body&&>(body));
        }
    }
    body(HeadDimsIndex<kIndex>{});
}

}  // namespace flashring

#endif
