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

template <class T>
constexpr T kInfinity = static_cast<T>(__builtin_inf());

constexpr double kLog2E = 1.4426950408889634074;
constexpr double kLn2 = 0.69314718055994530942;

template <class T>
struct Exp2;

template <>
struct Exp2<float> {
    static constexpr float round = 0x1.8p23f + 127, underflow = -126;
    static constexpr int shift = 23;
    static constexpr float c[] = {1, 0x1.62e430p-1f, 0x1.ebfbe0p-3f, 0x1.c6aeccp-5f,
                                   0x1.3b2a1cp-7f, 0x1.5f48c0p-10f, 0x1.444000p-13f};
};

template <>
struct Exp2<double> {
    static constexpr double round = 0x1.8p52 + 1023, underflow = -1022;
    static constexpr int shift = 52;
    static constexpr double c[] = {1, 0x1.62e42fefa39f2p-1, 0x1.ebfbdff82c596p-3,
                                   0x1.c6b08d70491bbp-5, 0x1.3b2ab6fba2500p-7, 0x1.5d87fe7b6970dp-10,
                                   0x1.43091307a8d4ap-13, 0x1.ffcbef3124659p-17, 0x1.62bfd99f06163p-20,
                                   0x1.b5406b96fdf5cp-24, 0x1.e5fc666450e4dp-28, 0x1.c08f918323217p-32};
};

// 2^x for x < 128 (float) or 1024 (double): 2^n of the nearest integer n times a minimax polynomial of the rest on
// [-1/2, 1/2]. The addition of `round` leaves n plus the exponent bias in the low bits of the sum. Results that would be
// denormal, and those of -inf, are 0; NaN stays NaN.
template <class T>
inline Vec<T> exp2(Vec<T> x) {
    using E = Exp2<T>;
    using Int = typename Simd<T>::Int;
    constexpr int terms = sizeof E::c / sizeof E::c[0];
    const Vec<T> shifted = x + E::round;
    const Vec<T> rest = x - (shifted - E::round);
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
