#include "sm80/backward.cuh"

template void flashring::backwardStep<__half>(const Arguments&);
