#include "sm90/decode_cluster.cuh"

template void flashring::clusterDecode<__half>(const DecodeArguments&);
