// Caches of float8 (e4m3) in the decode kernel: bytes become float16 in registers, which holds each of them exactly. So
// do the queries, each row times a power of two that brings it into float16's range. Tiles of bytes are read as 16-bit
// pairs: a fragment has other columns than one of 16-bit elements. Of 16 columns a lane of a quad has 4 that follow
// each other.
#ifndef FLASHRING_CUDA_SM80_DECODE_FLOAT8_CUH
#define FLASHRING_CUDA_SM80_DECODE_FLOAT8_CUH

#include "common/elements.cuh"
#include "sm80/decode.h"
#include "sm80/mma.cuh"

namespace flashring {

// Weights are at most 1: times this, float16 has the small ones, too.
constexpr float kWeightFactor = 32768;

// The two bytes of the lower half (or upper) as float16.
template <int kHalf>
__device__ uint32_t widenPair(uint32_t bytes) {
#if __CUDA_ARCH__ >= 890
    uint32_t pair;
    const auto own = static_cast<uint16_t>(kHalf == 0 ? bytes : bytes >> 16);
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"(own));
    return pair;
#else
    const uint32_t own = __byte_perm(bytes, 0, kHalf == 0 ? 0x4140 : 0x4342), magnitude = own & 0x007f007f;
    const uint32_t small = magnitude << 7 | (own & 0x00800080) << 8;  // 2^-8 of it
    const uint32_t nan = __vcmpeq2(magnitude, 0x007f007f) & 0x7fff7fff;
    uint32_t pair;
    asm("mul.f16x2 %0, %1, %2;" : "=r"(pair) : "r"(small), "r"(0x5c005c00));
    return pair | nan;
#endif
}

// A warp's 16 rows of queries as in loadQueries, with a lane's 4 of 16 columns in their order. Returns what the
// products of this lane's two rows are to be multiplied with.
template <int kDim>
__device__ float2 loadFloat8Queries(uint32_t (&fragments)[kDim / 16][4], const DecodeArguments& a, int batch,
                                    int keyHead, int firstRow) {
    const int lane = threadIdx.x % 32, dim = static_cast<int>(a.step.head_dim);
    const bool bf16 = a.step.dtype == FLASHRING_BFLOAT16;
    const float scale = scaleOfHead(a.step.k_scales, keyHead);
    const auto widened = [&](uint32_t pair) {
        return bf16 ? float2{__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000)}
                    : __half22float2(reinterpret_cast<const __half2&>(pair));
    };
    const auto powerOf2 = [](int exponent) { return __uint_as_float(static_cast<uint32_t>(127 + exponent) << 23); };
    float factors[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int r = firstRow + half * 8 + lane / 4;
        const uint16_t* const q =
            r < a.rows ? row<const uint16_t>(a.step.q, batch, r / a.group, keyHead * a.group + r % a.group) : nullptr;
        float top = 0;  // of what is finite
        const auto raise = [&](float x) { top = fmaxf(top, fabsf(x) < INFINITY ? fabsf(x) : 0); };
#pragma unroll
        for (int m = 0; m < kDim / 16; ++m) {
            const int col = m * 16 + lane % 4 * 4;
            uint2 four{};
            if (q && a.vectorInputs) {
                four = col < dim ? *reinterpret_cast<const uint2*>(q + col) : four;
            } else if (q) {
                const auto at = [&](int d) -> uint32_t { return d < dim ? q[d] : 0; };
                four = {at(col) | at(col + 1) << 16, at(col + 2) | at(col + 3) << 16};
            }
            fragments[m][half] = four.x;
            fragments[m][half + 2] = four.y;
            for (const uint32_t pair : {four.x, four.y}) {
                raise(widened(pair).x);
                raise(widened(pair).y);
            }
        }
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        const int exponent = top > 0 ? max(static_cast<int>(__float_as_uint(top) >> 23) - 127, -112) - 14 : 0;
        const float down = powerOf2(-exponent);
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n) {
            uint32_t& pair = fragments[n / 2][n % 2 * 2 + half];
            pair = pack<__half>(widened(pair).x * down, widened(pair).y * down);
        }
        factors[half] = scale * powerOf2(exponent);
    }
    return {factors[0], factors[1]};
}

// The products of a warp's rows and a tile of keys.
template <int kDim, int kN, class Tile>
__device__ void multiplyFloat8Keys(float (&scores)[1][kN][4], const uint32_t (&queries)[kDim / 16][4],
                                   const Tile& keys, float2 factors) {
    const uint32_t base = baseOfB<Stored::AlongDepth>(keys, 0);
#pragma unroll
    for (int k = 0; k < kDim; k += 32) {
#pragma unroll
        for (int n = 0; n < kN; n += 2) {
            uint32_t bytes[4];
            loadB<Stored::AlongDepth, Tile>(bytes, base, n, k / 2);
            const auto& first = queries[k / 16];
            const auto& second = queries[k / 16 + 1];
            mma<__half>(scores[0][n], first, widenPair<0>(bytes[0]), widenPair<1>(bytes[0]));
            mma<__half>(scores[0][n + 1], first, widenPair<0>(bytes[2]), widenPair<1>(bytes[2]));
            mma<__half>(scores[0][n], second, widenPair<0>(bytes[1]), widenPair<1>(bytes[1]));
            mma<__half>(scores[0][n + 1], second, widenPair<0>(bytes[3]), widenPair<1>(bytes[3]));
        }
    }
#pragma unroll
    for (auto& pair : scores[0]) {
        pair[0] *= factors.x;
        pair[1] *= factors.x;
        pair[2] *= factors.y;
        pair[3] *= factors.y;
    }
}

// out += weights * values, times kWeightFactor. Of each 16 columns the even ones are in one tile of `out`, the odd ones
// in the next.
template <int kKeys, int kN, class Tile>
__device__ void multiplyFloat8Values(float (&out)[1][kN][4], const float (&weights)[1][kKeys / 8][4],
                                     const Tile& values) {
    const uint32_t base = baseOfB<Stored::AcrossDepth>(values, 0);
#pragma unroll
    for (int k = 0; k < kKeys; k += 16) {
        uint32_t fragment[4];
#pragma unroll
        for (int n = 0; n < 2; ++n) {
            const float(&own)[4] = weights[0][k / 8 + n];
            fragment[n * 2] = pack<__half>(own[0] * kWeightFactor, own[1] * kWeightFactor);
            fragment[n * 2 + 1] = pack<__half>(own[2] * kWeightFactor, own[3] * kWeightFactor);
        }
#pragma unroll
        for (int n = 0; n < kN; n += 4) {
            uint32_t bytes[4];
            loadB<Stored::AcrossDepth, Tile>(bytes, base, n / 2, k);
#pragma unroll
            for (int m = 0; m < 2; ++m) {
                const uint32_t even = __byte_perm(bytes[m * 2], bytes[m * 2 + 1], 0x6420),
                               odd = __byte_perm(bytes[m * 2], bytes[m * 2 + 1], 0x7531);
                mma<__half>(out[0][n + m * 2], fragment, widenPair<0>(even), widenPair<1>(even));
                mma<__half>(out[0][n + m * 2 + 1], fragment, widenPair<0>(odd), widenPair<1>(odd));
            }
        }
    }
}

// Calls body(col, four) for the columns that this lane holds of a row of its two.
template <int kN, class Body>
__device__ void forEachFour(float (&out)[1][kN][4], int half, const Body& body) {
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
        const float(&even)[4] = out[0][n], (&odd)[4] = out[0][n + 1];
        body(n * 8 + threadIdx.x % 4 * 4,
             float4{even[half * 2], odd[half * 2], even[half * 2 + 1], odd[half * 2 + 1]});
    }
}

// The highest bit of each byte that is NaN.
__device__ inline uint32_t nanBytes(uint32_t bytes) { return ((bytes & 0x7f7f7f7f) + 0x01010101) & 0x80808080; }

// Whether any of the words that this thread has filled holds NaN.
template <int kThreads, int kRows, int kCols>
__device__ bool anyNan(const SharedTile<kRows, kCols>& tile) {
    uint32_t found = 0;
    Share<kThreads, kRows, kCols>::forEachWord(tile, [&](uint4& word) {
        found |= nanBytes(word.x) | nanBytes(word.y) | nanBytes(word.z) | nanBytes(word.w);
    });
    return found != 0;
}

// Puts 0 in place of NaN in the words that this thread has filled.
template <int kThreads, int kRows, int kCols>
__device__ void clearNan(const SharedTile<kRows, kCols>& tile) {
    const auto cleared = [](uint32_t bytes) { return bytes & ~(nanBytes(bytes) / 0x80 * 0xff); };
    Share<kThreads, kRows, kCols>::forEachWord(tile, [&](uint4& word) {
        word = {cleared(word.x), cleared(word.y), cleared(word.z), cleared(word.w)};
    });
}

// NaN for the columns of `out` in which a value is NaN that sees(half, key) says is seen. Rare, so short and slow.
template <int kN, class Tile, class Sees>
__device__ void spreadNan(float (&out)[1][kN][4], const Tile& values, const Sees& sees) {
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
#pragma unroll 1
        for (int key = 0; key < Tile::kTileRows; ++key) {
            const uint32_t bytes = nanBytes(
                *reinterpret_cast<const uint32_t*>(values.memory + Tile::offset(key, n * 4 + threadIdx.x % 4 * 2)));
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const bool seen = bytes != 0 && sees(half, key);
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    float& own = out[0][n + e % 2][half * 2 + e / 2];
                    own = seen && bytes >> (e * 8 + 7) & 1 ? NAN : own;
                }
            }
        }
    }
}

}  // namespace flashring

#endif
