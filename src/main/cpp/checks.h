// The checks that all entry points share. Each fails with FLASHRING_INVALID_ARGUMENT, naming field, value and rule.
#ifndef FLASHRING_CHECKS_H
#define FLASHRING_CHECKS_H

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "failure.h"

namespace flashring {

template <class... Arguments>
[[noreturn]] void invalid(const char* format, Arguments... arguments) {
    fail(FLASHRING_INVALID_ARGUMENT, format, arguments...);
}

[[noreturn]] inline void invalid(const char* sentence) { fail(FLASHRING_INVALID_ARGUMENT, "%s", sentence); }

using Wide = long long;  // what printf calls int64_t

void requireAtLeast(const char* field, int64_t value, int64_t least);

void requireWithin(const char* field, int32_t value, int32_t first, int32_t last);

// Before anything behind the address is read.
void requireAligned(const char* field, const void* address);

void requireDtype(const char* field, int32_t dtype);

// The size that a caller's struct says it has, `first` being that of the first release.
void checkSize(const char* type, uint32_t size, std::size_t first);

// Fails where a struct of a later release has anything but zeros behind the `known` bytes.
void checkRest(const char* type, const void* given, std::size_t known);

// A struct that a program of any release has filled in, as this release knows it: `given` itself where it is of this
// release, else a copy in `own`, with zeros where that one is older.
template <class Struct>
const Struct& readStruct(const char* name, const char* type, const Struct* given, std::size_t first, Struct& own) {
    if (!given) {
        invalid("%s must not be null", name);
    }
    requireAligned(name, given);
    if (given->size == sizeof own) {
        return *given;
    }
    checkSize(type, given->size, first);
    checkRest(type, given, sizeof own);
    own = {};
    std::memcpy(&own, given, given->size < sizeof own ? given->size : sizeof own);
    own.size = sizeof own;
    return own;
}


struct Shape {
    int64_t batch, seq, heads, dim;
    bool empty() const { return batch == 0 || seq == 0 || heads == 0 || dim == 0; }
};

void checkProduct(const char* what, const Shape& shape, int64_t elementSize);

enum class Access { Read, Write };

void checkTensor(const char* name, const flashring_tensor& tensor, const Shape& shape, int32_t dtype, Access access);

// The same of elements of a size.
void checkSized(const char* name, const flashring_tensor& tensor, const Shape& shape, int64_t size, Access access);

bool sameStrides(const flashring_tensor& a, const flashring_tensor& b);

void requireDistinct(const char* outputName, const flashring_tensor& output, const char* otherName,
                     const flashring_tensor& other);

}  // namespace flashring

#endif
