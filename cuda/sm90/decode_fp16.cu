#include "sm90/decode.cuh"

template void flashring::hopperDecodeStep<__half>(const HopperDecodeArguments&);
