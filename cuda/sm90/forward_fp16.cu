#include "sm90/forward.cuh"

template void flashring::hopperForward<__half>(const flashring::HopperArguments&);
