// dQ apart from dK and dV on Hopper: each block owns 64 queries a consumer, of one head, and walks over the keys that
// they see, 64 at a time.
//   producer    one thread copies Q and dO once, and K and V of each tile of keys
//   consumers   64 queries each: S = Q K^T, dP = dO V^T, from them dS, rounded, as an operand in registers, and dQ +=
//               dS K
// A consumer issues dQ of one tile and S and dP of the next; meanwhile the others do their arithmetic. Every second one
// computes dP before dQ, the others dQ before dP: so two of them use a tile of values shortly after each other, and
// there is time to bring the next.
//
// NaN that came through hidden pairs is dealt with as in the kernels for dK and dV (separate_parts.cuh).
#ifndef FLASHRING_CUDA_SM90_SEPARATE_QUERIES_CUH
#define FLASHRING_CUDA_SM90_SEPARATE_QUERIES_CUH

#include "sm90/schedule.cuh"
#include "sm90/separate_parts.cuh"

namespace flashring {

template <int kIndex, Shaping kShapes = Shaping::None>
struct HopperQueryConfig {
    static constexpr Shaping kShaping = kShapes;
    static constexpr HeadDims kDims = kHeadDims[kIndex];
    static constexpr HopperQueryTile kTile = hopperQueryTile(kDims);
};

// What a block works on: `tiles` tiles of keys from firstKey on.
struct OwnQueryWork {
    int firstQuery, head, batch, keyHead;
    int firstKey, tiles;

    __device__ OwnQueryWork(const TileOrder& order, const Arguments& a, int block, const HopperQueryTile& shape) {
        int tile, anyHead;
        locate(order, block, tile, anyHead);
        const int heads = static_cast<int>(a.step.q_heads);
        firstQuery = tile * shape.queries();
        head = anyHead % heads;
        batch = anyHead / heads;
        keyHead = head / (heads / static_cast<int>(a.step.kv_heads));
        const int last = min(firstQuery + shape.queries(), static_cast<int>(a.step.q_len)) - 1, lo = a.lo[firstQuery],
                  hi = a.hi[last];
        firstKey = lo / shape.keys * shape.keys;
        tiles = lo < hi ? ceilDiv(hi - firstKey, shape.keys) : 0;
    }
};

// Shared memory of a block. Starts on 1,024 bytes.
template <class Config>
struct HopperOwnQueryShared {
    static constexpr HopperQueryTile kTile = Config::kTile;
    static constexpr HeadDims kDims = Config::kDims;
    static constexpr int kOwnPanel = panelBytes(kTile.queries()), kPanel = panelBytes(kTile.keys);

    // dQ leaves by way of these and what follows
    char queries[panels(kDims.key) * kOwnPanel], douts[panels(kDims.value) * kOwnPanel];
    char keys[kTile.keyStages][panels(kDims.key) * kPanel], values[kTile.valueStages][panels(kDims.value) * kPanel];
    alignas(OwnQueryWork) char workMemory[sizeof(OwnQueryWork)];
    uint64_t queriesFull, doutsFull;
    uint64_t keysFull[kTile.keyStages], keysEmpty[kTile.keyStages];
    uint64_t valuesFull[kTile.valueStages], valuesEmpty[kTile.valueStages];

    static_assert(kTile.queries() * panels(kDims.key) * 64 * 4 <=
                      sizeof queries + sizeof douts + sizeof keys + sizeof values,
                  "no room for dQ");

    __device__ OwnQueryWork& work() { return *reinterpret_cast<OwnQueryWork*>(workMemory); }

    __device__ void initBarriers() {
        initBarrier(sharedAddress(&queriesFull), 1);
        initBarrier(sharedAddress(&doutsFull), 1);
        for (int i = 0; i < kTile.keyStages; ++i) {
            initBarrier(sharedAddress(keysFull + i), 1);
            initBarrier(sharedAddress(keysEmpty + i), kTile.consumers * 4);
        }
        for (int i = 0; i < kTile.valueStages; ++i) {
            initBarrier(sharedAddress(valuesFull + i), 1);
            initBarrier(sharedAddress(valuesEmpty + i), kTile.consumers * 4);
        }
        publishBarriers();
    }
};

// What the consumers begin with comes first: queries are on their way.
template <class Config>
__device__ void copyKeys(HopperOwnQueryShared<Config>& shared, const HopperBackwardArguments& h) {
    constexpr HopperQueryTile kTile = Config::kTile;
    const OwnQueryWork& work = shared.work();
    RingIndex<kTile.keyStages> keyIndex;
    RingIndex<kTile.valueStages> valueIndex;
    for (int tile = 0; tile < work.tiles; ++tile) {
        const int key = work.firstKey + tile * kTile.keys;
        waitForBarrier(shared.keysEmpty[keyIndex.stage], keyIndex.parity ^ 1);
        copyTile(shared.keys[keyIndex.stage], h.k, Config::kDims.key, kTile.keys, key, work.keyHead, work.batch,
                 shared.keysFull[keyIndex.stage]);
        if (tile == 0) {
            copyBoxes<kTile.queries()>(shared.douts, h.dout, Config::kDims.value, work.firstQuery, work.head,
                                       work.batch, shared.doutsFull);
        }
        waitForBarrier(shared.valuesEmpty[valueIndex.stage], valueIndex.parity ^ 1);
        copyTile(shared.values[valueIndex.stage], h.v, Config::kDims.value, kTile.keys, key, work.keyHead, work.batch,
                 shared.valuesFull[valueIndex.stage]);
        keyIndex.advance();
        valueIndex.advance();
    }
}

// One consumer. Lane l of warp w holds queries 16 w + l / 4 and 8 more of its 64, two keys in each 8.
template <class Element, class Config, int kNumber>
class OwnQueryConsumer {
    using Shared = HopperOwnQueryShared<Config>;
    static constexpr HopperQueryTile kTile = Config::kTile;
    static constexpr HeadDims kDims = Config::kDims;
    static constexpr int kKeys = kTile.keys, kThreads = kTile.consumers * 128;
    static constexpr bool kDqFirst = kNumber % 2 == 0, kCapped = Config::kShaping == Shaping::Softcap;
    static constexpr int kAllConsumers = 1;  // the named barrier of all of them

public:
    __device__ __forceinline__ OwnQueryConsumer(Shared& shared, const HopperBackwardArguments& h)
        : shared_(shared), h_(h), work_(shared.work()), warp_(uniform(threadIdx.x % 128 / 32)) {}

    __device__ __forceinline__ void run() {
        loadRows();
#pragma unroll
        for (int i = 0; i < kDims.key / 2; ++i) {
            dq_[i] = 0;
        }
        int left = uniform(work_.tiles);
        key_ = uniform(work_.firstKey);
        waitForBarrier(shared_.queriesFull, 0);
        if (left > 0) {
            multiplyKeys(keyIndex_);
            waitForBarrier(shared_.doutsFull, 0);
            multiplyValues(valueIndex_);
            waitForProducts<0>();
            releaseBarrier(shared_.valuesEmpty[valueIndex_.stage]);
            for (; left > 1; --left) {
                step<false>();
            }
            step<true>();
        }
        store();
    }

private:
    // What is known of this lane's two queries, and where the mask begins to hide keys from this warp's.
    __device__ __forceinline__ void loadRows() {
        const flashring_step& step = h_.a.step;
        float lse[2];
        bool careful = !kCapped && h_.careful;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int i =
                work_.firstQuery + kNumber * 64 + warp_ * 16 + static_cast<int>(threadIdx.x) % 32 / 4 + half * 8;
            const bool exists = i < step.q_len;
            lse[half] = exists ? *row<const float>(step.lse, work_.batch, i, work_.head) : -INFINITY;
            delta_[half] = exists ? *row<const float>(step.delta, work_.batch, i, work_.head) : 0;
            lo_[half] = exists ? h_.a.lo[i] : 0;
            hi_[half] = exists ? h_.a.hi[i] : INT32_MAX;
            careful |= !kCapped && lse[half] != -INFINITY && fabsf(lse[half]) > kMostPlainLse;
            lse[half] = lse[half] == -INFINITY ? kNothingSeen : lse[half];
        }
        careful_ = __any_sync(~0u, careful);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            lse_[half] = careful_ ? lse[half] : lse[half] * static_cast<float>(M_LOG2E);
        }
        plainFrom_ = static_cast<int>(__reduce_max_sync(~0u, max(lo_[0], lo_[1])));
        plainTo_ = static_cast<int>(__reduce_min_sync(~0u, min(hi_[0], hi_[1])));
    }

    // product = own rows of `mine` times those of `tile`
    template <int kDim>
    static __device__ __forceinline__ void multiplyTile(float (&product)[kKeys / 2], const char* mine,
                                                        const char* tile) {
        const uint64_t a = describe(addressAnew(mine) + kNumber * panelBytes(64), 0),
                       b = describe(sharedAddress(tile), 0);
        beginProducts();
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) {
            const uint64_t stepA = described(k / 4 * Shared::kOwnPanel + k % 4 * 32),
                           stepB = described(k / 4 * Shared::kPanel + k % 4 * 32);
            k == 0 ? Wgmma<kKeys>::template fresh<Element, 0>(product, a, b)
                   : Wgmma<kKeys>::template shared<Element, 1>(product, a + stepA, b + stepB);
        }
        commitProducts();
    }

    __device__ __forceinline__ void multiplyKeys(const RingIndex<kTile.keyStages>& at) {
        waitForBarrier(shared_.keysFull[at.stage], at.parity);
        multiplyTile<kDims.key>(scores_, shared_.queries, shared_.keys[at.stage]);
    }

    __device__ __forceinline__ void multiplyValues(const RingIndex<kTile.valueStages>& at) {
        waitForBarrier(shared_.valuesFull[at.stage], at.parity);
        multiplyTile<kDims.value>(dp_, shared_.douts, shared_.values[at.stage]);
    }

    // dQ += dS K
    __device__ __forceinline__ void multiplyGradients(const RingIndex<kTile.keyStages>& at) {
        multiplyOperand<Element, kDims.key>(dq_, operand_, shared_.keys[at.stage]);
        commitProducts();
    }

    // Puts (score - lse) / scale, at most 0, in place of the scores, which are rounded as forward rounds them.
    __device__ __forceinline__ void subtractCarefully() {
        const float scale = static_cast<float>(h_.a.step.softmax_scale), inverse = -h_.scoresStart;
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i) {
            scores_[i] = atMostZero((__fmul_rn(scores_[i], scale) - lse_[i % 4 / 2]) * inverse);
        }
    }

    // Puts -inf in place of the scores that the mask hides, under a softcap kHiddenTanh in place of their tanh.
    __device__ __forceinline__ void hide() {
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i) {
            const int key = key_ + i / 4 * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2, half = i % 4 / 2;
            scores_[i] = key >= lo_[half] && key < hi_[half] ? scores_[i] : kCapped ? kHiddenTanh : -INFINITY;
        }
    }

    // operand_ = dS, rounded.
    __device__ __forceinline__ void weigh() {
        float shift[2] = {lse_[0], lse_[1]};
        if (careful_) {
            subtractCarefully();
            shift[0] = shift[1] = 0;
        }
        if constexpr (kCapped) {
            capProducts(scores_, h_);
        }
        if (key_ < plainFrom_ || key_ + kKeys > plainTo_) {
            hide();
            bordered_ = true;
        }
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int i = n * 4 + half * 2;
                if constexpr (kCapped) {
                    const CappedPair pair{h_, shift[half]};
                    float slopes[2];
                    const float p = pair(scores_[i], slopes[0]), q = pair(scores_[i + 1], slopes[1]);
                    packPair<Element>(operand_, n, half, p * slopes[0] * (dp_[i] - delta_[half]),
                                      q * slopes[1] * (dp_[i + 1] - delta_[half]));
                    continue;
                }
                const float p = exp2Fast(fmaf(scores_[i], h_.a.scaleLog2, -shift[half])),
                            q = exp2Fast(fmaf(scores_[i + 1], h_.a.scaleLog2, -shift[half]));
                packPair<Element>(operand_, n, half, p * (dp_[i] - delta_[half]), q * (dp_[i + 1] - delta_[half]));
            }
        }
    }

    // A tile whose scores and dP are there, and but for the last those of the next.
    template <bool kLast>
    __device__ __forceinline__ void step() {
        const RingIndex<kTile.keyStages> now = keyIndex_;
        weigh();
        key_ += kKeys;
        keyIndex_.advance();
        valueIndex_.advance();
        if constexpr (kLast) {
            multiplyGradients(now);
        } else if constexpr (kDqFirst) {
            multiplyGradients(now);
            multiplyValues(valueIndex_);
            multiplyKeys(keyIndex_);
        } else {
            multiplyValues(valueIndex_);
            multiplyGradients(now);
            multiplyKeys(keyIndex_);
        }
        if constexpr (!kLast) {
            waitForProducts<2>();
            kDqFirst ? releaseBarrier(shared_.keysEmpty[now.stage])
                     : releaseBarrier(shared_.valuesEmpty[valueIndex_.stage]);
            waitForProducts<1>();
            kDqFirst ? releaseBarrier(shared_.valuesEmpty[valueIndex_.stage])
                     : releaseBarrier(shared_.keysEmpty[now.stage]);
        }
        waitForProducts<0>();
    }

    // A query's dQ, pair by pair.
    __device__ __forceinline__ void addPairsOf(int query, float (&sum)[kDims.key / 32]) {
        const flashring_step& step = h_.a.step;
        const int last = h_.a.hi[query];
#pragma unroll 1
        for (int key = h_.a.lo[query]; key < last; ++key) {
            const PairWeight weight = weighPair<Element, Config::kShaping>(h_.a, query, key, work_.head, work_.batch);
            if (!addRow(sum, weight.ds, row<const Element>(step.k, work_.batch, key, work_.keyHead), step.head_dim)) {
                return;
            }
        }
    }

    __device__ __forceinline__ void store() {
        syncNamed(kAllConsumers, kThreads);  // no product reads shared memory any more
        const int query = work_.firstQuery + kNumber * 64 + warp_ * 16, length = static_cast<int>(h_.a.step.q_len);
        if (query >= length) {
            return;
        }
        const float scale = static_cast<float>(h_.a.step.softmax_scale);
        char* const boxes =
            reinterpret_cast<char*>(&shared_) + (kNumber * 4 + warp_) * (kDims.key / 32) * kGradientBoxBytes;
        stageGradient<kDims.key>(dq_, scale, boxes);
        if (bordered_) {
            const uint32_t spoilt = rowsNotFinite(dq_);
            __syncwarp();
#pragma unroll 1
            for (int i = 0; i < 16 && query + i < length; ++i) {
                if (spoilt >> i & 1) {
                    float sum[kDims.key / 32] = {};
                    addPairsOf(query + i, sum);
                    stageRow(sum, scale, boxes, i);
                }
            }
        }
        sendGradient<kDims.key>(h_.dqBoxes, boxes, query, work_.head, work_.batch, h_.a.step.flags & FLASHRING_ADD_DQ);
        waitForBoxes();
    }

    Shared& shared_;
    const HopperBackwardArguments& h_;
    const OwnQueryWork& work_;
    const int warp_;
    RingIndex<kTile.keyStages> keyIndex_;  // of the tile whose scores are next, or under way
    RingIndex<kTile.valueStages> valueIndex_;
    int key_ = 0;                // the first of that tile
    int plainFrom_, plainTo_;    // all of this warp's queries see the keys between
    int lo_[2], hi_[2];
    float lse_[2], delta_[2];    // lse to the base of 2, but where careful_
    bool careful_, bordered_ = false;
    float dq_[kDims.key / 2], scores_[kKeys / 2], dp_[kKeys / 2];
    uint32_t operand_[kKeys / 16][4];
};

template <class Element, class Config>
__global__ void __launch_bounds__(Config::kTile.threads(), 1)
    hopperQueriesKernel(const __grid_constant__ HopperBackwardArguments h) {
    extern __shared__ __align__(1024) char memory[];
    using Shared = HopperOwnQueryShared<Config>;
    constexpr HopperQueryTile kTile = Config::kTile;
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    // The kernel before has seen the end of all that this one reads before it let this one start. It is waited for only
    // so that what comes after this kernel comes after both.
    letNextKernelStart();
    if (threadIdx.x == 0) {
        shared.initBarriers();
        for (const CUtensorMap* map : {&h.q, &h.k, &h.v, &h.dout, &h.dqBoxes}) {
            prefetchMap(*map);
        }
        const OwnQueryWork work(h.queryOrder, h.a, static_cast<int>(blockIdx.x), kTile);
        copyBoxes<kTile.queries()>(shared.queries, h.q, Config::kDims.key, work.firstQuery, work.head, work.batch,
                                   shared.queriesFull);
        shared.work() = work;
    }
    __syncthreads();  // barriers and work are there
    const int warpgroup = uniform(static_cast<int>(threadIdx.x) / 128);
    if (warpgroup == 0) {
        lowerRegisters<kTile.producerRegisters>();
        if (threadIdx.x == 0) {
            copyKeys(shared, h);
            waitForEarlierKernel();
        }
    } else {
        raiseRegisters<kTile.consumerRegisters>();
        if (warpgroup == 1) {
            OwnQueryConsumer<Element, Config, 0>(shared, h).run();
        } else if (warpgroup == 2) {
            OwnQueryConsumer<Element, Config, 1>(shared, h).run();
        } else if constexpr (kTile.consumers == 3) {
            OwnQueryConsumer<Element, Config, 2>(shared, h).run();
        }
    }
}

}  // namespace flashring

#endif
