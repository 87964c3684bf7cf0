#include "hopper_backward.cuh"

template void flashring::hopperBackward<__nv_bfloat16>(const flashring::HopperBackwardArguments&);
