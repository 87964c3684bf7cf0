// The head dims that kernels on tensor cores exist for.
#ifndef FLASHRING_CUDA_COMMON_HEAD_DIMS_H
#define FLASHRING_CUDA_COMMON_HEAD_DIMS_H

#include <utility>

#include "flashring.h"

namespace flashring {

struct HeadDims {
    int key, value;
};

// Kernels exist for these; others are padded with zeros in shared memory to the first pair that holds them.
constexpr HeadDims kHeadDims[] = {{64, 64}, {96, 96}, {128, 128}, {192, 128}, {192, 192}, {256, 256}};
constexpr int kHeadDimsCount = sizeof kHeadDims / sizeof kHeadDims[0];

template <int kIndex>
using HeadDimsIndex = std::integral_constant<int, kIndex>;

// Calls body with the index, as a type, of the first pair in kHeadDims that holds the step's dims. There always is one.
template <class Body, int kIndex = 0>
void withHeadDims(const flashring_step& step, Body&& body) {
    constexpr HeadDims dims = kHeadDims[kIndex];
    if constexpr (kIndex + 1 < kHeadDimsCount) {
        if (step.head_dim > dims.key || step.value_dim > dims.value) {
            return withHeadDims<Body, kIndex + 1>(step, static_cast<Body&&>(body));
        }
    }
    body(HeadDimsIndex<kIndex>{});
}

}  // namespace flashring

#endif
