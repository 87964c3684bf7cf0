// The kernel for bfloat16 on AVX512_BF16.
namespace flashring {
namespace {
constexpr int kVectorBytes = 64;
constexpr int kBlockRows = 6, kBlockVectors = 4;  // of C in registers: 24 of 32 registers
}  // namespace
}  // namespace flashring

#include <immintrin.h>

#include "avx512bf16/kernel.h"

namespace flashring {
namespace {

// VDPBF16PS takes denormal operands for 0, and makes 0 of sums that would be denormal.
struct Avx512Bf16 {
    static Vec<float> dot(Vec<float> sum, Words a, Words b) {
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }

    static Vec<float> multiplyAdd(Vec<float> a, Vec<float> b, Vec<float> c) { return _mm512_fmadd_ps(a, b, c); }

    static Words row(Vec<float> first, Vec<float> second) {
        return reinterpret_cast<Words>(_mm512_cvtne2ps_pbh(second, first));
    }

    static Words pairs(Vec<float> first, Vec<float> second) {
        const __m512i low = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const __m512i high = _mm512_slli_epi32(_mm512_add_epi32(low, _mm512_set1_epi32(16)), 16);
        const __m512i order = _mm512_or_si512(low, high);
        return reinterpret_cast<Words>(_mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(row(first, second))));
    }

    static bool anyGreater(Vec<float> a, Vec<float> b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
};

bool available() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bf16");
}

}  // namespace

const Kernel kAvx512Bf16 = bf16Kernel<Avx512Bf16>("AVX-512 F, BW, DQ, VL and BF16", available);

}  // namespace flashring
