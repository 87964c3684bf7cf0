// Tensor-core products of one warp, on tiles in shared memory.
#ifndef FLASHRING_CUDA_SM80_MMA_CUH
#define FLASHRING_CUDA_SM80_MMA_CUH

#include "sm80/shared_tile.cuh"

namespace flashring {

// c [16, 8] += a [16, 16] b [16, 8]. Lane l holds c(l / 4, 2 (l % 4) + {0, 1}), and the same 8 rows below.
template <class Element>
__device__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if constexpr (sizeof(Element) == 2 && __is_same(Element, __nv_bfloat16)) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, "
            "%1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
            "%2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
}

// How an operand of a product lies in shared memory.
enum class Stored {
    AlongDepth,   // the summed index is contiguous: A as [m, k], B as [n, k]
    AcrossDepth,  // the other one is:               A as [k, m], B as [k, n]
};

// The n-th pair of 8-column fragments of B [16, 16] at depth k.
template <Stored kB, class Tile>
__device__ void loadB(uint32_t (&b)[4], uint32_t base, int n, int k) {
    loadMatrices<kB == Stored::AcrossDepth>(
        b, base + (kB == Stored::AlongDepth ? Tile::offset(n * 8, k) : Tile::offset(k, n * 8)));
}

// Where this lane's rows of B start.
template <Stored kB, class Tile>
__device__ uint32_t baseOfB(const Tile& b, int first) {
    const int lane = threadIdx.x % 32;
    return kB == Stored::AlongDepth ? b.address(first + lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8)
                                    : b.address(lane % 16, first + lane / 16 * 8);
}

// acc [16 kM, 8 kN] += A [16 kM, kDepth] B [kDepth, 8 kN], both in shared memory from row (or column) aFirst and bFirst
// on.
template <class Element, int kDepth, Stored kA, Stored kB, int kM, int kN, class TileA, class TileB>
__device__ void multiply(float (&acc)[kM][kN][4], const TileA& a, int aFirst, const TileB& b, int bFirst) {
    const int lane = threadIdx.x % 32;
    const uint32_t aBase = kA == Stored::AlongDepth ? a.address(aFirst + lane % 16, lane / 16 * 8)
                                                    : a.address(lane / 16 * 8 + lane % 8, aFirst + lane / 8 % 2 * 8);
    const uint32_t bBase = baseOfB<kB>(b, bFirst);
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
        uint32_t fragment[kM][4];
#pragma unroll
        for (int m = 0; m < kM; ++m) {
            loadMatrices<kA == Stored::AcrossDepth>(
                fragment[m], aBase + (kA == Stored::AlongDepth ? TileA::offset(m * 16, k) : TileA::offset(k, m * 16)));
        }
#pragma unroll
        for (int n = 0; n < kN; n += 2) {
            uint32_t pair[4];
            loadB<kB, TileB>(pair, bBase, n, k);
#pragma unroll
            for (int m = 0; m < kM; ++m) {
                mma<Element>(acc[m][n], fragment[m], pair[0], pair[1]);
                mma<Element>(acc[m][n + 1], fragment[m], pair[2], pair[3]);
            }
        }
    }
}

// acc [16 kM, 8 kN] += A [16 kM, kDepth] B [kDepth, 8 kN], where A is what a product left in registers and B lies [k,
// n].
template <class Element, int kDepth, int kM, int kN, class TileB>
__device__ void multiply(float (&acc)[kM][kN][4], const float (&a)[kM][kDepth / 8][4], const TileB& b) {
    static_assert(kN % 2 == 0, "B is read in pairs");
    const uint32_t bBase = baseOfB<Stored::AcrossDepth>(b, 0);
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
        uint32_t fragment[kM][4];
#pragma unroll
        for (int m = 0; m < kM; ++m) {
            const float(&left)[4] = a[m][k / 8], (&right)[4] = a[m][k / 8 + 1];
            fragment[m][0] = pack<Element>(left[0], left[1]);
            fragment[m][1] = pack<Element>(left[2], left[3]);
            fragment[m][2] = pack<Element>(right[0], right[1]);
            fragment[m][3] = pack<Element>(right[2], right[3]);
        }
#pragma unroll
        for (int n = 0; n < kN; n += 2) {
            uint32_t pair[4];
            loadB<Stored::AcrossDepth, TileB>(pair, bBase, n, k);
#pragma unroll
            for (int m = 0; m < kM; ++m) {
                mma<Element>(acc[m][n], fragment[m], pair[0], pair[1]);
                mma<Element>(acc[m][n + 1], fragment[m], pair[2], pair[3]);
            }
        }
    }
}

template <int kM, int kN>
__device__ void clear(float (&acc)[kM][kN][4]) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int n = 0; n < kN; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                acc[m][n][e] = 0;
            }
        }
    }
}

// Calls body(col, first, second) for the pairs of one accumulator row, m * 16 + half * 8 + lane / 4, that this lane
// holds.
template <int kM, int kN, class Body>
__device__ void forEachPair(float (&acc)[kM][kN][4], int m, int half, const Body& body) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
        body(n * 8 + threadIdx.x % 4 * 2, acc[m][n][half * 2], acc[m][n][half * 2 + 1]);
    }
}

}  // namespace flashring

#endif
