// Few queries against many keys on Hopper: teams with runs of their own as in sm80/decode.cuh, but a team is a
// warpgroup, whose products are asynchronous, and a warp of the last warpgroup that has the copy engine fill its ring.
#ifndef FLASHRING_CUDA_SM90_DECODE_CUH
#define FLASHRING_CUDA_SM90_DECODE_CUH

#include "common/early_start.cuh"
#include "sm80/decode_products.cuh"
#include "sm80/nonfinite.cuh"
#include "sm90/decode_copies.cuh"
#include "sm90/wgmma.cuh"

namespace flashring {

// Registers that move from the warps that copy to those that compute: all that the block starts with.
constexpr int kHopperDecodeThreads = (kHopperDecodeTeams + 1) * 128;
constexpr int kDecodeConsumerRegisters = 216, kDecodeProducerRegisters = 72;
static_assert(kHopperDecodeTeams * kDecodeConsumerRegisters + kDecodeProducerRegisters <=
              (65536 / kHopperDecodeThreads / 8 * 8) * (kHopperDecodeTeams + 1));

// Computes a part: 64 packed rows against its tiles, 16 rows a warp.
template <class Config>
class DecodeConsumer {
    using Element = typename Config::Element;
    using Factor = typename Config::Factor;
    static constexpr int kKeys = Config::kKeys, kDim = Config::kDim;
    static constexpr bool kFloat8 = Config::kFloat8;

public:
    __device__ __forceinline__ DecodeConsumer(const DecodeArguments& a, HopperDecodeTeam<Config>& team,
                                              typename HopperDecodeTeam<Config>::Signs& signs, const DecodeSight& sight,
                                              int keyHead)
        : a_(a),
          team_(team),
          signs_(signs),
          seen_{a, sight, a.ownRows},
          keyHead_(keyHead),
          firstRow_(uniform(static_cast<int>(threadIdx.x) / 32 % 4) * 16) {}

    __device__ __forceinline__ void run(int part, int count) {
        for (int left = count; left > 0;) {  // of each batch row that the part meets
            waitForSlot();
            enterTile();
            beginRow();
            const DecodeSpan inner = seen_.byAll(place_.batch);
            for (bool first = true;; first = false) {
                if constexpr (kFloat8) {
                    widenTile();
                } else {
                    keys_ = slot_.stage;
                }
                beginProducts();
                multiplyKeys(keys_);
                commitProducts();
                waitForProducts<0>();
                if (!kFloat8 && !first) {
                    release(values_);
                }
                weighTile(inner);
                if constexpr (!kFloat8) {
                    slot_.advance();
                    waitForSlot();
                    values_ = slot_.stage;
                    slot_.advance();
                }
                if (bordered_) {
                    clearHidden(keys_, values_);
                }
                if constexpr (!kFloat8) {
                    release(keys_);
                }
                uint32_t weights[kKeys / 16][4];
                packWeights<Factor>(weights, scores_, kFloat8 ? kWeightFactor : 1);
                beginProducts();
                multiplyValues<Factor>(weights, values_);
                commitProducts();
                --left;
                if (left == 0 || place_.endsRow(kKeys)) {
                    break;
                }
                waitForSlot();
                enterTile();
            }
            waitForProducts<0>();
            if constexpr (!kFloat8) {
                release(values_);
            }
            leaveState<false>(a_, out_, state_, part, place_.batch, keyHead_, firstRow_,
                              kFloat8 ? float8OutputFactor(a_.step, keyHead_) : 1);
        }
    }

private:
    __device__ __forceinline__ void waitForSlot() const {
        wait(sharedAddress(signs_.full + slot_.stage), slot_.parity);
    }

    __device__ __forceinline__ void enterTile() {
        const int4 place = signs_.places[slot_.stage];
        place_ = {uniform(place.x), uniform(place.y), {uniform(place.z), uniform(place.w)}};
    }

    __device__ __forceinline__ void beginRow() {
        if constexpr (kFloat8) {
            factors_ = loadFloat8Queries<kDim>(queries_, a_, place_.batch, keyHead_, firstRow_);
        } else {
            loadQueries<Element, kDim>(queries_, a_, place_.batch, keyHead_, firstRow_);
        }
        clear(out_);
        state_[0] = state_[1] = {-INFINITY, 0};
    }

    // Says that this warp is done with a slot.
    __device__ __forceinline__ void release(uint32_t slot) const { releaseBarrier(signs_.empty[slot]); }

    // The bytes of a slot as float16 in a tile; 16 columns of keys in the order that loadFloat8Queries() gives those of
    // queries.
    template <bool kOfKeys>
    __device__ __forceinline__ void widen(uint32_t slot, uint32_t tile) const {
        const uint4* const bytes = reinterpret_cast<const uint4*>(team_.slot(slot));
#pragma unroll
        for (int n = 0; n < Config::kSlotBytes / 16 / 128; ++n) {
            const int i = n * 128 + static_cast<int>(threadIdx.x) % 128;
            const int r = i / 8, word = (i ^ r) % 8, panel = word / 4;
            const uint4 b = bytes[i];
            const uint4 low{widenPair<0>(b.x), kOfKeys ? widenPair<0>(b.y) : widenPair<1>(b.x),
                            kOfKeys ? widenPair<0>(b.z) : widenPair<0>(b.y),
                            kOfKeys ? widenPair<0>(b.w) : widenPair<1>(b.y)},
                high{kOfKeys ? widenPair<1>(b.x) : widenPair<0>(b.z), kOfKeys ? widenPair<1>(b.y) : widenPair<1>(b.z),
                     kOfKeys ? widenPair<1>(b.z) : widenPair<0>(b.w), widenPair<1>(b.w)};
            char* const target = team_.tiles[tile] + panel * panelBytes(kKeys) + r * 128;
            const auto store = [&](int half) {
                *reinterpret_cast<uint4*>(target + ((word % 4 * 2 + half) ^ r % 8) * 16) = half ? high : low;
            };
            store(panel);  // so that the lanes of a row write to all banks at once
            store(1 - panel);
        }
    }

    // Widens keys and values of the next tile, while products of the tile before it are under way: for those each warp
    // waits before the barrier, so that none writes where another's products still read.
    __device__ __forceinline__ void widenTile() {
        keys_ = keys_ == 0 ? 2 : 0;
        values_ = keys_ + 1;
        widen<true>(slot_.stage, keys_);
        release(slot_.stage);
        slot_.advance();
        waitForSlot();
        widen<false>(slot_.stage, values_);
        release(slot_.stage);
        slot_.advance();
        waitForProducts<0>();
        orderBeforeCopies();
        syncNamed(barrier(), 128);
    }

    __device__ __forceinline__ static int barrier() { return 1 + static_cast<int>(threadIdx.x) / 128; }

    __device__ __forceinline__ uint64_t describedTile(uint32_t tile, int panelStride) const {
        return describe(sharedAddress(team_.tiles[0]), panelStride) + tile * described(Config::kTileBytes);
    }

    // scores = Q K^T
    __device__ __forceinline__ void multiplyKeys(uint32_t tile) {
        auto& scores = reinterpret_cast<float(&)[kKeys / 2]>(scores_);
        const uint64_t keys = describedTile(tile, 0);
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) {
            const uint64_t b = keys + described(k / 4 * panelBytes(kKeys) + k % 4 * 32);
            k == 0 ? Wgmma<kKeys>::template registers<Factor, 0, 0>(scores, queries_[k], b)
                   : Wgmma<kKeys>::template registers<Factor, 1, 0>(scores, queries_[k], b);
        }
    }

    // out += weights V
    template <class Type>
    __device__ __forceinline__ void multiplyValues(const uint32_t (&weights)[kKeys / 16][4], uint32_t tile) {
        auto& out = reinterpret_cast<float(&)[kDim / 2]>(out_);
        const uint64_t values = describedTile(tile, panelBytes(kKeys));
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k) {
            Wgmma<kDim>::template registers<Type, 1, 1>(out, weights[k], values + described(k * 16 * 128));
        }
    }

    template <class Type>
    static __device__ __forceinline__ void packWeights(uint32_t (&packed)[kKeys / 16][4],
                                                       const float (&tile)[1][kKeys / 8][4], float factor) {
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
            packed[n / 2][n % 2 * 2] = pack<Type>(tile[0][n][0] * factor, tile[0][n][1] * factor);
            packed[n / 2][n % 2 * 2 + 1] = pack<Type>(tile[0][n][2] * factor, tile[0][n][3] * factor);
        }
    }

    // Products of the tile's keys become weights, and what there was is weighed against their maximum.
    __device__ __forceinline__ void weighTile(const DecodeSpan& inner) {
        bordered_ = place_.key < inner.begin || place_.key + kKeys > inner.end;
        if constexpr (kFloat8) {
            multiplyRows(scores_, {factors_.x, factors_.y});
        }
        if (a_.shape.any) {
            shape(scores_, a_, keyHead_, firstRow_, place_.key);
        }
        if (bordered_) {
            hide(scores_, seen_, place_, firstRow_, -INFINITY);
        }
        float decay[2];
        weigh(scores_, state_, decay, ScoreScale{a_.scale, a_.scaleLog2});
        if (__any_sync(~0u, decay[0] != 1 || decay[1] != 1)) {
            multiplyRows(out_, decay);
        }
    }

    // Calls body(word, number) for this thread's 16-byte words of a tile, 8 of them to 128 bytes of a key.
    template <class Body>
    __device__ __forceinline__ void forEachWord(uint32_t tile, const Body& body) {
#pragma unroll 4
        for (int i = static_cast<int>(threadIdx.x) % 128; i < Config::kTileBytes / 16; i += 128) {
            body(reinterpret_cast<uint4*>(team_.tiles[tile])[i], i);
        }
    }

    // Values that no query sees become zeros. Others may be hidden from some: what is not finite there becomes infinity
    // for those who see it (nonfinite.cuh); the memory of the keys, which have served, takes the marks.
    __device__ __forceinline__ void clearHidden(uint32_t keys, uint32_t values) {
        const bool several = a_.step.q_len > 1;
        uint32_t rest = 0;  // not 0 where something is not finite
        forEachWord(values, [&](uint4& word, int i) {
            if (!place_.keys.has(place_.key + i / 8 % kKeys)) {
                word = {};
            } else if (several) {
                addZeroTimes<Factor>(rest, word.x);
                addZeroTimes<Factor>(rest, word.y);
                addZeroTimes<Factor>(rest, word.z);
                addZeroTimes<Factor>(rest, word.w);
            }
        });
        orderBeforeCopies();
        if (!anyNamed(barrier(), 128, rest != 0)) {
            return;
        }
        forEachWord(values, [&](uint4& word, int i) {
            reinterpret_cast<uint4*>(team_.tiles[keys])[i] = {marksOf<Factor>(word.x), marksOf<Factor>(word.y),
                                                              marksOf<Factor>(word.z), marksOf<Factor>(word.w)};
            word = {finitePart<Factor>(word.x), finitePart<Factor>(word.y), finitePart<Factor>(word.z),
                    finitePart<Factor>(word.w)};
        });
        orderBeforeCopies();
        syncNamed(barrier(), 128);
        float seen[1][kKeys / 8][4];
        markSeen(seen, seen_, place_, firstRow_);
        uint32_t weights[kKeys / 16][4];
        packWeights<__nv_bfloat16>(weights, seen, 1);
        beginProducts();
        multiplyValues<__nv_bfloat16>(weights, keys);
        commitProducts();
        waitForProducts<0>();
    }

    const DecodeArguments& a_;
    HopperDecodeTeam<Config>& team_;
    typename HopperDecodeTeam<Config>::Signs& signs_;
    const DecodeSeen seen_;
    const int keyHead_, firstRow_;
    RingIndex<Config::kSlots> slot_;
    uint32_t keys_ = 0, values_ = 0;  // tiles that products read
    DecodePlace place_;
    bool bordered_;
    uint32_t queries_[kDim / 16][4];
    float scores_[1][kKeys / 8][4], out_[1][kDim / 8][4];
    RowState state_[2];
    float2 factors_;  // of products of bytes
};

template <class Config>
__global__ void __launch_bounds__(kHopperDecodeThreads, 1)
    hopperDecodeKernel(const __grid_constant__ HopperDecodeArguments h) {
    extern __shared__ __align__(1024) char memory[];
    auto& shared = *reinterpret_cast<HopperDecodeShared<Config>*>(memory);
    const DecodeArguments& a = h.a;
    if (threadIdx.x == 0) {
        for (auto& signs : shared.signs) {
            signs.init();
        }
        publishBarriers();
        if (h.boxKeys > 0) {
            prefetchMap(h.k);
            prefetchMap(h.v);
        }
    }
    __syncthreads();
    waitForEarlierKernel();
    letNextKernelStart();
    const int warp = uniform(static_cast<int>(threadIdx.x) / 32);
    const bool computes = warp < kHopperDecodeTeams * 4;
    const int team = computes ? warp / 4 : warp % 4;
    const int keyHeads = static_cast<int>(a.step.kv_heads), keyHead = blockIdx.x % keyHeads;
    if (!a.ownRows) {
        lookAt(a.step, shared.sight);
    }
    const auto forEachPart = [&](const auto& body) {
        for (int part = team * a.blocks + blockIdx.x / keyHeads;; part += a.blocks * kHopperDecodeTeams) {
            const DecodeStart start = a.ownRows ? planRows(a, part) : planAlike(a, shared.sight, part);
            if (team >= kHopperDecodeTeams || part >= start.cut.parts) {
                return;
            }
            body(start, part);
            if (a.stretch == 0) {
                return;
            }
        }
    };
    if (computes) {
        raiseRegisters<kDecodeConsumerRegisters>();
        DecodeConsumer<Config> consumer(a, shared.teams[team], shared.signs[team], shared.sight, keyHead);
        forEachPart([&](const DecodeStart& start, int part) { consumer.run(part, start.count); });
    } else {
        lowerRegisters<kDecodeProducerRegisters>();
        RingIndex<Config::kSlots> slot;
        forEachPart([&](const DecodeStart& start, int) {
            h.boxKeys > 0 ? copyBoxes<Config>(h, shared.teams[team], shared.signs[team], slot, start, keyHead)
                          : copyRows<Config>(h, shared.teams[team], shared.signs[team], slot, start, keyHead);
        });
    }
}

template <class Config>
void launchHopperDecode(const HopperDecodeArguments& h) {
    constexpr int kBytes = sizeof(HopperDecodeShared<Config>);
    static_assert(kBytes <= static_cast<int>(SharedMemory::KB227), "more shared memory than a block can have");
    launch(hopperDecodeKernel<Config>, "Hopper decode kernel", Start::Early, h.a.blocks * h.a.step.kv_heads,
           kHopperDecodeThreads, kBytes, h.a.step.stream, h);
}

template <class Element>
void hopperDecodeStep(const HopperDecodeArguments& h) {
    if constexpr (sizeof(Element) == 1) {  // narrower rows are padded
        launchHopperDecode<HopperDecodeConfig<Element, 128>>(h);
    } else {
        h.a.pitch == 64 ? launchHopperDecode<HopperDecodeConfig<Element, 64>>(h)
                        : launchHopperDecode<HopperDecodeConfig<Element, 128>>(h);
    }
}

}  // namespace flashring

#endif
