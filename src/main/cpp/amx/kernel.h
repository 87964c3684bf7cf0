// What the files of the AMX kernel share.
#ifndef FLASHRING_AMX_KERNEL_H
#define FLASHRING_AMX_KERNEL_H

#include "kernels.h"

namespace flashring {

void amxForward(const Problem& problem);
void amxBackward(const Problem& problem);
int64_t amxForwardWorkspace(const flashring_step& step);
int64_t amxBackwardWorkspace(const flashring_step& step);

}  // namespace flashring

#endif
