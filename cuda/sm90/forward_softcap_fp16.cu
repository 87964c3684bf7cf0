#include "sm90/forward.cuh"

template void flashring::hopperForwardCapped<__half>(const flashring::HopperArguments&);
