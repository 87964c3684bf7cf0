#include "sm90/separate.cuh"

template void flashring::hopperBackwardSeparate<__half, flashring::Shaping::None>(const flashring::HopperBackwardArguments&);
