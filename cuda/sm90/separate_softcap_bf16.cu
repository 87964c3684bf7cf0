#include "sm90/separate.cuh"

template void flashring::hopperBackwardSeparate<__nv_bfloat16, flashring::Shaping::Softcap>(const flashring::HopperBackwardArguments&);
