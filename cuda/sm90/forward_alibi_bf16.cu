#include "sm90/forward.cuh"

template void flashring::hopperForwardSloped<__nv_bfloat16>(const flashring::HopperArguments&);
