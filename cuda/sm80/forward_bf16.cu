#include "sm80/forward.cuh"

template void flashring::forwardStep<__nv_bfloat16>(const Arguments&);
