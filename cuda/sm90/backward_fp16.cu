#include "sm90/backward.cuh"

namespace flashring {

template void hopperBackward<__half, Shaping::None>(const HopperBackwardArguments&);

}  // namespace flashring
