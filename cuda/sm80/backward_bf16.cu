#include "sm80/backward.cuh"

template void flashring::backwardStep<__nv_bfloat16>(const Arguments&);
