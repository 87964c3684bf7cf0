#include "sm80/forward.cuh"

template void flashring::wideForwardStep<__nv_bfloat16>(const flashring::Arguments&);
