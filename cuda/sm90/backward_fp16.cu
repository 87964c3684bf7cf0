#include "sm90/backward.cuh"

template void flashring::hopperBackward<__half, flashring::Shaping::None>(const flashring::HopperBackwardArguments&);
