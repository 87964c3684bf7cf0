// One backward step on Hopper: FlashAttention-2 (Dao 2023), algorithm 2, with the copy engine and asynchronous products
// of whole warpgroups; keys stay, queries pass by, as in FlashAttention-3 (Shah 2024).
//
// Each block owns a tile of keys of one key head and walks over the queries, of every head of the group, that see them:
//   producer    warp 0 copies K and V once, then Q and dO of each tile of queries; one or two more fetch what else is
//               known of them
//   consumers   64 keys each, whose dK and dV stay in registers. Per tile of queries:
//               S^T = K Q^T - lse / scale and dP^T = V dO^T - delta, by accumulators that start so; from them P^T and
//               dS^T = P^T dP^T, rounded, become operands in registers: dV += P^T dO, dK += dS^T Q. dS also goes to
//               shared memory, where the consumers share the work of dQ = dS K, or take turns, and the copy engine adds
//               it to what is gathered.
// One consumer's arithmetic hides behind the other's products. In turns a consumer waits for the others' dS only after
// its own dV and dK are under way, and two tiles of dS are kept. Shares of dQ come a tile later, when nobody waits for
// dS, of which three tiles are kept, and before dV and dK, behind which they are handed over.
#ifndef FLASHRING_CUDA_SM90_BACKWARD_CUH
#define FLASHRING_CUDA_SM90_BACKWARD_CUH

#include "common/early_start.cuh"
#include "sm90/backward_consumer.cuh"
#include "sm90/backward_copies.cuh"

namespace flashring {

template <class Element, class Config>
__global__ void __launch_bounds__(Config::kTile.threads(), 1)
    hopperBackwardKernel(const __grid_constant__ HopperBackwardArguments h) {
    extern __shared__ __align__(1024) char memory[];
    HopperBackwardShared<Config>& shared = *reinterpret_cast<HopperBackwardShared<Config>*>(memory);
    letNextKernelStart();
    if (threadIdx.x == 0) {
        shared.initBarriers();
        for (const CUtensorMap* map : {&h.q, &h.k, &h.v, &h.dout, &h.dk, &h.dv}) {
            prefetchMap(*map);
        }
    }
    waitForEarlierKernel();
    if (threadIdx.x == 0) {
        const BackwardWork work(h.order, h.a.step, static_cast<int>(blockIdx.x), Config::kTile.keys(),
                                Config::kTile.queries);
        copyKeys(shared, h, work);
        shared.work() = work;
    }
    __syncthreads();  // barriers and work are there
    const int warpgroup = uniform(static_cast<int>(threadIdx.x) / 128);
    if (warpgroup == 0) {
        lowerRegisters<Config::kTile.producerRegisters>();
        const int warp = static_cast<int>(threadIdx.x) / 32;
        if (warp >= 1 && warp <= Config::kTile.rowWarps) {
            copyRows(shared, h, warp - 1);
        } else if (threadIdx.x == 0) {
            copyQueries(shared, h);
        }
    } else {
        raiseRegisters<Config::kTile.consumerRegisters>();
        BackwardConsumer<Element, Config>(shared, h, warpgroup - 1).run();
    }
}

template <class Element, Shaping kShaping>
void hopperBackward(const HopperBackwardArguments& h) {
    const flashring_step& step = h.a.step;
    withHeadDims(step, [&](auto index) {
        constexpr HeadDims kDims = kHeadDims[decltype(index)::value];
        if constexpr (!hopperBackwardIsWide(kDims) && hopperShapes(kDims, kShaping)) {
            using Config = HopperBackwardConfig<decltype(index)::value, kShaping>;
            constexpr int kBytes = sizeof(HopperBackwardShared<Config>);
            static_assert(kBytes <= 227 << 10, "more shared memory than a block can have");
            static_assert(Config::kTile.registersFit(),
                          "more registers than a block is started with: the last consumer would wait for ever");
            launch(hopperBackwardKernel<Element, Config>, "Hopper backward kernel", Start::Early,
                   int64_t{h.order.tiles} * h.order.heads, Config::kTile.threads(), kBytes, step.stream, h);
        }
    });
}

}  // namespace flashring

#endif
