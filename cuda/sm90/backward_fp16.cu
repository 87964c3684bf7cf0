#include "sm90/backward.cuh"

template void flashring::hopperBackward<__half>(const flashring::HopperBackwardArguments&);
