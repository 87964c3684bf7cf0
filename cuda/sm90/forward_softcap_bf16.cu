#include "sm90/forward.cuh"

template void flashring::hopperForwardShaped<__nv_bfloat16, flashring::Shaping::Softcap>(
    const flashring::HopperArguments&);
