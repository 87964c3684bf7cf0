#include "sm90/decode.cuh"

template void flashring::hopperDecodeStep<__nv_bfloat16>(const HopperDecodeArguments&);
