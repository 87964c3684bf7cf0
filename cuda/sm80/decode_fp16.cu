#include "sm80/decode.cuh"

template void flashring::decodeStep<__half>(const DecodeArguments&);
