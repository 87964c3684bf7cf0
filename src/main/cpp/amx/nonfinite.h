// NaN and infinity in the operands of the AMX kernels (kernels.h): products of tiles where a border of the mask and
// such a value meet.
#ifndef FLASHRING_AMX_NONFINITE_H
#define FLASHRING_AMX_NONFINITE_H

#include <immintrin.h>

#include "amx/tiles.h"

namespace flashring {

// Whether any bfloat16 of the tiles is infinite or NaN.
static inline bool anyNonFinite(const Tile* tiles, int64_t count) {
    const __m512i exponent = _mm512_set1_epi16(0x7f80);
    __mmask32 found = 0;
    for (int64_t i = 0; i < 16 * count; ++i) {
        found |=
            _mm512_cmpeq_epi16_mask(_mm512_and_si512(_mm512_load_si512(tiles->bytes + 64 * i), exponent), exponent);
    }
    return found != 0;
}

enum class Weights { A, B };

// One tile of C += A B over `depth` tiles of the inner dimension, leaving out the terms whose weight is 0.
template <Weights weights>
static inline void multiplyNonZero(Tile* c, Panel a, Panel b, int64_t depth) {
    const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000));
    for (int64_t k = 0; k < depth; ++k) {
        const uint32_t* const left = reinterpret_cast<const uint32_t*>(a.tiles[k * a.step].bytes);
        const Tile& right = b.tiles[k * b.step];
        for (int64_t row = 0; row < kTileRows; ++row) {
            __m512 sum = _mm512_load_ps(c->bytes + 64 * row);
            for (int64_t word = 0; word < kTileRows; ++word) {
                const __m512i x = _mm512_set1_epi32(static_cast<int32_t>(left[row * kTileRows + word]));
                const __m512i y = _mm512_load_si512(right.bytes + 64 * word);
                const __m512i pairs[2][2] = {{_mm512_slli_epi32(x, 16), _mm512_slli_epi32(y, 16)},
                                             {_mm512_and_si512(x, high), _mm512_and_si512(y, high)}};
                for (const auto& pair : pairs) {
                    const __m512 p = _mm512_castsi512_ps(pair[0]), q = _mm512_castsi512_ps(pair[1]);
                    const __mmask16 counts =
                        _mm512_cmp_ps_mask(weights == Weights::A ? p : q, _mm512_setzero_ps(), _CMP_NEQ_UQ);
                    sum = _mm512_mask3_fmadd_ps(p, q, sum, counts);
                }
            }
            _mm512_store_ps(c->bytes + 64 * row, sum);
        }
    }
}

}  // namespace flashring

#endif
