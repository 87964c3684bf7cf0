// The kernel for AVX512_BF16 with its instructions written out, by the manual's pseudocode, for any machine with AVX2:
// stands in for avx512bf16/kernel.cpp in a library of its own, so that the tests run the kernel where no processor
// could.
namespace flashring {
namespace {
constexpr int kVectorBytes = 32;
constexpr int kBlockRows = 6, kBlockVectors = 2;
}  // namespace
}  // namespace flashring

#include <immintrin.h>

#include "avx512bf16/kernel.h"

namespace flashring {
namespace {

struct Emulated {
    static Vec<float> withoutDenormals(Vec<float> x) {
        const Vec<float> magnitude = reinterpret_cast<Vec<float>>(reinterpret_cast<Words>(x) & 0x7fffffff);
        return magnitude < 0x1p-126f ? Vec<float>{} : x;
    }

    static Vec<float> low(Words x) { return withoutDenormals(reinterpret_cast<Vec<float>>(x << 16)); }
    static Vec<float> high(Words x) { return withoutDenormals(reinterpret_cast<Vec<float>>(x & ~0xffff)); }

    static Vec<float> dot(Vec<float> sum, Words a, Words b) {
        const Vec<float> upper = withoutDenormals(multiplyAdd(high(a), high(b), withoutDenormals(sum)));
        return withoutDenormals(multiplyAdd(low(a), low(b), upper));
    }

    static Vec<float> multiplyAdd(Vec<float> a, Vec<float> b, Vec<float> c) { return _mm256_fmadd_ps(a, b, c); }

    static uint32_t narrow(float x) {
        const uint32_t bits = bitCast<uint32_t>(x);
        if (x != x) {
            return bits >> 16 | 0x40u;
        }
        if (x > -0x1p-126f && x < 0x1p-126f) {
            return bits >> 16 & 0x8000u;
        }
        const uint32_t rest = bits & 0xffffu, truncated = bits >> 16;
        return rest > 0x8000u || (rest == 0x8000u && truncated % 2 == 1) ? truncated + 1 : truncated;
    }

    static Words row(Vec<float> first, Vec<float> second) {
        Words result{};
        for (int i = 0; i < 4; ++i) {
            result[i] = static_cast<Word>(narrow(first[2 * i]) | narrow(first[2 * i + 1]) << 16);
            result[i + 4] = static_cast<Word>(narrow(second[2 * i]) | narrow(second[2 * i + 1]) << 16);
        }
        return result;
    }

    static Words pairs(Vec<float> first, Vec<float> second) {
        Words result{};
        for (int i = 0; i < 8; ++i) {
            result[i] = static_cast<Word>(narrow(first[i]) | narrow(second[i]) << 16);
        }
        return result;
    }

    static bool anyGreater(Vec<float> a, Vec<float> b) {
        bool result = false;
        for (int i = 0; i < 8; ++i) {
            result = result || a[i] > b[i];
        }
        return result;
    }
};

bool available() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

const Kernel kAvx512Bf16 = bf16Kernel<Emulated>("AVX2 and FMA, for the emulation", available);

}  // namespace flashring
