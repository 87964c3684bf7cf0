#include "sm80/forward.cuh"

template void flashring::wideForwardStep<__half>(const flashring::Arguments&);
