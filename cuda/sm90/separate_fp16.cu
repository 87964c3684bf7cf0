#include "sm90/separate.cuh"

namespace flashring {

template void hopperBackwardSeparate<__half, Shaping::None>(const HopperBackwardArguments&);

}  // namespace flashring
