// What the copy engine knows of a tensor.
#ifndef FLASHRING_CUDA_SM90_MAPS_H
#define FLASHRING_CUDA_SM90_MAPS_H

#include <cuda.h>

#include "sm90/reach.h"

namespace flashring {

// Makes a map of a tensor with boxes of 128 bytes of `rows` rows; false where the copy engine does not reach it.
bool encode(CUtensorMap& map, const Copied& copied, int rows);

// The same of an operand without which a kernel cannot be, and which it was asked about before.
void map(CUtensorMap& map, const Copied& copied, int rows);

}  // namespace flashring

#endif
