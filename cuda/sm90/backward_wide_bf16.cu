#include "sm90/backward_wide.cuh"

template void flashring::hopperBackwardWide<__nv_bfloat16>(const flashring::HopperBackwardArguments&);
