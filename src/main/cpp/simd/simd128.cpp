// The SIMD kernels for baseline x86-64.
namespace flashring {
namespace {
constexpr int kVectorBytes = 16;
// of C in registers: 8 of 16 registers, as there is no fused multiply-add
constexpr int kBlockRows = 4, kBlockVectors = 2;
}  // namespace
}  // namespace flashring

#include "simd/backward.h"
#include "simd/forward.h"

namespace flashring {
namespace {
bool available() { return true; }
}  // namespace

const Kernel kSimd128 =
    Kernel{FLASHRING_KERNEL_SIMD128, "simd128", "SSE2", available, forward, backward, workspaceBytes}
        .serving(kAllScores)
        .forAnyDims();

}  // namespace flashring
