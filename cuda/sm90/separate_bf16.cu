#include "sm90/separate.cuh"

namespace flashring {

template void hopperBackwardSeparate<__nv_bfloat16, Shaping::None>(const HopperBackwardArguments&);

}  // namespace flashring
