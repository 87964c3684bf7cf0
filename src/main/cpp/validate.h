// The one native validator. Every function fails with FLASHRING_INVALID_ARGUMENT naming field, value and rule.
#ifndef FLASHRING_VALIDATE_H
#define FLASHRING_VALIDATE_H

#include "flashring.h"

namespace flashring {

// The step as this release knows it, in `own` where it is another's, with shapes, dtype, device, kernel and flags
// checked: what flashring_select and flashring_workspace_bytes read.
const flashring_step& readStep(const flashring_step* given, flashring_step& own);

// The rest of what each entry point reads, once the shape is checked.
void checkForward(const flashring_step& step);
void checkDelta(const flashring_step& step);
void checkBackward(const flashring_step& step);
void checkWorkspace(const flashring_step& step, int64_t needed);

// The arguments in the same way, all checked.
const flashring_merge_args& readMerge(const flashring_merge_args* given, flashring_merge_args& own);
const flashring_combine_args& readCombine(const flashring_combine_args* given, flashring_combine_args& own);

}  // namespace flashring

#endif
