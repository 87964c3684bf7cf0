// The AMX tile unit: eight registers of 16 rows x 64 bytes. Everything is `static inline`, see elements.h.
//
//     C[16 x 16] float32 += A[16 x 32] bfloat16 * B[32 x 16] bfloat16
//
// Row w of a B tile holds row pairs of the matrix, as the instruction wants them: (b[2w][0], b[2w + 1][0]), (b[2w][1],
// ...
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

// Keeps this thread's tile registers configured, all of full size. Without tiles in use the kernel has less to save
// when it switches threads, hence a scope and not a once-per-thread call.
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

// The four tiles of a 32 x 32 block of C.
struct Block {
    Tile *c00, *c01, *c10, *c11;
};

enum class TileStart { Zero, Load };

// C = A B (TileStart::Zero) or C += A B (TileStart::Load) for a 32 x 32 block of C and `depth` >= 1 tiles of the inner
// dimension; a1 and b1 are the second 16 rows of A and columns of B.
struct Product {
    Block c;
    Panel a0, a1, b0, b1;
    int64_t depth;
    TileStart start;
};

// Products one after the other. The tile unit does not rename its registers: a product that stored all of C at its end
// would hold up the next one, so the lower half is stored inside the next product.
class Products {
public:
    Products() = default;
    Products(const Products&) = delete;
    Products& operator=(const Products&) = delete;
    ~Products() { storeLower(); }

    void multiply(const Product& product) {
        const Block& c = product.c;
        tileLoad<4>(product.a0.tiles);
        tileLoad<6>(product.b0.tiles);
        begin<0>(product.start, c.c00);
        tileMultiply<0, 4, 6>();
        tileLoad<7>(product.b1.tiles);
        begin<1>(product.start, c.c01);
        tileMultiply<1, 4, 7>();
        storeLower();
        tileLoad<5>(product.a1.tiles);
        begin<2>(product.start, c.c10);
        tileMultiply<2, 5, 6>();
        begin<3>(product.start, c.c11);
        tileMultiply<3, 5, 7>();
        for (int64_t k = 1; k < product.depth; ++k) {
            tileLoad<4>(product.a0.tiles + k * product.a0.step);
            tileLoad<6>(product.b0.tiles + k * product.b0.step);
            tileMultiply<0, 4, 6>();
            tileLoad<7>(product.b1.tiles + k * product.b1.step);
            tileMultiply<1, 4, 7>();
            tileLoad<5>(product.a1.tiles + k * product.a1.step);
            tileMultiply<2, 5, 6>();
            tileMultiply<3, 5, 7>();
        }
        tileStore<0>(c.c00);
        tileStore<1>(c.c01);
        lowerLeft_ = c.c10;
        lowerRight_ = c.c11;
    }

private:
    template <int Register>
    static void begin(TileStart start, const Tile* c) {
        if (start == TileStart::Zero) {
            tileZero<Register>();
        } else {
            tileLoad<Register>(c);
        }
    }

    void storeLower() {
        if (lowerLeft_) {
            tileStore<2>(lowerLeft_);
            tileStore<3>(lowerRight_);
        }
    }

    Tile* lowerLeft_ = nullptr;
    Tile* lowerRight_ = nullptr;
};

}  // namespace flashring

#endif
