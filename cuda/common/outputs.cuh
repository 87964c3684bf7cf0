// Reading and writing pairs of neighbouring elements in global memory.
#ifndef FLASHRING_CUDA_COMMON_OUTPUTS_CUH
#define FLASHRING_CUDA_COMMON_OUTPUTS_CUH

#include "common/ptx.cuh"

namespace flashring {

// Elements col and col + 1 of a row of `dim`, where they exist. `vector`: rows start on a pair and dim is even.
__device__ inline float2 loadPair(const float* row, int col, int dim, bool vector) {
    if (vector) {
        return col < dim ? *reinterpret_cast<const float2*>(row + col) : float2{};
    }
    return {col < dim ? row[col] : 0, col + 1 < dim ? row[col + 1] : 0};
}

__device__ inline void storePair(float* row, int col, int dim, bool vector, float first, float second) {
    if (vector) {
        if (col < dim) {
            *reinterpret_cast<float2*>(row + col) = {first, second};
        }
        return;
    }
    if (col < dim) {
        row[col] = first;
    }
    if (col + 1 < dim) {
        row[col + 1] = second;
    }
}

template <class Element>
__device__ void storePair(Element* row, int col, int dim, bool vector, float first, float second) {
    if (vector) {
        if (col < dim) {
            *reinterpret_cast<uint32_t*>(row + col) = pack<Element>(first, second);
        }
        return;
    }
    if (col < dim) {
        row[col] = Element(first);
    }
    if (col + 1 < dim) {
        row[col + 1] = Element(second);
    }
}

// Whether four neighbours can be added at once. Where they cannot, lanes add pairs side by side, which touch fewer
// sectors.
#if __CUDA_ARCH__ >= 900
constexpr bool kAddsFour = true;
#else
constexpr bool kAddsFour = false;
#endif

// Adds to four neighbours that start on 16 bytes, each atomically.
__device__ inline void addFour(float* target, float a, float b, float c, float d) {
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(target), "f"(a), "f"(b), "f"(c), "f"(d)
                 : "memory");
}

}  // namespace flashring

#endif
