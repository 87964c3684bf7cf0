// The kernels on tensor cores as a row of the capability table.
#include <algorithm>

#include "common/attention.h"
#include "common/elements.cuh"
#include "sm80/tiles.h"

namespace flashring {
namespace {

// The ticket counter, then one turn for each query tile of each head, of the smallest tiles that any set has.
int64_t turnBytes(const flashring_step& step) {
    int64_t tiles = 0;
    withHeadDims(step, [&](auto index) {
        for (const SharedMemory memory : kSharedMemories) {
            tiles =
                std::max(tiles, ceilDiv(step.q_len, backwardTile(kHeadDims[decltype(index)::value], memory).queries));
        }
    });
    return (1 + step.batch * step.q_heads * tiles) * static_cast<int64_t>(sizeof(int32_t));
}

int64_t workspaceBytes(const flashring_step& step, flashring_direction direction) {
    const bool turns = direction == FLASHRING_BACKWARD && step.deterministic;
    return intervalBytesOnDevice(step) + (turns ? roundUp(turnBytes(step), 64) : 0);
}

void forward(const Problem& problem) {
    const flashring_step& step = problem.step;
    const DeviceScope scope(step.device);
    const Arguments arguments = prepare(problem);
    const bool wide = std::max(step.head_dim, step.value_dim) > kCommonHeadDim;
    with16BitElement(step.dtype, [&](auto element) {
        wide ? wideForwardStep<decltype(element)>(arguments) : forwardStep<decltype(element)>(arguments);
    });
}

void backward(const Problem& problem) {
    const flashring_step& step = problem.step;
    const DeviceScope scope(step.device);
    Arguments arguments = prepare(problem);
    if (step.deterministic) {
        arguments.turns = reinterpret_cast<int32_t*>(problem.workspace + intervalBytesOnDevice(step));
        check(cudaMemsetAsync(arguments.turns, 0, static_cast<size_t>(turnBytes(step)),
                              static_cast<cudaStream_t>(step.stream)),
              "cudaMemsetAsync");
    }
    if (!(step.flags & FLASHRING_ADD_DQ)) {
        clearOnDevice(step.dq, queries(step, step.head_dim), step.stream);
    }
    with16BitElement(step.dtype, [&](auto element) { backwardStep<decltype(element)>(arguments); });
}

const char* unmet(const flashring_step& step, flashring_direction) { return softcapUnmet(step); }

}  // namespace

const Kernel kCudaMma = Kernel{FLASHRING_KERNEL_MMA,
                               "mma",
                               kCudaRequirement,
                               anyDeviceCapable,
                               forward,
                               backward,
                               workspaceBytes,
                               true,
                               nullptr,
                               unmet}
                            .serving(kAllScores)
                            .wideForward();

}  // namespace flashring
