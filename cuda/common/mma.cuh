// Tensor-core products of one warp, and the shared-memory tiles that feed them.
#ifndef FLASHRING_CUDA_COMMON_MMA_CUH
#define FLASHRING_CUDA_COMMON_MMA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace flashring {

// Two floats, rounded to Element, the first in the lower half.
template <class Element>
__device__ uint32_t pack(float first, float second);

template <>
__device__ inline uint32_t pack<__nv_bfloat16>(float first, float second) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return reinterpret_cast<const uint32_t&>(pair);
}

template <>
__device__ inline uint32_t pack<__half>(float first, float second) {
    const __half2 pair = __floats2half2_rn(first, second);
    return reinterpret_cast<const uint32_t&>(pair);
}

// sum += 0 * pair, each half by itself.
template <class Element>
__device__ void addZeroTimes(uint32_t& sum, uint32_t pair) {
    if constexpr (__is_same(Element, __nv_bfloat16)) {
        asm("fma.rn.bf16x2 %0, %1, %2, %0;" : "+r"(sum) : "r"(pair), "r"(0));
    } else {
        asm("fma.rn.f16x2 %0, %1, %2, %0;" : "+r"(sum) : "r"(pair), "r"(0));
    }
}

// c [16, 8] += a [16, 16] b [16, 8]. Lane l holds c(l / 4, 2 (l % 4) + {0, 1}), and the same 8 rows below.
template <class Element>
__device__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if constexpr (sizeof(Element) == 2 && __is_same(Element, __nv_bfloat16)) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
}

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
template <bool kTransposed>
__device__ inline void loadMatrices(uint32_t (&r)[4], uint32_t address) {
    if constexpr (kTransposed) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address));
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address));
    }
}

// Copies 16 (or 4) bytes from global to shared memory in the background; zeros where `inside` is false.
__device__ inline void copy16(uint32_t target, const void* source, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(inside ? 16 : 0));
}

__device__ inline void copy4(uint32_t target, const void* source, bool inside) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(source), "r"(inside ? 4 : 0));
}

// Waits for every copy of this thread; a barrier then shows them to the block.
__device__ inline void waitForCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

__device__ inline uint32_t sharedAddress(const void* memory) { return static_cast<uint32_t>(__cvta_generic_to_shared(memory)); }

// 2^x; 0 for -inf.
__device__ inline float exp2Fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// log2(x), within 2^-22 for 1 <= x <= 2; -inf for 0.
__device__ inline float log2Fast(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ inline float reciprocalFast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// A matrix of 16-bit elements in shared memory. Rows are 16 bytes longer than their elements: the 8 rows of a matrix that
// ldmatrix reads then start in 8 different groups of banks, since all our widths are an even number of 16-byte words.
template <int kRows, int kCols>
struct SharedTile {
    static_assert(kCols % 16 == 0, "an even number of 16-byte words");
    static constexpr int kPitch = kCols + 8;
    static constexpr int kBytes = kRows * kPitch * 2 - 16;  // what follows may lie where the last row would be longer

    char* memory;

    static constexpr uint32_t offset(int row, int col) { return static_cast<uint32_t>((row * kPitch + col) * 2); }
    __device__ uint32_t address(int row, int col) const { return sharedAddress(memory) + offset(row, col); }
    __device__ void storePair(int row, int col, uint32_t pair) const { *reinterpret_cast<uint32_t*>(memory + offset(row, col)) = pair; }
};

// The words of 16 bytes of a tile that one of kThreads threads fills: every kRowsAtOnce rows and kLanes words from its first on.
template <int kThreads, int kRows, int kCols>
struct Share {
    static constexpr int kWords = kCols / 8, kLanes = kWords & -kWords;  // lanes that share a row
    static constexpr int kRowsAtOnce = kThreads / kLanes;
    static_assert(kRows % kRowsAtOnce == 0, "whole passes");

    __device__ static int row() { return threadIdx.x / kLanes; }
    __device__ static int col() { return threadIdx.x % kLanes * 8; }

    // Calls body with each word. The thread sees what it copied once it has waited for its copies.
    template <class Body>
    __device__ static void forEachWord(const SharedTile<kRows, kCols>& tile, const Body& body) {
        char* const first = tile.memory + tile.offset(row(), col());
#pragma unroll
        for (int r = 0; r < kRows; r += kRowsAtOnce) {
#pragma unroll
            for (int c = 0; c < kCols; c += kLanes * 8) {
                body(*reinterpret_cast<uint4*>(first + tile.offset(r, c)));
            }
        }
    }
};

// Fills the tile with rows [first, first + kRows) of source [.., dim], with zeros for rows outside [begin, end) and for
// columns from dim on. In the background where rows are whole 16-byte words (`vector`), by elements otherwise.
template <int kThreads, class Element, int kRows, int kCols>
__device__ void load(const SharedTile<kRows, kCols>& tile, const Element* source, int64_t stride, int first, int begin, int end,
                     int dim, bool vector) {
    using Own = Share<kThreads, kRows, kCols>;
    constexpr int kLanes = Own::kLanes, kRowsAtOnce = Own::kRowsAtOnce;
    const int row = Own::row(), col = Own::col();
    const Element* const own = source + (first + row) * stride + col;
    if (vector) {
        const uint32_t target = tile.address(row, col);
#pragma unroll
        for (int r = 0; r < kRows; r += kRowsAtOnce) {
            const bool inside = first + row + r >= begin && first + row + r < end;
#pragma unroll
            for (int c = 0; c < kCols; c += kLanes * 8) {
                copy16(target + tile.offset(r, c), own + r * stride + c, inside && col + c < dim);
            }
        }
    } else {
        for (int r = 0; r < kRows; r += kRowsAtOnce) {
            const bool inside = first + row + r >= begin && first + row + r < end;
            for (int c = 0; c < kCols; c += kLanes * 8) {
                for (int e = 0; e < 8; ++e) {
                    const Element value = inside && col + c + e < dim ? own[r * stride + c + e] : Element(0.0f);
                    reinterpret_cast<Element*>(tile.memory + tile.offset(row + r, col + c))[e] = value;
                }
            }
        }
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
    loadMatrices<kB == Stored::AcrossDepth>(b, base + (kB == Stored::AlongDepth ? Tile::offset(n * 8, k) : Tile::offset(k, n * 8)));
}

// Where this lane's rows of B start.
template <Stored kB, class Tile>
__device__ uint32_t baseOfB(const Tile& b, int first) {
    const int lane = threadIdx.x % 32;
    return kB == Stored::AlongDepth ? b.address(first + lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8)
                                    : b.address(lane % 16, first + lane / 16 * 8);
}

// acc [16 kM, 8 kN] += A [16 kM, kDepth] B [kDepth, 8 kN], both in shared memory from row (or column) aFirst and bFirst on.
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

// acc [16 kM, 8 kN] += A [16 kM, kDepth] B [kDepth, 8 kN], where A is what a product left in registers and B lies [k, n].
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

// Calls body(col, first, second) for the pairs of one accumulator row, m * 16 + half * 8 + lane / 4, that this lane holds.
template <int kM, int kN, class Body>
__device__ void forEachPair(float (&acc)[kM][kN][4], int m, int half, const Body& body) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
        body(n * 8 + threadIdx.x % 4 * 2, acc[m][n][half * 2], acc[m][n][half * 2 + 1]);
    }
}

}  // namespace flashring

#endif
