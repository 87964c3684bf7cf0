// Backward of wide heads on Hopper: launches the kernel for dK and dV, and the one for dQ, whose blocks follow as the first one's end.
#ifndef FLASHRING_CUDA_SM90_BACKWARD_WIDE_CUH
#define FLASHRING_CUDA_SM90_BACKWARD_WIDE_CUH

#include "sm90/wide_keys.cuh"
#include "sm90/wide_queries.cuh"

namespace flashring {

template <class Element>
void hopperBackwardWide(const HopperBackwardArguments& h) {
    const flashring_step& step = h.a.step;
    withHeadDims(step, [&](auto index) {
        if constexpr (hopperBackwardIsWide(kHeadDims[decltype(index)::value])) {
            using Config = HopperWideConfig<decltype(index)::value>;
            constexpr int kThreads = HopperWideTile::threads, kKeyBytes = sizeof(HopperWideKeyShared<Config>), kQueryBytes = sizeof(HopperWideQueryShared<Config>);
            static_assert(kKeyBytes <= 227 << 10 && kQueryBytes <= 227 << 10, "more shared memory than a block can have");
            static_assert(HopperWideTile::producerRegisters + kWideConsumers * HopperWideTile::consumerRegisters <= 3 * (65536 / kThreads / 8 * 8),
                          "more registers than a block is started with: the last consumer would wait for ever");
            launch(hopperWideKeysKernel<Element, Config>, "Hopper backward kernel of keys", Start::Early, int64_t{h.order.tiles} * h.order.heads,
                   kThreads, kKeyBytes, step.stream, h);
            launch(hopperWideQueriesKernel<Element, Config>, "Hopper backward kernel of queries", Start::Early, h.queryOrder.count(), kThreads,
                   kQueryBytes, step.stream, h);
        }
    });
}

}  // namespace flashring

#endif
