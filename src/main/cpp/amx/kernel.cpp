// The kernel for bfloat16 on AMX tiles. This file runs on every machine, the passes only where available() holds.
#include "amx/kernel.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace flashring {
namespace {

// Linux hands out the tile registers on request, once for all threads of the process, those to come included.
bool tilesPermitted() {
    constexpr long requestPermission = 0x1023, tileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
}

bool usable() {
    return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
           __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bf16") && tilesPermitted();
}

// Asked once. Without a lock, which a child of fork might find shut: two threads may both ask, and hear the same.
bool available() {
    static std::atomic<int> answer{-1};
    int known = answer.load(std::memory_order_relaxed);
    if (known < 0) {
        known = usable();
        answer.store(known, std::memory_order_relaxed);
    }
    return known != 0;
}

int64_t workspaceBytes(const flashring_step& step, flashring_direction direction) {
    return direction == FLASHRING_FORWARD ? amxForwardWorkspace(step) : amxBackwardWorkspace(step);
}

}  // namespace

const Kernel kAmx = Kernel{FLASHRING_KERNEL_AMX,
                           "amx",
                           "AMX-BF16 tiles that Linux permits, and AVX-512 F, BW, DQ, VL, BF16",
                           available,
                           amxForward,
                           amxBackward,
                           workspaceBytes}
                        .serving(FLASHRING_SINKS);

}  // namespace flashring
