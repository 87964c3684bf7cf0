#include "workspace.h"

#include <algorithm>

#include "capabilities.h"
#include "rounding.h"
#include "visibility.h"

namespace flashring {

flashring_step withoutAddresses(flashring_step step) {
    for (flashring_tensor* operand : {&step.q, &step.k, &step.v, &step.out, &step.acc, &step.lse, &step.dout,
                                      &step.delta, &step.dq, &step.dk, &step.dv, &step.lse_low}) {
        operand->data = nullptr;
    }
    step.q_positions = step.kv_positions = {};
    return step;
}

int64_t intervalBytes(const flashring_step& step) {
    return 2 * roundUp((hasRows(step) ? step.batch : 1) * step.q_len * static_cast<int64_t>(sizeof(int64_t)), 64);
}

int64_t positionBytes(const flashring_step& step) {
    return step.alibi_slopes ? roundUp((step.q_len + step.kv_len) * static_cast<int64_t>(sizeof(int64_t)), 64) : 0;
}

int64_t workspaceBytesOf(const Kernel& kernel, const flashring_step& step, flashring_direction direction) {
    const int64_t own = kernel.workspaceBytes ? kernel.workspaceBytes(step, direction) : 0;
    return own + (kernel.cuda ? 0 : intervalBytes(step) + positionBytes(step));
}

namespace {

int64_t mostOf(const flashring_step& step, flashring_direction direction) {
    int64_t most = 0;
    for (int32_t row = 0; row < capabilityCount(); ++row) {
        const Kernel& kernel = *capability(row).kernel;
        if (!serves(capability(row), step, direction) || !available(row)) {
            continue;
        }
        if (unmetBy(kernel, step, direction)) {
            continue;
        }
        most = std::max(most, workspaceBytesOf(kernel, step, direction));
        if (!kernel.unmet && !kernel.runsOn) {
            break;  // it takes every step, and those behind it get none
        }
    }
    return most;
}

}  // namespace

int64_t mostWorkspaceBytes(const flashring_step& given, flashring_direction direction) {
    flashring_step step = withoutAddresses(given);
    step.flags &= ~FLASHRING_RESUME;
    const int64_t most = mostOf(step, direction);
    step.sinks = nullptr;  // as steps that resume have it, which may go to other kernels
    return std::max(most, mostOf(step, direction));
}

}  // namespace flashring
