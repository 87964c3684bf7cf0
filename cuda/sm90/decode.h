// The decode kernel of Hopper: its tiles, and what host and device share.
#ifndef FLASHRING_CUDA_SM90_DECODE_H
#define FLASHRING_CUDA_SM90_DECODE_H

#include <cuda.h>

#include "sm80/decode.h"

namespace flashring {

struct HopperDecodeArguments {
    DecodeArguments a;
    int boxKeys;  // of a tile, or of a page where that is smaller; 0 where the copy engine does not reach the cache
    CUtensorMap k, v;  // boxes of so many keys and 128 bytes
};

template <class Element>
void hopperDecodeStep(const HopperDecodeArguments& arguments);

}  // namespace flashring

#endif
