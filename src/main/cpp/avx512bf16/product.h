// The one matrix product of the kernels on pairs of bfloat16: C (+)= A . B, float32 sums, blocked for registers.
#ifndef FLASHRING_AVX512BF16_PRODUCT_H
#define FLASHRING_AVX512BF16_PRODUCT_H

#include "avx512bf16/pairs.h"

namespace flashring {
namespace {

// Word (i, k) of A is data[i * stride + k], or data[k * stride + i] where it is transposed; B and C are aligned scratch
// whose row strides are whole vectors. `depth` counts pairs. Where a factor is given, column j of C is first scaled by
// factor[j]. Each element is one chain of dot products over the whole depth, in ascending order.
// Never inlined: on its own it keeps sums and addresses in registers.
template <class Unit, Layout layout, int R, int V>
__attribute__((noinline)) void pairBlock(int64_t depth, Matrix<const Word> a, Matrix<const Word> b, Matrix<float> c,
                                         Initial initial, const float* factor) {
    Vec<float> sum[R][V];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
            const float* const from = c.data + i * c.stride + v * kLanes<float>;
            sum[i][v] = initial == Initial::Zero ? Vec<float>{} : load<float>(from);
            if (factor) {
                sum[i][v] *= load<float>(factor + v * kLanes<float>);
            }
        }
    }
    for (int64_t k = 0; k < depth; ++k) {
        Words right[V];
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
            right[v] = load(b.data + k * b.stride + v * kLanes<float>);
        }
#pragma GCC unroll 16
        for (int i = 0; i < R; ++i) {
            const Words left = (layout == Layout::Rows ? a.data[i * a.stride + k] : a.data[k * a.stride + i]) - Words{};
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) {
                sum[i][v] = Unit::dot(sum[i][v], left, right[v]);
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
            store<float>(c.data + i * c.stride + v * kLanes<float>, sum[i][v]);
        }
    }
}

// One panel of V vectors of columns: blocks of R rows, then the rows left over in ever smaller blocks.
template <class Unit, Layout layout, int V, int R = kBlockRows>
void pairPanel(int64_t rows, int64_t depth, Matrix<const Word> a, Matrix<const Word> b, Matrix<float> c,
               Initial initial, const float* factor) {
    for (; rows >= R; rows -= R) {
        pairBlock<Unit, layout, R, V>(depth, a, b, c, initial, factor);
        a.data += layout == Layout::Rows ? R * a.stride : R;
        c.data += R * c.stride;
    }
    if constexpr (R > 1) {
        if (rows > 0) {
            pairPanel<Unit, layout, V, R - 1>(rows, depth, a, b, c, initial, factor);
        }
    }
}

// C[rows x columns] from A[rows x depth] and B[depth x columns]; columns are rounded up to whole vectors.
template <class Unit, Layout layout, int V = kBlockVectors>
void pairProduct(int64_t rows, int64_t columns, int64_t depth, Matrix<const Word> a, Matrix<const Word> b,
                 Matrix<float> c, Initial initial, const float* factor = nullptr) {
    constexpr int64_t width = V * kLanes<float>;
    for (; columns > width - kLanes<float>; columns -= width) {
        pairPanel<Unit, layout, V>(rows, depth, a, b, c, initial, factor);
        b.data += width;
        c.data += width;
        factor += factor ? width : 0;
    }
    if constexpr (V > 1) {
        if (columns > 0) {
            pairProduct<Unit, layout, V - 1>(rows, columns, depth, a, b, c, initial, factor);
        }
    }
}

}  // namespace
}  // namespace flashring

#endif
