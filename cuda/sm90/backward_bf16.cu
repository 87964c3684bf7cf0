#include "sm90/backward.cuh"

namespace flashring {

template void hopperBackward<__nv_bfloat16, Shaping::None>(const HopperBackwardArguments&);

}  // namespace flashring
