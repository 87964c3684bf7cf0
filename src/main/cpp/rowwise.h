// The two elementwise jobs beside attention.
#ifndef FLASHRING_ROWWISE_H
#define FLASHRING_ROWWISE_H

#include "flashring.h"

namespace flashring {

// Both take checked arguments on the host.
void delta(const flashring_step& step);
void combine(const flashring_combine_args& args);

}  // namespace flashring

#endif
