// Moving tiles of rows between operands and scratch.
#ifndef FLASHRING_SIMD_TILES_H
#define FLASHRING_SIMD_TILES_H

#include "kernels.h"
#include "simd/product.h"

namespace flashring {
namespace {

constexpr int64_t kTile = 64;   // queries, and keys, of a tile: one of 128 floats a row fits the first-level cache
constexpr int64_t kPanels = 4;  // tiles that a task holds at most: what it streams is copied once for all of them

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t tiles(int64_t length) { return ceilDiv(length, kTile); }

// Hands out consecutive aligned pieces of a thread's scratch.
class Scratch {
public:
    explicit Scratch(char* memory) : next_(memory) {}

    template <class T>
    T* take(int64_t count) {
        T* const piece = reinterpret_cast<T*>(next_);
        next_ += roundUp(count * static_cast<int64_t>(sizeof(T)), 64);
        return piece;
    }

    template <class T>
    Matrix<T> take(int64_t rows, int64_t columns) {
        return {take<T>(rows * columns), columns};
    }

private:
    char* next_;
};

// The rows [first, first + count) of one head, converted, times a factor where one is given; columns beyond `dim`
// become 0.
template <class T, class Element, class... Factor>
void copyRows(const flashring_tensor& tensor, int64_t b, int64_t first, int64_t count, int64_t head, int64_t dim,
              Matrix<T> to, Factor... factor) {
    for (int64_t i = 0; i < count; ++i) {
        const Element* const from = row<const Element>(tensor, b, first + i, head);
        T* const line = to.data + i * to.stride;
        for (int64_t d = 0; d < dim; ++d) {
            line[d] = (widen(from[d]) * ... * factor);
        }
        for (int64_t d = dim; d < to.stride; ++d) {
            line[d] = 0;
        }
    }
}

// Asks for rows that will be copied soon: each may lie on a page of its own, which no hardware prefetcher foresees.
template <class Element>
void prefetchRows(const flashring_tensor& tensor, int64_t b, int64_t first, int64_t end, int64_t head, int64_t dim) {
    for (int64_t i = first; i < end; ++i) {
        const Element* const line = row<const Element>(tensor, b, i, head);
        for (int64_t d = 0; d < dim; d += 64 / static_cast<int64_t>(sizeof(Element))) {
            __builtin_prefetch(line + d, 0, 2);
        }
    }
}

// to[d][i] = from[i][d]; columns from `count` up to kTile become 0.
template <class T>
void transpose(Matrix<const T> from, int64_t count, int64_t dim, Matrix<T> to) {
    for (int64_t d = 0; d < dim; ++d) {
        T* const line = to.data + d * to.stride;
        for (int64_t i = 0; i < count; ++i) {
            line[i] = from.data[i * from.stride + d];
        }
        for (int64_t i = count; i < kTile; ++i) {
            line[i] = 0;
        }
    }
}

template <class T>
bool allFinite(Matrix<const T> rows, int64_t count, int64_t dim) {
    T sum = 0;
    for (int64_t i = 0; i < count; ++i) {
        T line[kLanes<T>] = {};
        const T* const from = rows.data + i * rows.stride;
        int64_t d = 0;
        for (; d + kLanes<T> <= dim; d += kLanes<T>) {
            for (int64_t n = 0; n < kLanes<T>; ++n) {
                line[n] += from[d + n] * 0;
            }
        }
        for (; d < dim; ++d) {
            sum += from[d] * 0;
        }
        for (int64_t n = 0; n < kLanes<T>; ++n) {
            sum += line[n];
        }
    }
    return sum == 0;
}

}  // namespace
}  // namespace flashring

#endif
