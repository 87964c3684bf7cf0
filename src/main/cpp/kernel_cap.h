// The highest kernel that may be chosen: the variable FLASHRING_MAX_KERNEL, or what flashring_set_max_kernel() said
// last.
#ifndef FLASHRING_KERNEL_CAP_H
#define FLASHRING_KERNEL_CAP_H

#include <cstdint>

namespace flashring {

// Rules out the kernels that the table lists before `name` on the same side (host or CUDA); "" lifts the cap. `origin`
// says in messages who capped. A name that no kernel has is kept, so that requireKnownCap() refuses it.
void capKernels(const char* name, const char* origin);

// Fails with FLASHRING_INVALID_ARGUMENT where the cap names no kernel.
void requireKnownCap();

bool ruledOut(int32_t row);

const char* capName();    // "" where there is no cap
const char* capOrigin();

}  // namespace flashring

#endif
