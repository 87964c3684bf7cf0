#include "backward.cuh"

template void flashring::backwardStep<__half>(const Arguments&);
