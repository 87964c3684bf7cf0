// The AMX tile unit: eight registers of 16 rows x 64 bytes. Everything is `static inline`, see elements.h.
//
//     C[16 x 16] float32 += A[16 x 32] bfloat16 * B[32 x 16] bfloat16
//
// Row w of a B tile holds row pairs of the matrix, as the instruction wants them: (b[2w][0], b[2w + 1][0]), (b[2w][1], ...
#ifndef FLASHRING_AMX_TILES_H
#define FLASHRING_AMX_TILES_H

#include <stdint.h>

namespace flashring {

// One register's worth of memory: 16 rows of 64 bytes.
struct alignas(64) Tile {
    unsigned char bytes[1024];
};

constexpr int64_t kTileRows = 16;   // also the float32 columns of a C tile
constexpr int64_t kTileDepth = 32;  // bfloat16 columns of an A tile

// Keeps this thread's tile registers configured, all of full size. Without tiles in use the kernel has less to save when it
// switches threads, hence a scope and not a once-per-thread call.
class TileScope {
public:
    TileScope() {
        struct alignas(64) {
            uint8_t palette = 1, startRow = 0, reserved[14] = {};
            uint16_t rowBytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } config;
        asm volatile("ldtilecfg %0" ::"m"(config));
    }
    ~TileScope() { asm volatile("tilerelease"); }
    TileScope(const TileScope&) = delete;
    TileScope& operator=(const TileScope&) = delete;
};

// The intrinsics of GCC 12 do not tell the compiler which memory they touch, these do.
template <int Register>
static inline void tileLoad(const Tile* tile) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(tile), "r"(INT64_C(64)), "n"(Register), "m"(*tile));
}

template <int Register>
static inline void tileStore(Tile* tile) {
    asm volatile("tilestored %%tmm%c3, (%1,%2,1)" : "=m"(*tile) : "r"(tile), "r"(INT64_C(64)), "n"(Register));
}

template <int Register>
static inline void tileZero() {
    asm volatile("tilezero %%tmm%c0" ::"n"(Register));
}

template <int C, int A, int B>
static inline void tileMultiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"n"(C), "n"(A), "n"(B));
}

// Consecutive tiles along the inner dimension of a product are `step` tiles apart.
struct Panel {
    const Tile* tiles;
    int64_t step;
};

// A 32 x 32 block of C in registers 0 to 3: (0, 0), (0, 1), (1, 0), (1, 1).
static inline void blockZero() {
    tileZero<0>();
    tileZero<1>();
    tileZero<2>();
    tileZero<3>();
}

static inline void blockLoad(const Tile* c00, const Tile* c01, const Tile* c10, const Tile* c11) {
    tileLoad<0>(c00);
    tileLoad<1>(c01);
    tileLoad<2>(c10);
    tileLoad<3>(c11);
}

static inline void blockStore(Tile* c00, Tile* c01, Tile* c10, Tile* c11) {
    tileStore<0>(c00);
    tileStore<1>(c01);
    tileStore<2>(c10);
    tileStore<3>(c11);
}

// C += A B over `depth` tiles of the inner dimension; a1 and b1 are the second 16 rows of A and columns of B.
static inline void blockMultiply(Panel a0, Panel a1, Panel b0, Panel b1, int64_t depth) {
    for (int64_t k = 0; k < depth; ++k) {
        tileLoad<4>(a0.tiles + k * a0.step);
        tileLoad<6>(b0.tiles + k * b0.step);
        tileMultiply<0, 4, 6>();
        tileLoad<7>(b1.tiles + k * b1.step);
        tileMultiply<1, 4, 7>();
        tileLoad<5>(a1.tiles + k * a1.step);
        tileMultiply<2, 5, 6>();
        tileMultiply<3, 5, 7>();
    }
}

}  // namespace flashring

#endif
