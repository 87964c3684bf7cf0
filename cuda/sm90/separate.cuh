// Backward on Hopper by two kernels: launches the one for dK and dV, and the one for dQ, whose blocks follow as the
// first one's end.
#ifndef FLASHRING_CUDA_SM90_SEPARATE_CUH
#define FLASHRING_CUDA_SM90_SEPARATE_CUH

#include "sm90/narrow_keys.cuh"
#include "sm90/separate_queries.cuh"
#include "sm90/wide_keys.cuh"

namespace flashring {

template <class Element, Shaping kShaping, int kIndex>
void startSeparate(const HopperBackwardArguments& h) {
    const auto start = [&](auto kernel, const char* name, int64_t blocks, int threads, auto bytes) {
        static_assert(bytes.value <= 227 << 10, "more shared memory than a block can have");
        launch(kernel, name, Start::Early, blocks, threads, bytes.value, h.a.step.stream, h);
    };
    const int64_t tilesOfKeys = int64_t{h.order.tiles} * h.order.heads;
    constexpr const char* kKeysName = "Hopper backward kernel of keys";
    if constexpr (hopperBackwardIsWide(kHeadDims[kIndex])) {
        using Config = HopperWideConfig<kIndex, kShaping>;
        static_assert(registersFit(Config::kTile, HopperWideTile::threads, kWideConsumers));
        start(hopperWideKeysKernel<Element, Config>, kKeysName, tilesOfKeys, HopperWideTile::threads,
              std::integral_constant<int, sizeof(HopperWideKeyShared<Config>)>{});
    } else {
        using Config = HopperNarrowConfig<kIndex>;
        static_assert(registersFit(Config::kTile, Config::kTile.threads(), Config::kTile.consumers));
        start(hopperNarrowKeysKernel<Element, Config>, kKeysName, tilesOfKeys, Config::kTile.threads(),
              std::integral_constant<int, sizeof(HopperNarrowKeyShared<Config>)>{});
    }
    using Config = HopperQueryConfig<kIndex, kShaping>;
    static_assert(registersFit(Config::kTile, Config::kTile.threads(), Config::kTile.consumers));
    start(hopperQueriesKernel<Element, Config>, "Hopper backward kernel of queries", h.queryOrder.count(),
          Config::kTile.threads(), std::integral_constant<int, sizeof(HopperOwnQueryShared<Config>)>{});
}

template <class Element, Shaping kShaping>
void hopperBackwardSeparate(const HopperBackwardArguments& h) {
    withHeadDims(h.a.step, [&](auto index) {
        constexpr int kIndex = decltype(index)::value;
        if constexpr (hopperSeparates(kHeadDims[kIndex], kShaping)) {
            startSeparate<Element, kShaping, kIndex>(h);
        }
    });
}

}  // namespace flashring

#endif
