// Tiles of keys and values from pages.
#ifndef FLASHRING_CUDA_SM80_DECODE_PAGES_CUH
#define FLASHRING_CUDA_SM80_DECODE_PAGES_CUH

#include "sm80/decode_rows.cuh"
#include "sm80/shared_tile.cuh"

namespace flashring {

// Closes the group of copies that this thread has begun since the last one.
__device__ inline void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for this thread's groups of copies but the kNewer last.
template <int kNewer>
__device__ void waitForOlderCopies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kNewer) : "memory");
}

// What the tables say of the page of one key, asked for a tile ahead: nobody waits for it before it is used.
struct PageEntry {
    unsigned long long keys, values;  // addresses, or the first one the page's number
};

// The same of the pieces of a tile: numbers.
template <int kPieces>
struct PageNumbers {
    int of[kPieces];
};

// Where a run of keys starts in k and v, as batch row and key of them.
struct CacheSlot {
    int64_t batch, key;
};

// The rows of a tile from the first on.
template <int kCount, int kRows, int kCols>
__device__ SharedTile<kCount, kCols> rowsOf(const SharedTile<kRows, kCols>& tile, int first) {
    return {tile.memory + tile.offset(first, 0)};
}

// Where the rows of a key and its value start; null where there is nothing to read.
template <class Element>
struct CachedRow {
    const Element *key, *value;
};

// Pages of a power of two of kLeastPage keys or more are found once for all lanes; of others each lane finds the row of
// one key of a tile.
struct Pages {
    const flashring_step& step;
    int pageSize, pageShift, keyHead;

    __device__ int number(int batch, int key) const {
        return step.page_table[batch * step.page_table_stride + (key >> pageShift)];
    }

    template <int kPieces>
    __device__ PageNumbers<kPieces> numbers(const DecodePlace& place) const {
        PageNumbers<kPieces> numbers;
#pragma unroll
        for (int n = 0; n < kPieces; ++n) {
            const int key = place.key + n * kLeastPage;
            const bool seen = key + kLeastPage > place.keys.begin && key < place.keys.end;
            numbers.of[n] = seen ? number(place.batch, key) : 0;
        }
        return numbers;
    }

    // Where the piece of a tile that begins with `key` lies, on the page of this number.
    __device__ CacheSlot slot(int number, int key) const {
        return {clamped(number, step.pages - 1), key & (pageSize - 1)};
    }

    // Entries of pages without a key that is seen are not read.
    __device__ PageEntry ask(const DecodePlace& place) const {
        const int key = place.key + static_cast<int>(threadIdx.x) % 32;
        if (key < place.keys.begin || key >= place.keys.end) {
            return {};
        }
        const int64_t entry = place.batch * step.page_table_stride + key / pageSize;
        if (step.page_table) {
            return {static_cast<unsigned>(step.page_table[entry]), 0};
        }
        return {reinterpret_cast<unsigned long long>(step.k_pages[entry]),
                reinterpret_cast<unsigned long long>(step.v_pages[entry])};
    }

    template <class Element>
    __device__ CachedRow<Element> find(const DecodePlace& place, const PageEntry& entry) const {
        const int key = place.key + static_cast<int>(threadIdx.x) % 32, slot = key % pageSize;
        if (key < place.keys.begin || key >= place.keys.end) {
            return {nullptr, nullptr};
        }
        if (step.page_table) {
            const int64_t page = clamped(static_cast<int32_t>(entry.keys), step.pages - 1);
            return {row<const Element>(step.k, page, slot, keyHead), row<const Element>(step.v, page, slot, keyHead)};
        }
        const auto at = [&](unsigned long long page, const flashring_tensor& tensor) {
            return page && page % sizeof(Element) == 0 ? reinterpret_cast<const Element*>(page) +
                                                             slot * tensor.stride_seq + keyHead * tensor.stride_head
                                                       : nullptr;
        };
        return {at(entry.keys, step.k), at(entry.values, step.v)};
    }
};

// Fills both tiles with the rows that the lanes of each warp know, with zeros for rows that are null and for columns
// from the dims on. In the background where rows are whole 16-byte words (`vector`) and start on one. `any` is an
// address that exists.
template <int kThreads, class Element, int kRows, int kCols>
__device__ void loadRows(const SharedTile<kRows, kCols>& keys, const SharedTile<kRows, kCols>& values,
                         const CachedRow<Element>& known, int keyDim, int valueDim, bool vector, const void* any) {
    using Own = Share<kThreads, kRows, kCols>;
    static_assert(kRows <= 32, "a lane for each row");
    // The widest rows leave no registers for the addresses of several, nor for the choice of an operand.
    constexpr int kEach = 2 / sizeof(Element);  // elements of a column
    constexpr int kAtOnce = kCols > 128 ? 1 : 4, kOperands = kCols > 128 ? 2 : 1;
    const int row = Own::row(), col = Own::col();
#pragma unroll kOperands
    for (int operand = 0; operand < 2; ++operand) {
        const SharedTile<kRows, kCols> tile{operand == 0 ? keys.memory : values.memory};
        const int dim = operand == 0 ? keyDim : valueDim;
        const auto own = reinterpret_cast<unsigned long long>(operand == 0 ? known.key : known.value);
#pragma unroll kAtOnce
        for (int r = 0; r < kRows; r += Own::kRowsAtOnce) {
            const auto address = __shfl_sync(~0u, own, row + r);
            const Element* const source = reinterpret_cast<const Element*>(address) + col * kEach;
            const bool words = vector && address % 16 == 0;
#pragma unroll
            for (int c = 0; c < kCols; c += Own::kLanes * 8) {
                const bool inside = address && (col + c) * kEach < dim;
                if (words) {
                    copy16<true>(tile.address(row + r, col + c),
                                 inside ? static_cast<const void*>(source + c * kEach) : any, inside);
                    continue;
                }
#pragma unroll 1
                for (int e = 0; e < 8 * kEach; ++e) {
                    const bool within = inside && (col + c) * kEach + e < dim;
                    const Element value = within ? source[c * kEach + e] : Element{};
                    reinterpret_cast<Element*>(tile.memory + tile.offset(row + r, col + c))[e] = value;
                }
            }
        }
    }
}

}  // namespace flashring

#endif
