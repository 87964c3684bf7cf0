#include "sm80/decode.cuh"

template void flashring::decodeStep<__nv_bfloat16>(const DecodeArguments&);
