// The SIMD kernels for AVX-512.
namespace flashring {
namespace {
constexpr int kVectorBytes = 64;
constexpr int kBlockRows = 6, kBlockVectors = 4;  // of C in registers: 24 of 32 registers
}  // namespace
}  // namespace flashring

#include "simd/backward.h"
#include "simd/forward.h"

namespace flashring {
namespace {
bool available() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
}  // namespace

const Kernel kAvx512 =
    Kernel{FLASHRING_KERNEL_AVX512, "avx512", "AVX-512 F, BW, DQ and VL", available, forward, backward, workspaceBytes}
        .serving(kAllScores).forAnyDims();

}  // namespace flashring
