// The SIMD kernels for AVX2.
namespace flashring {
namespace {
constexpr int kVectorBytes = 32;
constexpr int kBlockRows = 6, kBlockVectors = 2;  // of C in registers: 12 of 16 registers
}  // namespace
}  // namespace flashring

#include "simd/backward.h"
#include "simd/forward.h"

namespace flashring {
namespace {
bool available() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
}  // namespace

const Kernel kAvx2 =
    Kernel{FLASHRING_KERNEL_AVX2, "avx2", "AVX2 and FMA", available, forward, backward, workspaceBytes}
        .serving(kAllScores)
        .forAnyDims();

}  // namespace flashring
