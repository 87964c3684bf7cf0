#include "hopper_backward.cuh"

template void flashring::hopperBackward<__half>(const flashring::HopperBackwardArguments&);
