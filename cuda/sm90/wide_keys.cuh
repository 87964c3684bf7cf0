// dK and dV of wide heads on Hopper: each block owns 64 keys of one key head and walks over the queries, of every head
// of the group, that see them.
//   producer    warp 0 copies K and V once, then Q and dO of each tile of 64 queries; two more fetch what else is known
//               of them
//   consumers   the first computes S^T = K Q^T - lse / scale, from it P^T, and dV += P^T dO; the second dP^T = V dO^T -
//               delta, and from it and from P^T, which the first leaves in shared memory, dS^T and dK += dS^T Q
// Each in its turn issues its gradient's product of one tile and the first product of the next; meanwhile the other one
// does its arithmetic.
#ifndef FLASHRING_CUDA_SM90_WIDE_KEYS_CUH
#define FLASHRING_CUDA_SM90_WIDE_KEYS_CUH

#include "sm90/separate_parts.cuh"

namespace flashring {

template <int kIndex, Shaping kShapes = Shaping::None>
struct HopperWideConfig {
    static constexpr Shaping kShaping = kShapes;
    static constexpr HeadDims kDims = kHeadDims[kIndex];
    static constexpr HopperWideTile kTile = hopperWideTile(kDims);
};

constexpr int kWideConsumers = 2, kWideWarps = kWideConsumers * 4;

// Shared memory of a block. Starts on 1,024 bytes.
template <class Config>
struct HopperWideKeyShared {
    static constexpr HopperWideTile kTile = Config::kTile;
    static constexpr HeadDims kDims = Config::kDims;
    static constexpr Shaping kShaping = Config::kShaping;
    static constexpr int kPanel = panelBytes(64);

    // Panels of an operand of `dim` columns that are kept here; the rest goes on to registers.
    static constexpr int kept(int dim) { return panels(dim) > kTile.heldPanels ? panels(dim) - kTile.heldPanels : 0; }

    // Gradients leave by way of queries and what follows them. What goes on to registers comes by way of the last two
    // stages of queries.
    char queries[kTile.stages][panels(kDims.key) * kPanel], douts[kTile.doutStages][panels(kDims.value) * kPanel];
    char weights[64 * 64 * 4];                                       // P^T, 16 bytes a thread at a time
    char keys[(kept(kDims.key) + kept(kDims.value)) * kPanel + 16];  // then values
    HopperQueryRows<kTile.queries, HopperWideTile::rowWarps, kShaping> rows[kTile.stages];
    alignas(BackwardWork) char workMemory[sizeof(BackwardWork)];
    uint64_t keysFull, valuesFull, keysHeld;
    uint64_t queriesFull[kTile.stages], queriesEmpty[kTile.stages];  // rows included
    uint64_t doutsFull[kTile.doutStages], doutsEmpty[kTile.doutStages];
    uint64_t weightsFull, weightsEmpty;

    static_assert(kTile.stages >= 3 && panels(kDims.value) <= panels(kDims.key),
                  "operands that registers hold come by way of two stages");
    static_assert(64 * (panels(kDims.key) + panels(kDims.value)) * 64 * 4 <= sizeof queries + sizeof douts,
                  "no room for gradients");

    __device__ BackwardWork& work() { return *reinterpret_cast<BackwardWork*>(workMemory); }
    __device__ char* values() { return keys + kept(kDims.key) * kPanel; }

    __device__ void initBarriers() {
        initBarrier(sharedAddress(&keysFull), 1);
        initBarrier(sharedAddress(&valuesFull), 1);
        initBarrier(sharedAddress(&keysHeld), kWideWarps);
        for (int i = 0; i < kTile.stages; ++i) {
            initBarrier(sharedAddress(queriesFull + i), 1 + HopperWideTile::rowWarps);
            initBarrier(sharedAddress(queriesEmpty + i), kWideWarps);
        }
        for (int i = 0; i < kTile.doutStages; ++i) {
            initBarrier(sharedAddress(doutsFull + i), 1);
            initBarrier(sharedAddress(doutsEmpty + i), kWideWarps);
        }
        initBarrier(sharedAddress(&weightsFull), 4);
        initBarrier(sharedAddress(&weightsEmpty), 4);
        publishBarriers();
    }
};

// An operand of `dim` columns, 64 rows: its first panels to `kept`, the others to `held`.
template <class Shared>
__device__ void copyOwn(const CUtensorMap& map, int dim, char* kept, char* held, int first, int head, int batch,
                        uint64_t& full) {
    arriveExpecting(sharedAddress(&full), panels(dim) * Shared::kPanel);
    for (int panel = 0; panel < panels(dim); ++panel) {
        const int behind = panel - Shared::kept(dim);
        char* const target = behind < 0 ? kept + panel * Shared::kPanel : held + behind * Shared::kPanel;
        copyBox(sharedAddress(target), map, panel * kPanelColumns, first, head, batch, sharedAddress(&full));
    }
}

// Lane 0 of warp 0 of the producer. The last two stages of queries hold keys and values first.
template <class Config>
__device__ void copyWideQueries(HopperWideKeyShared<Config>& shared, const HopperBackwardArguments& h) {
    constexpr HopperWideTile kTile = Config::kTile;
    const BackwardWork& work = shared.work();
    RingIndex<kTile.stages> queryIndex;
    RingIndex<kTile.doutStages> doutIndex;
    for (BackwardPlace place(work); place.exists(work); place.advance(work)) {
        const int query = place.tile * kTile.queries;
        if (queryIndex.stage + 2 == kTile.stages) {
            waitForBarrier(shared.keysHeld, 0);
        }
        waitForBarrier(shared.queriesEmpty[queryIndex.stage], queryIndex.parity ^ 1);
        copyTile(shared.queries[queryIndex.stage], h.q, Config::kDims.key, kTile.queries, query, place.head, work.batch,
                 shared.queriesFull[queryIndex.stage]);
        waitForBarrier(shared.doutsEmpty[doutIndex.stage], doutIndex.parity ^ 1);
        copyTile(shared.douts[doutIndex.stage], h.dout, Config::kDims.value, kTile.queries, query, place.head,
                 work.batch, shared.doutsFull[doutIndex.stage]);
        queryIndex.advance();
        doutIndex.advance();
    }
}

// The first consumer (kScores) or the second. Lane l of warp w holds keys 16 w + l / 4 and 8 more of the 64, two
// queries in each 8.
template <class Element, class Config, bool kScores>
class WideKeyConsumer {
    using Shared = HopperWideKeyShared<Config>;
    static constexpr HopperWideTile kTile = Config::kTile;
    static constexpr HeadDims kDims = Config::kDims;
    static constexpr int kFirst = kScores ? kDims.key : kDims.value;   // summed over
    static constexpr int kSecond = kScores ? kDims.value : kDims.key;  // of the gradient
    static constexpr int kQueries = kTile.queries, kSteps = kFirst / 16;
    static constexpr int kKept = Shared::kept(kFirst) * 4;  // of kSteps
    static constexpr bool kCapped = Config::kShaping == Shaping::Softcap;
    static constexpr int kThreads = kWideConsumers * 128;
    static constexpr int kAllConsumers = 1, kOwnTurn = kScores ? 2 : 3, kOtherTurn = 5 - kOwnTurn;  // named barriers

public:
    __device__ __forceinline__ WideKeyConsumer(Shared& shared, const HopperBackwardArguments& h)
        : shared_(shared), h_(h), work_(shared.work()), warp_(uniform(threadIdx.x % 128 / 32)) {}

    __device__ __forceinline__ void run() {
#pragma unroll
        for (int i = 0; i < kSecond / 2; ++i) {
            gradient_[i] = 0;
        }
        hold();
        int left = uniform((work_.lastTile - work_.firstTile) * (work_.lastHead - work_.firstHead));
        if (left > 0) {
            if constexpr (!kScores) {
                arriveNamed(kOtherTurn, kThreads);  // the first consumer's first turn
            }
            startProduct();
            waitForProducts<0>();
            releaseFirst();
            for (; left > 1; --left) {
                step<false>();
            }
            step<true>();
        }
        store();
    }

private:
    // The last columns of this consumer's operand, to registers.
    __device__ __forceinline__ void hold() {
        waitForBarrier(kScores ? shared_.keysFull : shared_.valuesFull, 0);
        loadOwnRows(held_, shared_.queries[kTile.stages - (kScores ? 2 : 1)], warp_ * 16);
        orderBeforeCopies();  // loads are over
        releaseBarrier(shared_.keysHeld);
    }

    __device__ __forceinline__ const auto& rows() const { return shared_.rows[query_.stage]; }

    // product_ = S^T or dP^T of the next tile, and starts from what its rows say.
    __device__ __forceinline__ void startProduct() {
        waitForBarrier(shared_.queriesFull[query_.stage], query_.parity);
        if constexpr (!kScores) {
            waitForBarrier(shared_.doutsFull[dout_.stage], dout_.parity);
        }
        if constexpr (!kCapped || !kScores) {
            startFrom(product_, kScores ? rows().score : rows().dp);
        }
        const uint64_t a = describe(sharedAddress(kScores ? shared_.keys : shared_.values()), 0);
        const uint64_t b =
            describe(sharedAddress(kScores ? shared_.queries[query_.stage] : shared_.douts[dout_.stage]), 0);
        beginProducts();
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
            const uint64_t step = described(k / 4 * Shared::kPanel + k % 4 * 32);
            if (kCapped && kScores && k == 0) {
                Wgmma<kQueries>::template fresh<Element, 0>(product_, a, b);
            } else if (k < kKept) {
                Wgmma<kQueries>::template shared<Element, 1>(product_, a + step, b + step);
            } else {
                Wgmma<kQueries>::template registers<Element, 1, 0>(product_, held_[k < kKept ? 0 : k - kKept],
                                                                   b + step);
            }
        }
        commitProducts();
    }

    // What the finished first product has read: dO, which its gradient's product does not read.
    __device__ __forceinline__ void releaseFirst() {
        if constexpr (!kScores) {
            releaseBarrier(shared_.doutsEmpty[dout_.stage]);
        }
    }

    // operand_ from product_. P^T, under a softcap times its slope, goes from the first consumer's threads to the same
    // ones of the second.
    __device__ __forceinline__ void weigh() {
        const int kind = rows().kind();
        bordered_ |= kind & kBordered;
        float4* const exchanged = reinterpret_cast<float4*>(shared_.weights) + threadIdx.x % 128;
        if constexpr (kScores) {
            if (kind & kCareful) {
                subtractCarefully(product_, rows().lse, h_);
            }
            if constexpr (kCapped) {
                capProducts(product_, h_);
            }
            if (kind & kBordered) {
                hide<kCapped>(product_, rows(), warp_ * 16);
            }
            if constexpr (!kCapped) {
#pragma unroll
                for (int i = 0; i < kQueries / 2; ++i) {
                    product_[i] = exp2Fast(product_[i] * h_.a.scaleLog2);
                }
            }
            waitForBarrier(shared_.weightsEmpty, turn_ ^ 1);
        } else {
            waitForBarrier(shared_.weightsFull, turn_);
        }
#pragma unroll
        for (int n = 0; n < kQueries / 8; ++n) {
            float* const own = product_ + n * 4;
            if constexpr (kScores && kCapped) {
                const CappedPair even{h_, lseOf(rows(), n, 0)}, odd{h_, lseOf(rows(), n, 1)};
                float4 slopes;
                own[0] = even(own[0], slopes.x);
                own[1] = odd(own[1], slopes.y);
                own[2] = even(own[2], slopes.z);
                own[3] = odd(own[3], slopes.w);
                exchanged[n * 128] = {own[0] * slopes.x, own[1] * slopes.y, own[2] * slopes.z, own[3] * slopes.w};
            } else if constexpr (kScores) {
                exchanged[n * 128] = {own[0], own[1], own[2], own[3]};
            } else {
                const float4 p = exchanged[n * 128];
                own[0] *= p.x;
                own[1] *= p.y;
                own[2] *= p.z;
                own[3] *= p.w;
            }
            packPair<Element>(operand_, n, 0, own[0], own[1]);
            packPair<Element>(operand_, n, 1, own[2], own[3]);
        }
        if constexpr (kScores) {
            releaseBarrier(shared_.weightsFull);
        }
        turn_ ^= 1;
    }

    // A tile whose first product is there, and but for the last the first product of the next.
    template <bool kLast>
    __device__ __forceinline__ void step() {
        const RingIndex<kTile.stages> query = query_;
        const RingIndex<kTile.doutStages> dout = dout_;
        weigh();
        query_.advance();
        dout_.advance();
        if constexpr (kScores) {
            waitForBarrier(shared_.doutsFull[dout.stage], dout.parity);
        }
        syncNamed(kOwnTurn, kThreads);
        multiplyOperand<Element, kSecond>(gradient_, operand_,
                                          kScores ? shared_.douts[dout.stage] : shared_.queries[query.stage]);
        commitProducts();
        // What was loaded into registers before has been used by now.
        releaseBarrier(kScores ? shared_.queriesEmpty[query.stage] : shared_.weightsEmpty);
        if constexpr (!kLast) {
            // waits for nothing; without it ptxas waits for all before it writes to an accumulator
            waitForProducts<1>();
            startProduct();
        }
        if constexpr (!kLast || kScores) {
            arriveNamed(kOtherTurn, kThreads);
        }
        waitForProducts<0>();
        releaseBarrier(kScores ? shared_.doutsEmpty[dout.stage] : shared_.queriesEmpty[query.stage]);
        if constexpr (!kLast) {
            releaseFirst();
        }
    }

    __device__ __forceinline__ void store() {
        syncNamed(kAllConsumers, kThreads);  // no product reads shared memory any more
        const int key = work_.firstKey + warp_ * 16;
        if (key >= h_.a.step.kv_len) {
            return;
        }
        char* const boxes = reinterpret_cast<char*>(&shared_) + (kScores ? 0 : 64 * kDims.value * 4) +
                            warp_ * (kSecond / 32) * kGradientBoxBytes;
        sendKeys<Element, Config, kScores>(gradient_, h_, work_, key, boxes, bordered_);
        waitForBoxes();
    }

    Shared& shared_;
    const HopperBackwardArguments& h_;
    const BackwardWork& work_;
    const int warp_;
    RingIndex<kTile.stages> query_;  // of the tile whose first product is next, or under way
    RingIndex<kTile.doutStages> dout_;
    uint32_t turn_ = 0;  // parity of the weights' barriers
    int bordered_ = 0;   // a border of the mask was met
    float gradient_[kSecond / 2], product_[kQueries / 2];
    uint32_t operand_[kQueries / 16][4], held_[kSteps - kKept][4];
};

template <class Element, class Config>
__global__ void __launch_bounds__(HopperWideTile::threads, 1)
    hopperWideKeysKernel(const __grid_constant__ HopperBackwardArguments h) {
    extern __shared__ __align__(1024) char memory[];
    using Shared = HopperWideKeyShared<Config>;
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    if (threadIdx.x == 0) {
        shared.initBarriers();
        for (const CUtensorMap* map : {&h.q, &h.k, &h.v, &h.dout, &h.dk, &h.dv}) {
            prefetchMap(*map);
        }
    }
    waitForEarlierKernel();
    letNextKernelStart();  // the kernel for dQ, which reads what was there before this one
    if (threadIdx.x == 0) {
        const BackwardWork work(h.order, h.a.step, static_cast<int>(blockIdx.x), Config::kTile.keys(),
                                Config::kTile.queries);
        copyOwn<Shared>(h.k, Config::kDims.key, shared.keys, shared.queries[Config::kTile.stages - 2], work.firstKey,
                        work.keyHead, work.batch, shared.keysFull);
        copyOwn<Shared>(h.v, Config::kDims.value, shared.values(), shared.queries[Config::kTile.stages - 1],
                        work.firstKey, work.keyHead, work.batch, shared.valuesFull);
        shared.work() = work;
    }
    __syncthreads();  // barriers and work are there
    const int warpgroup = uniform(static_cast<int>(threadIdx.x) / 128);
    if (warpgroup == 0) {
        lowerRegisters<HopperWideTile::producerRegisters>();
        const int warp = static_cast<int>(threadIdx.x) / 32;
        if (warp >= 1 && warp <= HopperWideTile::rowWarps) {
            copyRows(shared, h, warp - 1);
        } else if (threadIdx.x == 0) {
            copyWideQueries(shared, h);
        }
    } else {
        raiseRegisters<HopperWideTile::consumerRegisters>();
        if (warpgroup == 1) {
            WideKeyConsumer<Element, Config, true>(shared, h).run();
        } else {
            WideKeyConsumer<Element, Config, false>(shared, h).run();
        }
    }
}

}  // namespace flashring

#endif
