// The one matrix product of the SIMD kernels: C (+)= A . B on cache-sized tiles, blocked for registers.
#ifndef FLASHRING_SIMD_PRODUCT_H
#define FLASHRING_SIMD_PRODUCT_H

#include "simd/vector.h"

namespace flashring {
namespace {

// Element (i, k) of A is data[i * stride + k], or data[k * stride + i] where it is transposed. Read one at a time, so A
// may lie anywhere; B and C are aligned scratch whose row strides are whole vectors.
enum class Layout { Rows, Transposed };

template <class T>
struct Matrix {
    T* data;
    int64_t stride;

    Matrix<T> from(int64_t row, int64_t column) const { return {data + row * stride + column, stride}; }
    operator Matrix<const T>() const { return {data, stride}; }
};

// What C starts from: 0 or itself; where a factor is given, itself with column j scaled by factor[j]. Or from 0, with
// itself added once to the finished sum.
enum class Initial { Zero, Itself, AddedLast };

template <class T, Layout layout, int R, int V>
inline void block(int64_t depth, Matrix<const T> a, Matrix<const T> b, Matrix<T> c, Initial initial, const T* factor) {
    Vec<T> sum[R][V];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
            const T* const from = c.data + i * c.stride + v * kLanes<T>;
            sum[i][v] = initial == Initial::Itself ? load<T>(from) : Vec<T>{};
            if (factor) {
                sum[i][v] *= load<T>(factor + v * kLanes<T>);
            }
        }
    }
    for (int64_t k = 0; k < depth; ++k) {
        Vec<T> right[V];
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
            right[v] = load<T>(b.data + k * b.stride + v * kLanes<T>);
        }
#pragma GCC unroll 16
        for (int i = 0; i < R; ++i) {
            const Vec<T> left =
                broadcast<T>(layout == Layout::Rows ? a.data[i * a.stride + k] : a.data[k * a.stride + i]);
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) {
                sum[i][v] += left * right[v];
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
            T* const to = c.data + i * c.stride + v * kLanes<T>;
            store<T>(to, initial == Initial::AddedLast ? sum[i][v] + load<T>(to) : sum[i][v]);
        }
    }
}

// One panel of V vectors of columns: blocks of R rows, then the rows left over in ever smaller blocks.
template <class T, Layout layout, int V, int R = kBlockRows>
void panel(int64_t rows, int64_t depth, Matrix<const T> a, Matrix<const T> b, Matrix<T> c, Initial initial,
           const T* factor) {
    for (; rows >= R; rows -= R) {
        block<T, layout, R, V>(depth, a, b, c, initial, factor);
        a.data += layout == Layout::Rows ? R * a.stride : R;
        c.data += R * c.stride;
    }
    if constexpr (R > 1) {
        if (rows > 0) {
            panel<T, layout, V, R - 1>(rows, depth, a, b, c, initial, factor);
        }
    }
}

// C[rows x columns] from A[rows x depth] and B[depth x columns]; columns are rounded up to whole vectors.
template <class T, Layout layout, int V = kBlockVectors>
void product(int64_t rows, int64_t columns, int64_t depth, Matrix<const T> a, Matrix<const T> b, Matrix<T> c,
             Initial initial, const T* factor = nullptr) {
    constexpr int64_t width = V * kLanes<T>;
    for (; columns > width - kLanes<T>; columns -= width) {
        panel<T, layout, V>(rows, depth, a, b, c, initial, factor);
        b.data += width;
        c.data += width;
        factor += factor ? width : 0;
    }
    if constexpr (V > 1) {
        if (columns > 0) {
            product<T, layout, V - 1>(rows, columns, depth, a, b, c, initial, factor);
        }
    }
}

// Scores: a product whose sums over the depth are taken in pieces, each from 0. In one sum a large first term would
// round every one that follows.
template <class T>
void scores(int64_t rows, int64_t columns, int64_t depth, Matrix<const T> a, Matrix<const T> b, Matrix<T> c) {
    constexpr int64_t piece = 64;
    for (int64_t k = 0; k < depth; k += piece) {
        product<T, Layout::Rows>(rows, columns, depth - k < piece ? depth - k : piece, a.from(0, k), b.from(k, 0), c,
                                 k == 0 ? Initial::Zero : Initial::AddedLast);
    }
}

}  // namespace
}  // namespace flashring

#endif
