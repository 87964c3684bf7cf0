// The one table of element types. Everything is `static`, see elements.h.
#ifndef FLASHRING_DTYPES_H
#define FLASHRING_DTYPES_H

#include "flashring.h"

namespace flashring {

struct Dtype {
    const char* name;
    int32_t bytes;
    int32_t accumulator;  // what sums of its elements are kept in
};

// By number.
static constexpr Dtype kDtypes[] = {
    {"float64", 8, FLASHRING_FLOAT64},
    {"float32", 4, FLASHRING_FLOAT32},
    {"bfloat16", 2, FLASHRING_FLOAT32},
    {"float16", 2, FLASHRING_FLOAT32},
};
static constexpr int32_t kDtypeCount = sizeof kDtypes / sizeof kDtypes[0];

static constexpr bool isDtype(int32_t dtype) { return dtype >= 0 && dtype < kDtypeCount; }

// Of a checked dtype.
static constexpr const char* dtypeName(int32_t dtype) { return kDtypes[dtype].name; }
static constexpr int64_t elementBytes(int32_t dtype) { return kDtypes[dtype].bytes; }
static constexpr int32_t accumulatorType(int32_t dtype) { return kDtypes[dtype].accumulator; }

}  // namespace flashring

#endif
