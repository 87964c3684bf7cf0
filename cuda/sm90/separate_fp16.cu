#include "sm90/separate.cuh"

template void flashring::hopperBackwardSeparate<__half>(const flashring::HopperBackwardArguments&);
