#include "sm80/decode.cuh"

namespace flashring {

void launchFloat8(const DecodeArguments& a) {
    const bool few = decodeTileIndex(a.rows, true) == 0;
    a.pitch == 128 ? few ? launchDecode<float8, 128, 0>(a) : launchDecode<float8, 128, 2>(a)
    : few          ? launchDecode<float8, 256, 0>(a)
                   : launchDecode<float8, 256, 2>(a);
}

}  // namespace flashring
