#include "sm90/backward.cuh"

namespace flashring {

template void hopperBackward<__nv_bfloat16, Shaping::Softcap>(const HopperBackwardArguments&);
template void hopperBackward<__nv_bfloat16, Shaping::Alibi>(const HopperBackwardArguments&);

}  // namespace flashring
