#include "checks.h"

#include <utility>

#include "dtypes.h"

namespace flashring {
namespace {

constexpr std::size_t kMostStructBytes = 4096;       // far beyond any release; a size that was never set is often more
constexpr int64_t kMaxBytes = INT64_C(1) << 56;  // beyond any address space; keeps every offset far from overflow

struct Axis {
    const char* name;
    int64_t length, stride;
};

}  // namespace

void requireAtLeast(const char* field, int64_t value, int64_t least) {
    if (value < least) {
        invalid("%s = %lld must be at least %lld", field, Wide{value}, Wide{least});
    }
}

void requireWithin(const char* field, int32_t value, int32_t first, int32_t last) {
    if (value < first || value > last) {
        invalid("%s = %d must be from %d to %d", field, value, first, last);
    }
}

// Before anything behind the address is read.
void requireAligned(const char* field, const void* address) {
    if (reinterpret_cast<uintptr_t>(address) % alignof(int64_t) != 0) {
        invalid("%s = %p must be aligned to %zu bytes", field, address, alignof(int64_t));
    }
}

void requireDtype(const char* field, int32_t dtype) {
    if (!isDtype(dtype)) {
        invalid("%s = %d must be from 0 to %d", field, dtype, kDtypeCount - 1);
    }
}

void checkSize(const char* type, uint32_t size, std::size_t first) {
    if (size < first || size > kMostStructBytes || size % sizeof(int64_t) != 0) {
        invalid("%s.size = %u must be sizeof(%s): a multiple of %zu from %zu to %zu", type, size, type, sizeof(int64_t),
                first, kMostStructBytes);
    }
}

void checkRest(const char* type, const void* given, std::size_t known) {
    uint32_t size;
    std::memcpy(&size, given, sizeof size);
    const unsigned char* const bytes = static_cast<const unsigned char*>(given);
    for (std::size_t i = known; i < size; ++i) {
        if (bytes[i] != 0) {
            invalid("%s: byte %zu = %d must be 0: flashring %s does not know the field there, of a later release", type,
                    i, bytes[i], FLASHRING_VERSION);
        }
    }
}

void checkProduct(const char* what, const Shape& shape, int64_t elementSize) {
    int64_t bytes = elementSize;
    for (const int64_t factor : {shape.batch, shape.seq, shape.heads, shape.dim}) {
        if (__builtin_mul_overflow(bytes, factor, &bytes) || bytes > kMaxBytes) {
            invalid("%s: %lld x %lld x %lld x %lld elements overflow the address space", what, Wide{shape.batch},
                    Wide{shape.seq}, Wide{shape.heads}, Wide{shape.dim});
        }
    }
}

void checkTensor(const char* name, const flashring_tensor& tensor, const Shape& shape, int32_t dtype, Access access) {
    checkSized(name, tensor, shape, elementBytes(dtype), access);
}

void checkSized(const char* name, const flashring_tensor& tensor, const Shape& shape, int64_t size, Access access) {
    checkProduct(name, shape, size);
    if (shape.empty()) {
        return;
    }
    if (!tensor.data) {
        invalid("%s.data must not be null", name);
    }
    if (reinterpret_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(size) != 0) {
        invalid("%s.data = %p must be aligned to its element size, %lld bytes", name, tensor.data, Wide{size});
    }
    Axis axes[] = {{"stride_head", shape.heads, tensor.stride_head},
                   {"stride_seq", shape.seq, tensor.stride_seq},
                   {"stride_batch", shape.batch, tensor.stride_batch}};
    int64_t extent = shape.dim;
    for (const Axis& axis : axes) {
        int64_t reach;
        if (axis.stride < 0) {
            invalid("%s.%s = %lld must not be negative", name, axis.name, Wide{axis.stride});
        }
        if (__builtin_mul_overflow(axis.stride, axis.length - 1, &reach) || reach > kMaxBytes / size - extent) {
            invalid("%s.%s = %lld over %lld elements overflows the address space", name, axis.name, Wide{axis.stride},
                    Wide{axis.length});
        }
        extent += reach;
    }
    if (access == Access::Read) {
        return;
    }
    // Outputs: ordered by stride, each axis must step past everything inside it.
    for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2 - i; ++j) {
            if (axes[j].stride > axes[j + 1].stride) {
                std::swap(axes[j], axes[j + 1]);
            }
        }
    }
    int64_t inner = shape.dim;
    for (const Axis& axis : axes) {
        if (axis.length == 1) {
            continue;
        }
        if (axis.stride < inner) {
            invalid("%s.%s = %lld makes elements of an output overlap: it must be at least %lld", name, axis.name,
                    Wide{axis.stride}, Wide{inner});
        }
        inner += axis.stride * (axis.length - 1);
    }
}

bool sameStrides(const flashring_tensor& a, const flashring_tensor& b) {
    return a.stride_batch == b.stride_batch && a.stride_seq == b.stride_seq && a.stride_head == b.stride_head;
}

void requireDistinct(const char* outputName, const flashring_tensor& output, const char* otherName,
                     const flashring_tensor& other) {
    if (output.data && output.data == other.data) {
        invalid("%s.data = %p must not be %s.data", outputName, output.data, otherName);
    }
}

}  // namespace flashring
