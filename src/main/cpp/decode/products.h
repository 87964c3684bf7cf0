// The product of few rows of weights with a tile of values, which are read where they lie, one row of memory each.
#ifndef FLASHRING_DECODE_PRODUCTS_H
#define FLASHRING_DECODE_PRODUCTS_H

#include <immintrin.h>

#include <type_traits>

#include "simd/vector.h"

namespace flashring {
namespace {

constexpr int64_t kKeys = 64;      // of a tile
constexpr int64_t kRowBlock = 4;   // rows that share what is loaded
constexpr int kValueVectors = 2;   // of a row of values at a time: a line of float32

// A vector of numbers from anywhere, widened.
inline Vec<double> widenVector(const double* from) { return _mm256_loadu_pd(from); }
inline Vec<float> widenVector(const float* from) { return _mm256_loadu_ps(from); }

inline Vec<float> widenVector(const bfloat16* from) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

inline Vec<float> widenVector(const float16* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

inline Vec<float> widenVector(const float8* from) {
    const __m256i bits = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7f));
    const __m256i sign = _mm256_slli_epi32(_mm256_xor_si256(bits, magnitude), 24);
    const Vec<float> scaled = _mm256_castsi256_ps(_mm256_slli_epi32(magnitude, 20)) * 0x1p120f;
    const __m256i nan = _mm256_slli_epi32(_mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7f)), 23);
    return _mm256_or_ps(scaled, _mm256_castsi256_ps(_mm256_or_si256(nan, sign)));
}

// out[r] = out[r] * decay[r] + sum of weights[j][r] values[j] over the keys [first, last) of a tile, in V vectors of
// columns. A row of weights is of `stride` numbers.
template <int R, int V, class T, class Element>
inline void weighColumns(const T* weights, int64_t stride, const Element* const* values, int64_t column, int64_t first,
                         int64_t last, const T* decay, T* out, int64_t pitch) {
    Vec<T> sum[R][V];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            sum[r][v] = load(out + r * pitch + column + v * kLanes<T>) * decay[r];
        }
    }
    for (int64_t j = first; j < last; ++j) {
        Vec<T> value[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            value[v] = widenVector(values[j] + column + v * kLanes<T>);
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
            const Vec<T> weight = broadcast(weights[j * stride + r]);
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) {
                sum[r][v] += weight * value[v];
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            store(out + r * pitch + column + v * kLanes<T>, sum[r][v]);
        }
    }
}

// The same in all columns, which are whole vectors. Calls meanwhile(column) before it computes those from there on.
template <int R, class T, class Element, class Meanwhile>
void weighValues(const T* weights, int64_t stride, const Element* const* values, int64_t first, int64_t last,
                 const T* decay, T* out, int64_t pitch, const Meanwhile& meanwhile) {
    int64_t column = 0;
    for (; column + kValueVectors * kLanes<T> <= pitch; column += kValueVectors * kLanes<T>) {
        meanwhile(column);
        weighColumns<R, kValueVectors>(weights, stride, values, column, first, last, decay, out, pitch);
    }
    for (; column < pitch; column += kLanes<T>) {
        weighColumns<R, 1>(weights, stride, values, column, first, last, decay, out, pitch);
    }
}

// Calls body with the number of rows of each block, as a type's value, and the first of them.
template <class Body>
void forEachBlock(int64_t rows, const Body& body) {
    int64_t r = 0;
    for (; r + kRowBlock <= rows; r += kRowBlock) {
        body(std::integral_constant<int, kRowBlock>(), r);
    }
    switch (rows - r) {
        case 3:
            return body(std::integral_constant<int, 3>(), r);
        case 2:
            return body(std::integral_constant<int, 2>(), r);
        case 1:
            return body(std::integral_constant<int, 1>(), r);
        default:
            return;
    }
}

}  // namespace
}  // namespace flashring

#endif
