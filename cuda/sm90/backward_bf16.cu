#include "sm90/backward.cuh"

template void flashring::hopperBackward<__nv_bfloat16, flashring::Shaping::None>(const flashring::HopperBackwardArguments&);
