#include "sm90/backward.cuh"

namespace flashring {

template void hopperBackward<__half, Shaping::Softcap>(const HopperBackwardArguments&);
template void hopperBackward<__half, Shaping::Alibi>(const HopperBackwardArguments&);

}  // namespace flashring
