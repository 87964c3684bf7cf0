#include "sm90/forward.cuh"

template void flashring::hopperForwardCapped<__nv_bfloat16>(const flashring::HopperArguments&);
