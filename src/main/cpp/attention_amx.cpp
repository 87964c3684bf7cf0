// The kernel for bfloat16 on AMX tiles. This file runs on every machine, the passes only where available() holds.
#include "attention_amx.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace flashring {
namespace {

// Linux hands out the tile registers on request, once for all threads of the process, those to come included.
bool tilesPermitted() {
    constexpr long requestPermission = 0x1023, tileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
}

bool available() {
    static const bool answer = __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
                               __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                               __builtin_cpu_supports("avx512bf16") && tilesPermitted();
    return answer;
}

int64_t workspaceBytes(const flashring_step& step, flashring_direction direction) {
    return direction == FLASHRING_FORWARD ? amxForwardWorkspace(step) : amxBackwardWorkspace(step);
}

}  // namespace

const Kernel kAmx = {FLASHRING_KERNEL_AMX, "amx", "AMX-BF16 tiles that Linux permits, and AVX-512 F, BW, DQ, VL, BF16",
                     available, amxForward, amxBackward, workspaceBytes};

}  // namespace flashring
