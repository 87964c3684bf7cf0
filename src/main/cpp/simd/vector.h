// Vectors of the width that the including file names in kVectorBytes, with the compiler's vector extensions. Everything
// here and in the other headers of this folder lives in an unnamed namespace: each instruction set gets its own copy
// that the linker never merges.
#ifndef FLASHRING_SIMD_VECTOR_H
#define FLASHRING_SIMD_VECTOR_H

#include "elements.h"
#include "rounding.h"

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
    return roundUp(count, kLanes<T>);
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

// The same value, unknown to the compiler: where it knows one operand it swaps them, and no single instruction has the
// NaN rule of the swapped minimum or maximum.
template <class V>
inline V opaque(V value) {
    asm("" : "+v"(value));
    return value;
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

// The second where either is NaN.
template <class V>
inline V minimum(V a, V b) {
    return a < b ? a : b;
}

template <class T>
constexpr T kInfinity = static_cast<T>(__builtin_inf());

#ifdef __FMA__
constexpr bool kFused = true;  // a product and a sum are one instruction, and rounded once
#else
constexpr bool kFused = false;
#endif

constexpr double kLog2E = 1.4426950408889634074;
constexpr double kLn2 = 0.69314718055994530942;

// What exp reduces its argument by, and the minimax polynomial of e^r on [-ln2 / 2, ln2 / 2]: errors 3.1e-9 (float) and
// 7.7e-18 (double), relative. Coefficients 0 and 1 are 1, so that e^0 is.
template <class T>
struct Exp;

template <>
struct Exp<float> {
    static constexpr float round = 0x1.8p23f + 127, lowest = -88.03f;
    static constexpr int shift = 23;
    static constexpr float ln2High = 0x1.62e4p-1f, ln2Low = 0x1.7f7d1cp-20f;
    static constexpr float c[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.1239e2p-7f, 0x1.6a2434p-10f};
};

template <>
struct Exp<double> {
    static constexpr double round = 0x1.8p52 + 1023, lowest = -709.09;
    static constexpr int shift = 52;
    static constexpr double ln2High = 0x1.62e42fefa38p-1, ln2Low = 0x1.ef35793c7673p-45;
    static constexpr double c[] = {0x1.0000000000009p-1,
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

// e^r = 1 + (r + r^2 (c[0] + c[1] r + ...)).
template <class T>
inline Vec<T> polynomial(Vec<T> r) {
    using E = Exp<T>;
    constexpr int last = sizeof E::c / sizeof E::c[0] - 1;
    if constexpr (last <= 4 && kFused) {
        Vec<T> sum = r * E::c[last] + E::c[last - 1];
#pragma GCC unroll 16
        for (int i = last - 2; i >= 0; --i) {
            sum = sum * r + E::c[i];
        }
        return (sum * r + 1) * r + 1;
    } else {  // a chain that waits longer: in two halves, c[0] + c[2] r^2 + ... and c[1] + c[3] r^2 + ...
        const Vec<T> square = r * r;
        Vec<T> even = broadcast(E::c[last / 2 * 2]), odd = broadcast(E::c[(last - 1) / 2 * 2 + 1]);
#pragma GCC unroll 16
        for (int i = last / 2 * 2 - 2; i >= 0; i -= 2) {
            even = even * square + E::c[i];
        }
#pragma GCC unroll 16
        for (int i = (last - 1) / 2 * 2 - 1; i >= 1; i -= 2) {
            odd = odd * square + E::c[i];
        }
        return (even + odd * r) * square + r + 1;
    }
}

// e^x for x < 88 (float) or 709 (double): 2^n e^r, n the integer nearest to x / ln2 and |r| <= ln2 / 2. The addition of
// `round` leaves n plus the exponent bias in the low bits of the sum: at `lowest` that is 0, and so is 2^n then. So
// results below the smallest normal number may be 0, and that of -inf is. NaN stays NaN; exp(0) is 1.
template <class T>
inline Vec<T> exp(Vec<T> x) {
    using E = Exp<T>;
    using Int = typename Simd<T>::Int;
    x = maximum(opaque(broadcast(E::lowest)), x);
    const Vec<T> shifted = x * static_cast<T>(kLog2E) + E::round;
    const Vec<T> n = shifted - E::round;
    // Fused, n ln2 is not rounded and ln2 itself is near enough for weights; else the first of two products is exact.
    const Vec<T> rest = kFused ? x - n * static_cast<T>(kLn2) : x - n * E::ln2High - n * E::ln2Low;
    const Vec<T> power = reinterpret_cast<Vec<T>>(reinterpret_cast<Int>(shifted) << E::shift);
    return polynomial<T>(rest) * power;
}

}  // namespace
}  // namespace flashring

#endif
