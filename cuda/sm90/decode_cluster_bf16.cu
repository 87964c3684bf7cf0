#include "sm90/decode_cluster.cuh"

template void flashring::clusterDecode<__nv_bfloat16>(const DecodeArguments&);
