// Elements of any dtype in device code, by the rules of elements.h.
#ifndef FLASHRING_CUDA_COMMON_ELEMENTS_CUH
#define FLASHRING_CUDA_COMMON_ELEMENTS_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "elements.h"
#include "failure.h"

namespace flashring {

template <>
struct Accumulator<__nv_bfloat16> {
    using type = float;
};

template <>
struct Accumulator<__half> {
    using type = float;
};

// Rounds to nearest, ties to even; float64 reaches 16 bits by way of float32.
template <class Element, class Value>
__device__ Element narrow(Value value) {
    if constexpr (sizeof(Element) == 2) {
        return Element(static_cast<float>(value));
    } else {
        return static_cast<Element>(value);
    }
}

template <class Value, class Element>
__device__ Value widenTo(Element element) {
    if constexpr (sizeof(Element) == 2) {
        return static_cast<Value>(static_cast<float>(element));
    } else {
        return static_cast<Value>(element);
    }
}

// Calls body with a value of the CUDA type that dtype names.
template <class Body>
__host__ __device__ void withDeviceElement(int32_t dtype, const Body& body) {
    switch (static_cast<flashring_dtype>(dtype)) {
        case FLASHRING_FLOAT64: return body(double{});
        case FLASHRING_FLOAT32: return body(float{});
        case FLASHRING_BFLOAT16: return body(__nv_bfloat16{});
        case FLASHRING_FLOAT16: return body(__half{});
    }
#ifndef __CUDA_ARCH__  // what device code switches on has been checked on the host
    fail(FLASHRING_INTERNAL_ERROR, "dtype = %d came to the launch of a kernel", dtype);
#endif
}

// The same for kernels of 16-bit elements, on the host.
template <class Body>
void with16BitElement(int32_t dtype, const Body& body) {
    switch (dtype) {
        case FLASHRING_BFLOAT16: return body(__nv_bfloat16{});
        case FLASHRING_FLOAT16: return body(__half{});
        default: fail(FLASHRING_INTERNAL_ERROR, "dtype = %d came to a kernel of 16-bit elements", dtype);
    }
}

}  // namespace flashring

#endif
