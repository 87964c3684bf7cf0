// Pairs of bfloat16, the operands of dot products that add two terms at a time, and what the kernel on them needs from
// a unit, a struct of static functions for one instruction set:
//
//     Vec<float> dot(Vec<float> sum, Words a, Words b)          sum + both products of each lane
//     Vec<float> multiplyAdd(Vec<float> a, b, c)                a b + c, rounded once
//     Words pairs(Vec<float> first, Vec<float> second)          lane i: (first[i], second[i]), rounded
//     Words row(Vec<float> first, Vec<float> second)            2 kLanes<float> elements side by side, rounded
//     bool anyGreater(Vec<float> a, Vec<float> b)               whether a > b in any lane
//
// Files that include this are compiled without contraction: what is fused is written as multiplyAdd, everywhere else a
// product is rounded before it is added to, so that forward and backward find the same score for the same pair.
#ifndef FLASHRING_AVX512BF16_PAIRS_H
#define FLASHRING_AVX512BF16_PAIRS_H

#include "simd/tiles.h"

namespace flashring {
namespace {

using Word = int32_t;  // a pair: the first element in the low half
typedef Word Words __attribute__((vector_size(kVectorBytes), may_alias));

inline Words load(const Word* address) { return *reinterpret_cast<const Words*>(address); }

inline void store(Word* address, Words value) { *reinterpret_cast<Words*>(address) = value; }

inline int64_t pairsOf(int64_t count) { return (count + 1) / 2; }

inline float half(Word pair, int64_t second) {
    return bitCast<float>(second ? static_cast<uint32_t>(pair) & 0xffff0000u : static_cast<uint32_t>(pair) << 16);
}

// Element (i, d) of rows of which 2k and 2k + 1 are paired.
inline float inPairs(Matrix<const Word> pairs, int64_t i, int64_t d) {
    return half(pairs.data[i / 2 * pairs.stride + d], i % 2);
}

// The rows [first, first + count) of one head, paired along `dim`; what is beyond it becomes 0.
inline void copyPairs(const flashring_tensor& tensor, int64_t b, int64_t first, int64_t count, int64_t head,
                      int64_t dim, Matrix<Word> to) {
    for (int64_t i = 0; i < count; ++i) {
        const bfloat16* const from = row<const bfloat16>(tensor, b, first + i, head);
        Word* const line = to.data + i * to.stride;
        constexpr int64_t elements = 2 * kLanes<float>;
        int64_t d = 0;
        for (; d + elements <= dim; d += elements) {
            memcpy(line + d / 2, from + d, kVectorBytes);
        }
        for (; d < 2 * to.stride; d += 2) {
            const uint32_t low = d < dim ? from[d].bits : 0, high = d + 1 < dim ? from[d + 1].bits : 0;
            line[d / 2] = static_cast<Word>(low | high << 16);
        }
    }
}

// The rows [first, first + count) of one head, rows 2k and 2k + 1 paired; what is beyond `dim` and `count` becomes 0.
inline void interleavePairs(const flashring_tensor& tensor, int64_t b, int64_t first, int64_t count, int64_t head,
                            int64_t dim, Matrix<Word> to) {
    for (int64_t i = 0; i < count; i += 2) {
        const bfloat16* const upper = row<const bfloat16>(tensor, b, first + i, head);
        Word* const line = to.data + i / 2 * to.stride;
        if (i + 1 < count) {
            const bfloat16* const lower = row<const bfloat16>(tensor, b, first + i + 1, head);
            for (int64_t d = 0; d < dim; ++d) {
                line[d] = static_cast<Word>(upper[d].bits | static_cast<uint32_t>(lower[d].bits) << 16);
            }
        } else {
            for (int64_t d = 0; d < dim; ++d) {
                line[d] = static_cast<Word>(upper[d].bits);
            }
        }
        for (int64_t d = dim; d < to.stride; ++d) {
            line[d] = 0;
        }
    }
}

// to[w][i] = from[i][w] for w < words; columns from `count` up to kTile become 0.
inline void transposeWords(Matrix<const Word> from, int64_t count, int64_t words, Matrix<Word> to) {
    for (int64_t w = 0; w < words; ++w) {
        Word* const line = to.data + w * to.stride;
        for (int64_t i = 0; i < count; ++i) {
            line[i] = from.data[i * from.stride + w];
        }
        for (int64_t i = count; i < kTile; ++i) {
            line[i] = 0;
        }
    }
}

// Whether no element of whole rows is infinite or NaN.
inline bool allFinitePairs(Matrix<const Word> matrix, int64_t rows) {
    constexpr Word low = 0x7f80, high = 0x7f800000;
    Word found = 0;
    for (int64_t i = 0; i < rows * matrix.stride; ++i) {
        found |= ((matrix.data[i] & low) == low) | ((matrix.data[i] & high) == high);
    }
    return found == 0;
}

// e^x for x <= 0 within 2e-7 relative, and exactly 1 for 0: 2^n of the nearest integer n to x log2(e), times a minimax
// polynomial of the rest on [-ln(2) / 2, ln(2) / 2]. The addition of `round` leaves n plus the exponent bias in the low
// bits of the sum. Results that would be denormal, and that of -inf, are 0; NaN stays NaN.
template <class Unit>
inline Vec<float> expOfNegative(Vec<float> x) {
    constexpr float round = 0x1.8p23f + 127, underflow = -87.33f;
    constexpr float c[] = {1, 0x1.fffff6p-1f, 0x1.fffdc4p-2f, 0x1.555a6ep-3f, 0x1.573adcp-5f, 0x1.0fa7ecp-7f};
    const Vec<float> shifted = Unit::multiplyAdd(x, broadcast(static_cast<float>(kLog2E)), broadcast(round));
    const Vec<float> n = shifted - round;
    const Vec<float> rest = Unit::multiplyAdd(n, broadcast(-static_cast<float>(kLn2)), x);
    const Vec<float> power = reinterpret_cast<Vec<float>>(reinterpret_cast<Words>(shifted) << 23);
    Vec<float> sum = broadcast(c[5]);
#pragma GCC unroll 8
    for (int i = 4; i >= 0; --i) {
        sum = Unit::multiplyAdd(sum, rest, broadcast(c[i]));
    }
    return x < underflow ? Vec<float>{} : sum * power;
}

}  // namespace
}  // namespace flashring

#endif
