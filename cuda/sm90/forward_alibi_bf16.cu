#include "sm90/forward.cuh"

template void flashring::hopperForwardShaped<__nv_bfloat16, flashring::Shaping::Alibi>(
    const flashring::HopperArguments&);
