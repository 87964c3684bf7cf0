#include "sm90/forward.cuh"

template void flashring::hopperForwardShaped<__half, flashring::Shaping::Softcap>(
    const flashring::HopperArguments&);
