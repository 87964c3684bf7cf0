#include "hopper_forward.cuh"

template void flashring::hopperForward<__half>(const flashring::HopperArguments&);
