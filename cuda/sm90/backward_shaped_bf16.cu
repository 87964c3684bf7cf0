#include "sm90/backward.cuh"

template void flashring::hopperBackward<__nv_bfloat16, flashring::Shaping::Softcap>(const flashring::HopperBackwardArguments&);
template void flashring::hopperBackward<__nv_bfloat16, flashring::Shaping::Alibi>(const flashring::HopperBackwardArguments&);
