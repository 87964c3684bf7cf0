#include "sm90/forward.cuh"

template void flashring::hopperForward<__nv_bfloat16>(const flashring::HopperArguments&);
