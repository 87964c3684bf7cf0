// dK and dV apart from dQ on Hopper, of heads that are not wide: each block owns a tile of keys of one key head and
// walks over the queries, of every head of the group, that see them.
//   producer    warp 0 copies K and V once, then Q and dO of each tile of queries; one or two more fetch what else is
//               known of them
//   consumers   64 keys each, whose dK and dV stay in registers. Per tile of queries: S^T = K Q^T - lse / scale and
//               dP^T = V dO^T - delta, by accumulators that start so; from them P^T and dS^T, rounded, as operands in
//               registers: dV += P^T dO, dK += dS^T Q
// One consumer's arithmetic hides behind the products of the others, which it never waits for.
#ifndef FLASHRING_CUDA_SM90_NARROW_KEYS_CUH
#define FLASHRING_CUDA_SM90_NARROW_KEYS_CUH

#include "sm90/separate_parts.cuh"

namespace flashring {

template <int kIndex>
struct HopperNarrowConfig {
    static constexpr Shaping kShaping = Shaping::None;
    static constexpr HeadDims kDims = kHeadDims[kIndex];
    static constexpr HopperNarrowTile kTile = hopperNarrowTile(kDims);
};

// Shared memory of a block. Starts on 1,024 bytes. Gradients leave by way of all of it.
template <class Config>
struct HopperNarrowKeyShared {
    static constexpr HopperNarrowTile kTile = Config::kTile;
    static constexpr HeadDims kDims = Config::kDims;
    static constexpr Shaping kShaping = Config::kShaping;
    static constexpr int kWarps = kTile.consumers * 4, kPanel = panelBytes(kTile.keys());

    char keys[panels(kDims.key) * kPanel], values[panels(kDims.value) * kPanel];
    char queries[kTile.stages][panels(kDims.key) * panelBytes(kTile.queries)],
        douts[kTile.stages][panels(kDims.value) * panelBytes(kTile.queries)];
    HopperQueryRows<kTile.queries, kTile.rowWarps, kShaping> rows[kTile.stages];
    alignas(BackwardWork) char workMemory[sizeof(BackwardWork)];
    uint64_t keysFull, valuesFull;
    uint64_t queriesFull[kTile.stages], queriesEmpty[kTile.stages];  // rows included
    uint64_t doutsFull[kTile.stages], doutsEmpty[kTile.stages];

    static_assert(kTile.keys() == hopperBackwardKeys(kDims), "tiles of keys are the same whichever kernel it is");
    static_assert(kTile.keys() * (kDims.key + kDims.value) * 4 <=
                      sizeof keys + sizeof values + sizeof queries + sizeof douts,
                  "no room for gradients");

    __device__ BackwardWork& work() { return *reinterpret_cast<BackwardWork*>(workMemory); }

    __device__ void initBarriers() {
        initBarrier(sharedAddress(&keysFull), 1);
        initBarrier(sharedAddress(&valuesFull), 1);
        for (int i = 0; i < kTile.stages; ++i) {
            initBarrier(sharedAddress(queriesFull + i), 1 + kTile.rowWarps);
            initBarrier(sharedAddress(queriesEmpty + i), kWarps);
            initBarrier(sharedAddress(doutsFull + i), 1);
            initBarrier(sharedAddress(doutsEmpty + i), kWarps);
        }
        publishBarriers();
    }
};

// One consumer warpgroup, of the keys from number * 64 on.
template <class Element, class Config>
class NarrowKeyConsumer {
    using Shared = HopperNarrowKeyShared<Config>;
    static constexpr HopperNarrowTile kTile = Config::kTile;
    static constexpr HeadDims kDims = Config::kDims;
    static constexpr int kQueries = kTile.queries, kThreads = kTile.consumers * 128;
    static constexpr int kAllConsumers = 1;  // the named barrier of all of them

public:
    __device__ __forceinline__ NarrowKeyConsumer(Shared& shared, const HopperBackwardArguments& h, int number)
        : shared_(shared), h_(h), work_(shared.work()), number_(number), warp_(uniform(threadIdx.x % 128 / 32)) {}

    __device__ __forceinline__ void run() {
#pragma unroll
        for (int i = 0; i < kDims.key / 2; ++i) {
            dk_[i] = 0;
        }
#pragma unroll
        for (int i = 0; i < kDims.value / 2; ++i) {
            dv_[i] = 0;
        }
        int left = uniform((work_.lastTile - work_.firstTile) * (work_.lastHead - work_.firstHead));
        waitForBarrier(shared_.keysFull, 0);
        waitForBarrier(shared_.valuesFull, 0);
        if (left > 0) {
            multiplyQueries();
            // waits for nothing; without it ptxas waits for all before it writes to an accumulator
            waitForProducts<1>();
            multiplyDouts();
            for (; left > 1; --left) {
                step<false>();
            }
            step<true>();
        }
        store();
    }

private:
    // product = start + own K^T Q^T or own V^T dO^T, dim long, once the other operand is there
    template <int kDim>
    __device__ __forceinline__ void multiplyTile(float (&product)[kQueries / 2], const char* mine, const char* tile,
                                                 const uint64_t& full, const float* start) {
        waitForBarrier(full, stage_.parity);
        startFrom(product, start);
        const uint64_t a = describe(addressAnew(mine) + number_ * panelBytes(64), 0),
                       b = describe(sharedAddress(tile), 0);
        beginProducts();
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) {
            const uint64_t stepA = described(k / 4 * Shared::kPanel + k % 4 * 32),
                           stepB = described(k / 4 * panelBytes(kQueries) + k % 4 * 32);
            Wgmma<kQueries>::template shared<Element, 1>(product, a + stepA, b + stepB);
        }
        commitProducts();
    }

    __device__ __forceinline__ void multiplyQueries() {
        multiplyTile<kDims.key>(p_, shared_.keys, shared_.queries[stage_.stage], shared_.queriesFull[stage_.stage],
                                shared_.rows[stage_.stage].score);
    }

    __device__ __forceinline__ void multiplyDouts() {
        multiplyTile<kDims.value>(ds_, shared_.values, shared_.douts[stage_.stage], shared_.doutsFull[stage_.stage],
                                  shared_.rows[stage_.stage].dp);
    }

    // P and dS, rounded, from the scores in p_ and dP in ds_.
    __device__ __forceinline__ void weigh() {
        const auto& rows = shared_.rows[stage_.stage];
        const int kind = rows.kind();
        waitForProducts<0>();
        if (kind & kCareful) {
            subtractCarefully(p_, rows.lse, h_);
        }
        if (kind & kBordered) {
            bordered_ = true;
            hide(p_, rows, number_ * 64 + warp_ * 16);
        }
#pragma unroll
        for (int n = 0; n < kQueries / 8; ++n) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int i = n * 4 + half * 2;
                const float p = exp2Fast(p_[i] * h_.a.scaleLog2), q = exp2Fast(p_[i + 1] * h_.a.scaleLog2);
                packPair<Element>(weights_, n, half, p, q);
                packPair<Element>(gradients_, n, half, p * ds_[i], q * ds_[i + 1]);
            }
        }
    }

    // One tile of queries, whose scores and dP are under way, and but for the last the start of the next.
    template <bool kLast>
    __device__ __forceinline__ void step() {
        const RingIndex<kTile.stages> now = stage_;
        weigh();
        stage_.advance();
        multiplyOperand<Element, kDims.value>(dv_, weights_, shared_.douts[now.stage]);
        commitProducts();
        multiplyOperand<Element, kDims.key>(dk_, gradients_, shared_.queries[now.stage]);
        commitProducts();
        if constexpr (kTile.consumers == 3) {
            waitForProducts<1>();  // P leaves registers that scores need
        }
        if constexpr (!kLast) {
            multiplyQueries();
        }
        waitForProducts<kLast ? 0 : 1>();
        releaseBarrier(shared_.queriesEmpty[now.stage]);
        releaseBarrier(shared_.doutsEmpty[now.stage]);
        if constexpr (!kLast) {
            multiplyDouts();
        }
    }

    __device__ __forceinline__ void store() {
        syncNamed(kAllConsumers, kThreads);  // no product reads shared memory any more
        const int key = work_.firstKey + number_ * 64 + warp_ * 16, warp = number_ * 4 + warp_;
        if (key >= h_.a.step.kv_len) {
            return;
        }
        char* const boxes =
            reinterpret_cast<char*>(&shared_) + warp * ((kDims.key + kDims.value) / 32) * kGradientBoxBytes;
        sendKeys<Element, Config, true>(dv_, h_, work_, key, boxes, bordered_);
        sendKeys<Element, Config, false>(dk_, h_, work_, key, boxes + kDims.value / 32 * kGradientBoxBytes,
                                            bordered_);
        waitForBoxes();
    }

    Shared& shared_;
    const HopperBackwardArguments& h_;
    const BackwardWork& work_;
    const int number_, warp_;  // of the consumers; within this one
    RingIndex<kTile.stages> stage_;
    bool bordered_ = false;  // a border of the mask was met
    float dk_[kDims.key / 2], dv_[kDims.value / 2], p_[kQueries / 2], ds_[kQueries / 2];
    uint32_t weights_[kQueries / 16][4], gradients_[kQueries / 16][4];
};

template <class Element, class Config>
__global__ void __launch_bounds__(Config::kTile.threads(), 1)
    hopperNarrowKeysKernel(const __grid_constant__ HopperBackwardArguments h) {
    extern __shared__ __align__(1024) char memory[];
    constexpr HopperNarrowTile kTile = Config::kTile;
    auto& shared = *reinterpret_cast<HopperNarrowKeyShared<Config>*>(memory);
    if (threadIdx.x == 0) {
        shared.initBarriers();
        for (const CUtensorMap* map : {&h.q, &h.k, &h.v, &h.dout, &h.dk, &h.dv}) {
            prefetchMap(*map);
        }
    }
    waitForEarlierKernel();
    letNextKernelStart();  // the kernel for dQ, which reads what was there before this one
    if (threadIdx.x == 0) {
        const BackwardWork work(h.order, h.a.step, static_cast<int>(blockIdx.x), kTile.keys(), kTile.queries);
        copyBoxes<kTile.keys()>(shared.keys, h.k, Config::kDims.key, work.firstKey, work.keyHead, work.batch,
                                shared.keysFull);
        copyBoxes<kTile.keys()>(shared.values, h.v, Config::kDims.value, work.firstKey, work.keyHead, work.batch,
                                shared.valuesFull);
        shared.work() = work;
    }
    __syncthreads();  // barriers and work are there
    const int warpgroup = uniform(static_cast<int>(threadIdx.x) / 128);
    if (warpgroup == 0) {
        lowerRegisters<kTile.producerRegisters>();
        const int warp = static_cast<int>(threadIdx.x) / 32;
        if (warp >= 1 && warp <= kTile.rowWarps) {
            copyRows(shared, h, warp - 1);
        } else if (threadIdx.x == 0) {
            copyQueries(shared, h);
        }
    } else {
        raiseRegisters<kTile.consumerRegisters>();
        NarrowKeyConsumer<Element, Config>(shared, h, warpgroup - 1).run();
    }
}

}  // namespace flashring

#endif
