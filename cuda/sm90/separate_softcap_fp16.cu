#include "sm90/separate.cuh"

namespace flashring {

template void hopperBackwardSeparate<__half, Shaping::Softcap>(const HopperBackwardArguments&);

}  // namespace flashring
