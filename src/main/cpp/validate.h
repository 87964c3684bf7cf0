// The one native validator. Every function fails with FLASHRING_INVALID_ARGUMENT naming field, value and rule.
#ifndef FLASHRING_VALIDATE_H
#define FLASHRING_VALIDATE_H

#include "flashring.h"

namespace flashring {

// Shapes, dtype, device, kernel and flags: what flashring_select and flashring_workspace_bytes read.
void checkShape(const flashring_step* step);

// The rest of what each entry point reads, once the shape is checked.
void checkForward(const flashring_step& step);
void checkDelta(const flashring_step& step);
void checkBackward(const flashring_step& step);
void checkWorkspace(const flashring_step& step, int64_t needed);

void checkCombine(const flashring_combine_args* args);

}  // namespace flashring

#endif
