// Operands of the AMX kernels, packed into tiles and zero-padded, so that the kernels know neither strides nor tails.
// Everything is `static inline`, see elements.h.
//
// A matrix X[rows x dim] is needed in four forms. Where the inner dimension of a product runs over its rows, 32 at a
// time, row w shares a word with row w + 16: any order will do as long as both operands have it, and in this one two
// vectors of results become operands with a shift and a blend.
//
//     rows         A operand, inner dimension dim    16 rows x 32 of dim
//     columns      B operand, inner dimension dim    the words of `rows` transposed
//     pairs        B operand, inner dimension rows   32 rows x 16 of dim, as 16 rows of words
//     pairColumns  A operand, inner dimension rows   the words of `pairs` transposed
#ifndef FLASHRING_AMX_PACK_H
#define FLASHRING_AMX_PACK_H

#include <immintrin.h>
#include <math.h>

#include "amx/tiles.h"
#include "rounding.h"

namespace flashring {

static inline __mmask16 firstLanes16(int64_t count) {
    return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}

static inline __mmask32 firstLanes32(int64_t count) {
    return count >= 32 ? 0xffffffffu : count <= 0 ? 0 : (1u << count) - 1;
}

// Transposes a 16 x 16 matrix of 32-bit words.
static inline void transpose(__m512i (&r)[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {  // r[i + c], 128-bit lane l: column 4 l + c of rows i to i + 3
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int c = 0; c < 4; ++c) {
        const __m512i even0 = _mm512_shuffle_i32x4(r[c], r[c + 4], 0x88),
                      even1 = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0x88);
        const __m512i odd0 = _mm512_shuffle_i32x4(r[c], r[c + 4], 0xdd),
                      odd1 = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0xdd);
        t[c] = _mm512_shuffle_i32x4(even0, even1, 0x88);
        t[c + 4] = _mm512_shuffle_i32x4(odd0, odd1, 0x88);
        t[c + 8] = _mm512_shuffle_i32x4(even0, even1, 0xdd);
        t[c + 12] = _mm512_shuffle_i32x4(odd0, odd1, 0xdd);
    }
    for (int i = 0; i < 16; ++i) {
        r[i] = t[i];
    }
}

static inline void loadTile(__m512i (&r)[16], const Tile* tile) {
    for (int i = 0; i < 16; ++i) {
        r[i] = _mm512_load_si512(tile->bytes + 64 * i);
    }
}

static inline void storeTile(Tile* tile, const __m512i (&r)[16]) {
    for (int i = 0; i < 16; ++i) {
        _mm512_store_si512(tile->bytes + 64 * i, r[i]);
    }
}

// A strided matrix of bfloat16; reading past its rows or its dim gives zeros.
struct Rows {
    const uint16_t* data;
    int64_t stride;
    int64_t count;
    int64_t dim;

    __m512i load(int64_t row, int64_t column) const {
        return row < count ? _mm512_maskz_loadu_epi16(firstLanes32(dim - column), data + row * stride + column)
                           : _mm512_setzero_si512();
    }
};

// Rows [first, first + 16) to tiles[dim / 32].
static inline void packRows(Tile* tiles, const Rows& x, int64_t first) {
    for (int64_t column = 0; column < x.dim; column += kTileDepth, ++tiles) {
        for (int64_t i = 0; i < kTileRows; ++i) {
            _mm512_store_si512(tiles->bytes + 64 * i, x.load(first + i, column));
        }
    }
}

// Rows [first, first + 16) to tiles[dim / 32].
static inline void packColumns(Tile* tiles, const Rows& x, int64_t first) {
    for (int64_t column = 0; column < x.dim; column += kTileDepth, ++tiles) {
        __m512i words[16];
        for (int64_t i = 0; i < kTileRows; ++i) {
            words[i] = x.load(first + i, column);
        }
        transpose(words);
        storeTile(tiles, words);
    }
}

// Rows [first, first + 32) to pairs[dim / 16] and columns[dim / 16]; either may be null.
static inline void packPairs(Tile* pairs, Tile* pairColumns, const Rows& x, int64_t first) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i low = _mm512_or_si512(lanes, _mm512_slli_epi32(_mm512_add_epi32(lanes, _mm512_set1_epi32(32)), 16));
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    for (int64_t column = 0; column < x.dim; column += kTileDepth) {
        __m512i left[16], right[16];
        for (int64_t w = 0; w < kTileRows; ++w) {
            const __m512i a = x.load(first + w, column), b = x.load(first + kTileRows + w, column);
            left[w] = _mm512_permutex2var_epi16(a, low, b);
            right[w] = _mm512_permutex2var_epi16(a, high, b);
        }
        if (pairs) {
            storeTile(pairs++, left);
            storeTile(pairs++, right);
        }
        if (pairColumns) {
            transpose(left);
            transpose(right);
            storeTile(pairColumns++, left);
            storeTile(pairColumns++, right);
        }
    }
}

// The words of two vectors of float32 as pairs of bfloat16, `first` in the low halves. Halves round up, unlike IEEE
// ties, which takes one addition; a NaN that products of bfloat16 give stays one.
static inline __m512i roundUp(__m512 x) { return _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000)); }

static inline __m512i pairWords(__m512i roundedFirst, __m512i roundedSecond) {
    return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(roundedFirst, 16), roundedSecond);
}

constexpr float kLog2E = 1.44269504f;

// How a score s = fl(scale raw) leads to e^(s - reference). The subtraction comes first, in the units of lse, since it
// is exact where s is near the reference: what follows is the exponential of a small number whatever the size of both.
// Only where the reference itself is small may all be one instruction (`near`): no rounding of s matters then.
constexpr float kNear = 64;  // such weights are off by 4e-6 at most, relative: bfloat16 has 2e-3

// Whether all lanes may be weighed that way; an infinite reference belongs to a query that sees nothing.
static inline bool allNear(__m512 reference) {
    const __m512 magnitude = _mm512_abs_ps(reference);
    const __mmask16 far = _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(kNear), _CMP_GT_OQ);
    return _mm512_mask_cmp_ps_mask(far, magnitude, _mm512_set1_ps(INFINITY), _CMP_NEQ_OQ) == 0;
}

// fl(scale raw): out of the compiler's sight, which would fuse it with the subtraction and leave out the rounding.
static inline __m512 scaledScore(__m512 raw, __m512 scale) {
    __m512 product = _mm512_mul_ps(raw, scale);
    asm("" : "+v"(product));
    return product;
}

// 2^x within 3.0e-6 relative; 1 for 0, 0 for -infinity, NaN for NaN. The minimax polynomial of degree 4 on [0, 1] that
// begins with 1.
static inline __m512 exp2Vector(__m512 x) {
    const __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_set1_ps(1.34266843e-2f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.22424743e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.41280205e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.93044845e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, x);
}

// Lanes [0, count) of positions - base, limited to [0, limit]; 0 in the other lanes.
static inline __m512i localBounds(const int64_t* positions, int64_t count, int64_t base, int64_t limit) {
    __m256i halves[2];
    for (int i = 0; i < 2; ++i) {
        const __mmask8 lanes = static_cast<__mmask8>(firstLanes16(count - 8 * i));
        const __m512i values = _mm512_maskz_loadu_epi64(lanes, positions + 8 * i);
        const __m512i offset = _mm512_maskz_sub_epi64(lanes, values, _mm512_set1_epi64(base));
        const __m512i notBelow = _mm512_max_epi64(offset, _mm512_setzero_si512());
        halves[i] = _mm512_cvtepi64_epi32(_mm512_min_epi64(notBelow, _mm512_set1_epi64(limit)));
    }
    return _mm512_inserti64x4(_mm512_castsi256_si512(halves[0]), halves[1], 1);
}

}  // namespace flashring

#endif
