// Tiles in shared memory as a warp's products read them, and how a block fills them.
#ifndef FLASHRING_CUDA_SM80_SHARED_TILE_CUH
#define FLASHRING_CUDA_SM80_SHARED_TILE_CUH

#include "common/ptx.cuh"

namespace flashring {

// What createpolicy.fractional.L2::evict_first makes, of all lines.
constexpr uint64_t kEvictFirst = 0x12f0000000000000;

// Copies 16 (or 4) bytes from global to shared memory in the background; zeros where `inside` is false. What is read
// once, the L2 cache fetches 128 bytes at a time, and Hopper's lets it go before all else.
template <bool kReadOnce = false>
__device__ void copy16(uint32_t target, const void* source, bool inside) {
    if constexpr (kReadOnce) {
#if __CUDA_ARCH__ >= 900
        asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2, %3;" ::"r"(target),
                     "l"(source), "r"(inside ? 16 : 0), "l"(kEvictFirst));
#else
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(target), "l"(source),
                     "r"(inside ? 16 : 0));
#endif
    } else {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(inside ? 16 : 0));
    }
}

__device__ inline void copy4(uint32_t target, const void* source, bool inside) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(source), "r"(inside ? 4 : 0));
}

// Waits for every copy of this thread; a barrier then shows them to the block.
__device__ inline void waitForCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// A matrix of 16-bit elements in shared memory. Rows are 16 bytes longer than their elements: the 8 rows of a matrix
// that ldmatrix reads then start in 8 different groups of banks, since all our widths are an even number of 16-byte
// words.
template <int kRows, int kCols>
struct SharedTile {
    static_assert(kCols % 16 == 0, "an even number of 16-byte words");
    static constexpr int kTileRows = kRows, kTileCols = kCols;
    static constexpr int kPitch = kCols + 8;
    static constexpr int kBytes = kRows * kPitch * 2 - 16;  // what follows may lie where the last row would be longer

    char* memory;

    static constexpr uint32_t offset(int row, int col) { return static_cast<uint32_t>((row * kPitch + col) * 2); }
    __device__ uint32_t address(int row, int col) const { return sharedAddress(memory) + offset(row, col); }
    __device__ void storePair(int row, int col, uint32_t pair) const {
        *reinterpret_cast<uint32_t*>(memory + offset(row, col)) = pair;
    }
};

// The words of 16 bytes of a tile that one of kThreads threads fills, the block's or a team of them: every kRowsAtOnce
// rows and kLanes words from its first on.
template <int kThreads, int kRows, int kCols>
struct Share {
    static constexpr int kWords = kCols / 8, kLanes = kWords & -kWords;  // lanes that share a row
    static constexpr int kRowsAtOnce = kThreads / kLanes;
    static_assert(kRows % kRowsAtOnce == 0, "whole passes");

    __device__ static int row() { return threadIdx.x % kThreads / kLanes; }
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
// columns from dim on. In the background where rows are whole 16-byte words (`vector`), by elements otherwise. A column
// holds an element of 16 bits, or two of 8.
template <int kThreads, bool kReadOnce = false, class Element, int kRows, int kCols>
__device__ void load(const SharedTile<kRows, kCols>& tile, const Element* source, int64_t stride, int first, int begin,
                     int end, int dim, bool vector) {
    using Own = Share<kThreads, kRows, kCols>;
    constexpr int kLanes = Own::kLanes, kRowsAtOnce = Own::kRowsAtOnce;
    constexpr int kEach = 2 / sizeof(Element);  // elements of a column
    const int row = Own::row(), col = Own::col();
    const Element* const own = source + (first + row) * stride + col * kEach;
    if (vector) {
        const uint32_t target = tile.address(row, col);
#pragma unroll
        for (int r = 0; r < kRows; r += kRowsAtOnce) {
            const bool inside = first + row + r >= begin && first + row + r < end;
#pragma unroll
            for (int c = 0; c < kCols; c += kLanes * 8) {
                copy16<kReadOnce>(target + tile.offset(r, c), own + r * stride + c * kEach,
                                  inside && (col + c) * kEach < dim);
            }
        }
    } else {
        for (int r = 0; r < kRows; r += kRowsAtOnce) {
            const bool inside = first + row + r >= begin && first + row + r < end;
            for (int c = 0; c < kCols; c += kLanes * 8) {
                for (int e = 0; e < 8 * kEach; ++e) {
                    const bool within = inside && (col + c) * kEach + e < dim;
                    const Element value = within ? own[r * stride + c * kEach + e] : Element{};
                    reinterpret_cast<Element*>(tile.memory + tile.offset(row + r, col + c))[e] = value;
                }
            }
        }
    }
}

}  // namespace flashring

#endif
