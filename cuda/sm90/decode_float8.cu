#include "elements.h"
#include "sm90/decode.cuh"

template void flashring::hopperDecodeStep<flashring::float8>(const HopperDecodeArguments&);
