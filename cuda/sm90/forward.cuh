// One forward step on Hopper: FlashAttention-2 (Dao 2023), algorithm 1, with the copy engine, asynchronous products of
// whole warpgroups, and softmax and products of different warpgroups side by side as in FlashAttention-3 (Shah 2024,
// section 3.1).
//
// Each block stays on its multiprocessor and takes tiles of queries until there are none. Its warpgroups:
//   producer    warp 0 copies queries, keys and values into rings of tiles; warp 1 fetches what the next tile sees
//   consumers   64 queries each. Per block of keys: softmax of the scores, then, as one batch of products,
//               O += P V of this block and S = Q K^T of the next one, which may be the first of the next tile. Where
//               hopperStagesOutput(), output leaves through the queries' memory and the copy engine
// While one consumer computes its softmax, the products of the others run. They fall into that rhythm by themselves, or
// take turns in issuing their batches where the tile table says so.
#ifndef FLASHRING_CUDA_SM90_FORWARD_CUH
#define FLASHRING_CUDA_SM90_FORWARD_CUH

#include "common/early_start.cuh"
#include "sm90/forward_consumer.cuh"
#include "sm90/forward_copies.cuh"

namespace flashring {

template <class Element, class Config>
__global__ void __launch_bounds__(Config::kTile.threads(), 1)
    hopperForwardKernel(const __grid_constant__ HopperArguments h) {
    extern __shared__ __align__(1024) char memory[];
    HopperShared<Config>& shared = *reinterpret_cast<HopperShared<Config>*>(memory);
    if (threadIdx.x == 0) {
        shared.initBarriers();
        prefetchMap(h.q);
        prefetchMap(h.k);
        prefetchMap(h.v);
    }
    __syncthreads();
    letNextKernelStart();
    waitForEarlierKernel();
    const int warpgroup = uniform(static_cast<int>(threadIdx.x) / 128);
    if (warpgroup == 0) {
        lowerRegisters<Config::kTile.producerRegisters>();
        if (threadIdx.x / 32 == 1) {
            schedule(shared, h);
        } else if (threadIdx.x == 0) {
            copyTiles(shared, h);
        }
    } else {
        raiseRegisters<Config::kTile.consumerRegisters>();
        Consumer<Element, Config>(shared, h, warpgroup - 1).run();
    }
}

template <class Element, class Config>
void launchHopper(const HopperArguments& h) {
    constexpr int kBytes = sizeof(HopperShared<Config>);
    static_assert(kBytes <= 227 << 10, "more shared memory than a block can have");
    static_assert(Config::kTile.registersFit(),
                  "more registers than a block is started with: the last consumer would wait for ever");
    launch(hopperForwardKernel<Element, Config>, "Hopper forward kernel", Start::Early,
           min(multiprocessors(h.a.step.device), h.order.count()), Config::kTile.threads(), kBytes, h.a.step.stream, h);
}

template <class Element>
void hopperForward(const HopperArguments& h) {
    withHeadDims(h.a.step, [&](auto index) {
        h.a.step.flags & FLASHRING_RESUME ? launchHopper<Element, HopperConfig<decltype(index)::value, true>>(h)
                                          : launchHopper<Element, HopperConfig<decltype(index)::value, false>>(h);
    });
}

template <class Element>
void hopperForwardCapped(const HopperArguments& h) {
    withHeadDims(h.a.step, [&](auto index) {
        constexpr int kIndex = decltype(index)::value;
        if constexpr (hopperShapes(kHeadDims[kIndex], Shaping::Softcap)) {
            h.a.step.flags & FLASHRING_RESUME ? launchHopper<Element, HopperConfig<kIndex, true, Shaping::Softcap>>(h)
                                              : launchHopper<Element, HopperConfig<kIndex, false, Shaping::Softcap>>(h);
        }
    });
}

template <class Element>
void hopperForwardSloped(const HopperArguments& h) {
    withHeadDims(h.a.step, [&](auto index) {
        constexpr int kIndex = decltype(index)::value;
        if constexpr (hopperShapes(kHeadDims[kIndex], Shaping::Alibi)) {
            launchHopper<Element, HopperConfig<kIndex, false, Shaping::Alibi>>(h);
        }
    });
}

}  // namespace flashring

#endif
