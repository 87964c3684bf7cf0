#include "sm90/separate.cuh"

template void flashring::hopperBackwardSeparate<__half, flashring::Shaping::Softcap>(const flashring::HopperBackwardArguments&);
