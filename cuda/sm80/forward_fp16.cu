#include "sm80/forward.cuh"

template void flashring::forwardStep<__half>(const Arguments&);
