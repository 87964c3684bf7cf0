// How much workspace a step needs.
#ifndef FLASHRING_WORKSPACE_H
#define FLASHRING_WORKSPACE_H

#include "kernels.h"

namespace flashring {

// The step as it is planned, before its operands have addresses.
flashring_step withoutAddresses(flashring_step step);

// Of a CPU kernel's workspace: lo and hi of Problem come first, then positions, then the kernel's own share.
int64_t intervalBytes(const flashring_step& step);

// Behind them the global positions of queries, then of keys, where the step has ALiBi slopes.
int64_t positionBytes(const flashring_step& step);

// What one kernel needs for the step.
int64_t workspaceBytesOf(const Kernel& kernel, const flashring_step& step, flashring_direction direction);

// What is enough for each of the kernels that may run the step, whatever addresses its operands will have and whichever
// of this process's devices it will run on.
int64_t mostWorkspaceBytes(const flashring_step& step, flashring_direction direction);

}  // namespace flashring

#endif
