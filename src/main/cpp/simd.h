// Vectors of the width that the including file names in kVectorBytes, with the compiler's vector extensions. Everything
// here and in simd_*.h lives in an unnamed namespace: each instruction set gets its own copy that the linker never merges.
#ifndef FLASHRING_SIMD_H
#define FLASHRING_SIMD_H

#include "elements.h"

namespace flashring {
namespace {

template <class T>
struct Simd;

template <>
struct Simd<float> {
    typedef float Vec __attribute__((vector_size(kVectorBytes), may_alias));
    typedef int32_t Int __attribute__((vector_size(kVectorBytes)));
};

template <>
struct Simd<double> {
    typedef double Vec __attribute__((vector_size(kVectorBytes), may_alias));
    typedef int64_t Int __attribute__((vector_size(kVectorBytes)));
};

template <class T>
using Vec = typename Simd<T>::Vec;

template <class T>
constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(T));

template <class T>
inline int64_t wholeVectors(int64_t count) {
    return (count + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// Aligned to the vector.
template <class T>
inline Vec<T> load(const T* address) {
    return *reinterpret_cast<const Vec<T>*>(address);
}

template <class T>
inline void store(T* address, Vec<T> value) {
    *reinterpret_cast<Vec<T>*>(address) = value;
}

template <class T>
inline Vec<T> broadcast(T value) {
    return value - Vec<T>{};
}

// 0, 1, 2, ...
template <class T>
inline Vec<T> laneIndices() {
    Vec<T> indices{};
    for (int64_t i = 0; i < kLanes<T>; ++i) {
        indices[i] = static_cast<T>(i);
    }
    return indices;
}

// The second where either is NaN.
template <class V>
inline V maximum(V a, V b) {
    return a > b ? a : b;
}

// 0 where x is above it; NaN stays NaN.
template <class V>
inline V atMostZero(V x) {
    return x > 0 ? V{} : x;
}

template <class T>
constexpr T kInfinity = static_cast<T>(__builtin_inf());

constexpr double kLog2E = 1.4426950408889634074;
constexpr double kLn2 = 0.69314718055994530942;

// What exp reduces its argument by, and the minimax polynomial of e^r on [-ln2 / 2, ln2 / 2]: errors 3.1e-9 (float) and 7.7e-18
// (double), relative. Coefficients 0 and 1 are 1, so that e^0 is.
template <class T>
struct Exp;

template <>
struct Exp<float> {
    static constexpr float round = 0x1.8p23f + 127, underflow = -0x1.5d589ep6f;
    static constexpr int shift = 23;
    static constexpr float ln2High = 0x1.62e4p-1f, ln2Low = 0x1.7f7d1cp-20f;
    static constexpr float c[] = {1, 1, 0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.1239e2p-7f, 0x1.6a2434p-10f};
};

template <>
struct Exp<double> {
    static constexpr double round = 0x1.8p52 + 1023, underflow = -0x1.6232bdd7abcd2p9;
    static constexpr int shift = 52;
    static constexpr double ln2High = 0x1.62e42fefa38p-1, ln2Low = 0x1.ef35793c7673p-45;
    static constexpr double c[] = {1,
                                   1,
                                   0x1.0000000000009p-1,
                                   0x1.5555555555558p-3,
                                   0x1.55555555503e3p-5,
                                   0x1.111111110f803p-7,
                                   0x1.6c16c18601e8cp-10,
                                   0x1.a01a01b00c2c6p-13,
                                   0x1.a01993b37a9cap-16,
                                   0x1.71ddf6b3f10d1p-19,
                                   0x1.28b410d73d492p-22,
                                   0x1.af632ad6abee8p-26};
};

// e^x for x < 88 (float) or 709 (double): 2^n e^r, n the integer nearest to x / ln2 and |r| <= ln2 / 2. The addition of `round`
// leaves n plus the exponent bias in the low bits of the sum. Results that would be denormal, and those of -inf, are 0; NaN
// stays NaN; exp(0) is 1.
template <class T>
inline Vec<T> exp(Vec<T> x) {
    using E = Exp<T>;
    using Int = typename Simd<T>::Int;
    constexpr int terms = sizeof E::c / sizeof E::c[0];
    const Vec<T> shifted = x * static_cast<T>(kLog2E) + E::round;
    const Vec<T> n = shifted - E::round;
#ifdef __FMA__
    const Vec<T> rest = x - n * static_cast<T>(kLn2);  // fused: n ln2 is not rounded, and ln2 is near enough for weights
#else
    const Vec<T> rest = x - n * E::ln2High - n * E::ln2Low;  // the first product is exact
#endif
    const Vec<T> power = reinterpret_cast<Vec<T>>(reinterpret_cast<Int>(shifted) << E::shift);
    Vec<T> sum = rest * E::c[terms - 1] + E::c[terms - 2];
#pragma GCC unroll 16
    for (int i = terms - 3; i >= 0; --i) {
        sum = sum * rest + E::c[i];
    }
    return x < E::underflow ? Vec<T>{} : sum * power;
}

}  // namespace
}  // namespace flashring

#endif
