#include "sm90/forward.cuh"

template void flashring::hopperForwardShaped<__half>(const flashring::HopperArguments&);
