// Element types and their conversions. Everything is `static inline`: files compiled for different instruction sets
// include this, and the linker must never merge their copies.
#ifndef FLASHRING_ELEMENTS_H
#define FLASHRING_ELEMENTS_H

#include <stdint.h>
#include <string.h>

#include "dtypes.h"

namespace flashring {

struct bfloat16 {
    uint16_t bits;
};

struct float16 {
    uint16_t bits;
};

// e4m3 of the OCP 8-bit formats: 4 bits of exponent, 3 of fraction, no infinity. What caches may hold.
struct float8 {
    uint8_t bits;
};

template <class To, class From>
static inline To bitCast(From value) {
    static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
    To result;
    memcpy(&result, &value, sizeof result);
    return result;
}

static inline double widen(double value) { return value; }
static inline float widen(float value) { return value; }
static inline float widen(bfloat16 value) { return bitCast<float>(static_cast<uint32_t>(value.bits) << 16); }

// Moves exponent and fraction in place, then corrects the bias with one exact product, which also handles denormals.
static inline float widen(float16 value) {
    const uint32_t magnitude = static_cast<uint32_t>(value.bits & 0x7fff) << 13;
    const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
    const float scaled = bitCast<float>(magnitude) * 0x1p112f;
    const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;  // infinity or NaN
    return bitCast<float>(bitCast<uint32_t>(scaled) | special | sign);
}

// The same way; of the largest exponent, all bits of the fraction are NaN.
static inline float widen(float8 value) {
    const uint32_t magnitude = value.bits & 0x7fu, sign = static_cast<uint32_t>(value.bits & 0x80u) << 24;
    const float scaled = bitCast<float>(magnitude << 20) * 0x1p120f;
    return bitCast<float>((magnitude == 0x7f ? 0x7fc00000u : bitCast<uint32_t>(scaled)) | sign);
}

// Rounding is to nearest, ties to even; NaN stays NaN.
template <class Element>
struct Narrow;

template <>
struct Narrow<double> {
    static inline double from(double value) { return value; }
};

template <>
struct Narrow<float> {
    static inline float from(float value) { return value; }
};

template <>
struct Narrow<bfloat16> {
    static inline bfloat16 from(float value) {
        const uint32_t bits = bitCast<uint32_t>(value);
        const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        const uint32_t quiet = (bits >> 16) | 0x40u;
        return {static_cast<uint16_t>(value != value ? quiet : rounded)};
    }
};

template <>
struct Narrow<float16> {
    static inline float16 from(float value) {
        const uint32_t bits = bitCast<uint32_t>(value);
        const uint32_t magnitude = bits & 0x7fffffffu;
        const uint32_t sign = (bits >> 16) & 0x8000u;
        uint32_t half;
        if (magnitude > 0x7f800000u) {
            half = 0x7e00u;
        } else if (magnitude >= 0x477ff000u) {  // 65520 and above round to infinity
            half = 0x7c00u;
        } else if (magnitude < 0x38800000u) {   // denormal: the addition of 0.5 rounds at the right bit
            half = bitCast<uint32_t>(bitCast<float>(magnitude) + 0.5f) - 0x3f000000u;
        } else {
            half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
        }
        return {static_cast<uint16_t>(half | sign)};
    }
};

// What is larger becomes the largest.
template <>
struct Narrow<float8> {
    static inline float8 from(float value) {
        const uint32_t bits = bitCast<uint32_t>(value);
        const uint32_t magnitude = bits & 0x7fffffffu;
        uint32_t narrow;
        if (magnitude > 0x7f800000u) {
            narrow = 0x7fu;
        } else if (magnitude >= 0x43e00000u) {  // 448
            narrow = 0x7eu;
        } else if (magnitude < 0x3c800000u) {  // denormal: the addition of 2^14 rounds at the right bit
            narrow = bitCast<uint32_t>(bitCast<float>(magnitude) + 0x1p14f) - 0x46800000u;
        } else {
            narrow = (magnitude - 0x3c000000u + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20;
        }
        return {static_cast<uint8_t>(narrow | (bits >> 24 & 0x80u))};
    }
};

// What sums of an element are kept in. Only of the types that are named here: another one does not compile.
template <class Element>
struct Accumulator;

template <>
struct Accumulator<double> {
    using type = double;
};

template <>
struct Accumulator<float> {
    using type = float;
};

template <>
struct Accumulator<bfloat16> {
    using type = float;
};

template <>
struct Accumulator<float16> {
    using type = float;
};

// Whether the table of types speaks of Element where it says `dtype`.
template <class Element>
static constexpr bool isElementOf(int32_t dtype) {
    return sizeof(Element) == elementBytes(dtype) &&
           sizeof(typename Accumulator<Element>::type) == elementBytes(accumulatorType(dtype));
}

static_assert(kDtypeCount == 4 && isElementOf<double>(FLASHRING_FLOAT64) && isElementOf<float>(FLASHRING_FLOAT32) &&
                  isElementOf<bfloat16>(FLASHRING_BFLOAT16) && isElementOf<float16>(FLASHRING_FLOAT16),
              "the table of types and withElement go together");

// Calls body with a value of the element type that dtype names, and returns what it returns. A dtype that
// flashring_library.h gains and this lacks is an error of the compiler; a number that is none has been refused by
// readStep or readCombine.
template <class Body>
static inline auto withElement(int32_t dtype, Body&& body) {
    switch (static_cast<flashring_dtype>(dtype)) {
        case FLASHRING_FLOAT64: return body(double());
        case FLASHRING_FLOAT32: return body(float());
        case FLASHRING_BFLOAT16: return body(bfloat16());
        case FLASHRING_FLOAT16: return body(float16());
    }
    __builtin_unreachable();
}

}  // namespace flashring

#endif
