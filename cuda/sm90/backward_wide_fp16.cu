#include "sm90/backward_wide.cuh"

template void flashring::hopperBackwardWide<__half>(const flashring::HopperBackwardArguments&);
