#include "sm90/backward.cuh"

template void flashring::hopperBackward<__half, flashring::Shaping::Softcap>(const flashring::HopperBackwardArguments&);
template void flashring::hopperBackward<__half, flashring::Shaping::Alibi>(const flashring::HopperBackwardArguments&);
