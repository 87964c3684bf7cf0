// New keys and values into a cache.
#ifndef FLASHRING_APPEND_H
#define FLASHRING_APPEND_H

#include "flashring.h"

namespace flashring {

// Checked arguments, whose operands live on the host or on the CUDA device that they name.
void append(const flashring_append_args& args);
void appendOnDevice(const flashring_append_args& args);

}  // namespace flashring

#endif
