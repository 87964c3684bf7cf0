// Forward and backward on pairs of bfloat16 as an entry of the capability table.
#ifndef FLASHRING_AVX512BF16_KERNEL_H
#define FLASHRING_AVX512BF16_KERNEL_H

#include "avx512bf16/backward.h"
#include "avx512bf16/forward.h"

namespace flashring {
namespace {

template <class Unit>
void bf16Forward(const Problem& problem) {
    runForward<Bf16ForwardTask<Unit>>(problem, kPanels);
}

template <class Unit>
void bf16Backward(const Problem& problem) {
    runBackward<float, Bf16BackwardTask<Unit>>(problem, kPanels);
}

inline int64_t bf16WorkspaceBytes(const flashring_step& step, flashring_direction direction) {
    return direction == FLASHRING_FORWARD ? 0 : turnBytes(step);
}

template <class Unit>
constexpr Kernel bf16Kernel(const char* requirement, bool (*available)()) {
    return Kernel{FLASHRING_KERNEL_AVX512BF16,       "avx512bf16",       requirement,       available,
                  bf16Forward<Unit>, bf16Backward<Unit>, bf16WorkspaceBytes}
        .serving(FLASHRING_SINKS);
}

}  // namespace
}  // namespace flashring

#endif
