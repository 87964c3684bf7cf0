// The elementwise jobs beside attention.
#ifndef FLASHRING_ROWWISE_H
#define FLASHRING_ROWWISE_H

#include "flashring.h"

namespace flashring {

// All take checked arguments, whose operands live on the host or on the CUDA device that they name.
void delta(const flashring_step& step);
void combine(const flashring_combine_args& args);
void merge(const flashring_merge_args& args);
void deltaOnDevice(const flashring_step& step);
void combineOnDevice(const flashring_combine_args& args);
void mergeOnDevice(const flashring_merge_args& args);

}  // namespace flashring

#endif
