// The one table of what can run, and the choice from it.
#ifndef FLASHRING_CAPABILITIES_H
#define FLASHRING_CAPABILITIES_H

#include "kernels.h"

namespace flashring {

struct Capability {
    const Kernel* kernel;
    int32_t dtype;
};

int32_t capabilityCount();
const Capability& capability(int32_t row);

// The highest number of a kernel in the table.
int32_t highestKernel();
bool serves(const Capability& row, flashring_direction direction);

// Whether the row is for the step's shape, dtype, side and kernel.
bool serves(const Capability& row, const flashring_step& step, flashring_direction direction);

// What the step lacks that the kernel needs beyond its row of the table; null where it takes the step. See
// Kernel::unmet.
const char* unmetBy(const Kernel& kernel, const flashring_step& step, flashring_direction direction);

// Whether the row can be chosen here: the machine can run it, and no cap rules it out. Fails where the cap names no
// kernel.
bool available(int32_t row);

// Why it cannot; "" where it can. Valid until this thread asks again.
const char* unavailability(int32_t row);

// The row that will run a step whose shape is checked: the first that serves it and takes its operands, of which those
// without an address count as any. Fails with FLASHRING_UNSUPPORTED when none does, and with FLASHRING_INVALID_ARGUMENT
// where kernels are capped at a name that none has.
int32_t select(const flashring_step& step, flashring_direction direction);

// Fails with FLASHRING_UNSUPPORTED where this process cannot use the device; the host always passes.
void requireDevice(int32_t device);

}  // namespace flashring

#endif
