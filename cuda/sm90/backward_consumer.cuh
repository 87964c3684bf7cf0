// The arithmetic of the backward kernel (backward.cuh): what one consumer warpgroup does, tile of queries by tile.
#ifndef FLASHRING_CUDA_SM90_BACKWARD_CONSUMER_CUH
#define FLASHRING_CUDA_SM90_BACKWARD_CONSUMER_CUH

#include <math.h>

#include "sm90/backward_copies.cuh"
#include "sm90/backward_outputs.cuh"
#include "sm90/key_rows.cuh"
#include "sm90/pairwise.cuh"
#include "sm90/wgmma.cuh"

namespace flashring {

// One consumer warpgroup. Lane l of warp w holds keys 16 w + l / 4 and 8 more of its 64, two queries in each 8.
template <class Element, class Config>
class BackwardConsumer {
    using Shared = HopperBackwardShared<Config>;
    static constexpr HopperBackwardTile kTile = Config::kTile;
    static constexpr HeadDims kDims = Config::kDims;
    static constexpr int kQueries = kTile.queries, kThreads = kTile.consumers * 128,
                         kDqColumns = kTile.dqColumns(kDims);
    static constexpr int kAllConsumers = 1;  // the named barrier of all of them
    static constexpr bool kCapped = Config::kShaping == Shaping::Softcap, kSloped = Config::kShaping == Shaping::Alibi;

public:
    __device__ __forceinline__ BackwardConsumer(Shared& shared, const HopperBackwardArguments& h, int number)
        : shared_(shared),
          h_(h),
          work_(shared.work()),
          place_(work_),
          number_(number),
          warp_(uniform(threadIdx.x % 128 / 32)) {}

    __device__ __forceinline__ void run() {
#pragma unroll
        for (int i = 0; i < kDims.key / 2; ++i) {
            dk_[i] = 0;
        }
#pragma unroll
        for (int i = 0; i < kDims.value / 2; ++i) {
            dv_[i] = 0;
        }
        int left = (work_.lastTile - work_.firstTile) * (work_.lastHead - work_.firstHead);
        wait(address(shared_.keysFull), 0);
        wait(address(shared_.valuesFull), 0);
        if (left > 0) {
            multiplyQueries();
            commitProducts();
            waitForProducts<1>();
            multiplyDouts();
            commitProducts();
            for (; left > 1; --left) {
                step<false>();
            }
            step<true>();
            waitForBoxes();
        }
        store();
    }

private:
    // The tile whose dQ is still to come.
    struct Behind {
        RingIndex<kTile.gradientStages()> gradients;
        BackwardPlace place;
        bool finite;
    };

    static __device__ __forceinline__ uint32_t address(const uint64_t& barrier) { return sharedAddress(&barrier); }

    // Address of a tile that stays, computed each time: descriptors kept in registers would leave none for the rest.
    static __device__ __forceinline__ uint32_t addressOf(const char* tile) {
        uint32_t address;
        asm volatile("mov.u32 %0, %1;" : "=r"(address) : "r"(sharedAddress(tile)));
        return address;
    }

    // product = start + own K^T Q^T or own V^T dO^T, dim long, once the other operand is there
    template <int kDim, bool kFromZero = false>
    __device__ __forceinline__ void multiplyTile(float (&product)[kQueries / 2], const char* mine, const char* tile,
                                                 const uint64_t& full, const float* start) {
        wait(address(full), stage_.parity);
        if constexpr (!kFromZero) {
            startFrom(product, start);
        }
        const uint64_t a = describe(addressOf(mine) + number_ * panelBytes(64), 0),
                       b = describe(sharedAddress(tile), 0);
        beginProducts();
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) {
            const uint64_t stepA = described(k / 4 * panelBytes(kTile.keys()) + k % 4 * 32),
                           stepB = described(k / 4 * panelBytes(kQueries) + k % 4 * 32);
            kFromZero&& k == 0 ? Wgmma<kQueries>::template fresh<Element, 0>(product, a, b)
                               : Wgmma<kQueries>::template shared<Element, 1>(product, a + stepA, b + stepB);
        }
    }

    __device__ __forceinline__ void multiplyQueries() {
        multiplyTile<kDims.key, kCapped>(p_, shared_.keys, shared_.queries[stage_.stage],
                                         shared_.queriesFull[stage_.stage], shared_.rows[stage_.stage].score);
    }

    __device__ __forceinline__ void multiplyDouts() {
        multiplyTile<kDims.value>(ds_, shared_.values, shared_.douts[stage_.stage], shared_.doutsFull[stage_.stage],
                                  shared_.rows[stage_.stage].dp);
    }

    // gradient += operand (64 keys x queries) times a tile of queries
    template <int kDim>
    __device__ __forceinline__ void multiplyRegisters(float (&gradient)[kDim / 2],
                                                      const uint32_t (&operand)[kQueries / 16][4], const char* tile) {
        const uint64_t b = describe(sharedAddress(tile), panelBytes(kQueries));
        beginProducts();
#pragma unroll
        for (int k = 0; k < kQueries / 16; ++k) {
            Wgmma<kDim>::template registers<Element, 1, 1>(gradient, operand[k], b + described(k * 16 * 128));
        }
    }

    // This lane's first, in the block. Found anew each time: no register is free to keep it.
    static __device__ __forceinline__ int firstKey() {
        int thread;
        asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
        return (thread - 128) / 32 * 16 + thread % 32 / 4;
    }

    // 0 where all scores and dP of the tile are finite.
    __device__ __forceinline__ float probe() const {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < kQueries / 2; ++i) {
            sum = fmaf(p_[i], 0.0f, fmaf(ds_[i], 0.0f, sum));
        }
        return sum;
    }

    // P and dS, rounded, from the scores in p_ and dP in ds_. False where the mask and something that is not finite
    // meet in this tile, for any consumer.
    __device__ __forceinline__ bool weigh() {
        const auto& rows = shared_.rows[stage_.stage];
        const int kind = rows.kind();
        bool finite = true;
        waitForProducts<0>();
        if (!kCapped && kind & kCareful) {
            if constexpr (kSloped) {
                subtractCarefully(p_, rows, firstKey(), h_);
            } else {
                subtractCarefully(p_, rows.lse, h_);
            }
        }
        if (kind & kBordered) {
            finite = !anyNamed(kAllConsumers, kThreads, probe() != 0);
        }
        if constexpr (kCapped) {
            capProducts(p_, h_);
        }
        if (kind & kBordered) {
            hide<kCapped>(p_, rows, number_ * 64 + warp_ * 16);
        }
        float ahead[2];  // what ALiBi adds to this lane's keys, beside what their products start from
        if constexpr (kSloped) {
            const float slope = kind & kCareful ? 0 : rows.slope * rows.stride * static_cast<float>(M_LOG2E);
            ahead[0] = slope * static_cast<float>(firstKey());
            ahead[1] = fmaf(slope, 8, ahead[0]);
        }
#pragma unroll
        for (int n = 0; n < kQueries / 8; ++n) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int i = n * 4 + half * 2;
                float p, q;
                if constexpr (kCapped) {
                    const CappedPair even{h_, lseOf(rows, n, 0)}, odd{h_, lseOf(rows, n, 1)};
                    float slopes[2];
                    p = even(p_[i], slopes[0]);
                    q = odd(p_[i + 1], slopes[1]);
                    ds_[i] *= slopes[0];
                    ds_[i + 1] *= slopes[1];
                } else if constexpr (kSloped) {
                    p = exp2Fast(fmaf(p_[i], h_.factorLog2, ahead[half]));
                    q = exp2Fast(fmaf(p_[i + 1], h_.factorLog2, ahead[half]));
                } else {
                    p = exp2Fast(p_[i] * h_.a.scaleLog2);
                    q = exp2Fast(p_[i + 1] * h_.a.scaleLog2);
                }
                weights_[n / 2][n % 2 * 2 + half] = pack<Element>(p, q);
                gradients_[n / 2][n % 2 * 2 + half] = pack<Element>(p * ds_[i], q * ds_[i + 1]);
            }
        }
        return finite;
    }

    // This consumer's dS^T to shared memory, as panels of 64 queries.
    __device__ __forceinline__ void shareGradients(const RingIndex<kTile.gradientStages()>& now) {
        const int lane = threadIdx.x % 32;
        const uint32_t base =
            sharedAddress(shared_.gradients[now.stage]) + (number_ * 64 + warp_ * 16 + lane % 16) * 128;
#pragma unroll
        for (int k = 0; k < kQueries / 16; ++k) {
            storeMatrices(base + k / 4 * panelBytes(kTile.keys()) + ((k % 4 * 32 + lane / 16 * 16) ^ (lane % 8 * 16)),
                          gradients_[k]);
        }
        orderBeforeCopies();
        releaseBarrier(shared_.gradientsFull[now.stage]);
    }

    // dq_ = dS K: this consumer's columns, or all of them in its turn.
    __device__ __forceinline__ void multiplyGradients(const RingIndex<kTile.gradientStages()>& now) {
        wait(address(shared_.gradientsFull[now.stage]), now.parity);
        const uint64_t a = describe(sharedAddress(shared_.gradients[now.stage]), 0);
        const uint64_t b =
            describe(addressOf(shared_.keys) + dqPanel() * panelBytes(kTile.keys()), panelBytes(kTile.keys()));
        beginProducts();
#pragma unroll
        for (int k = 0; k < kTile.keys() / 16; ++k) {
            const uint64_t step = described(k * 16 * 128);
            k == 0 ? Wgmma<kDqColumns>::template fresh<Element, 1>(dq_, a, b)
                   : Wgmma<kDqColumns>::template shared<Element, 1, 1>(dq_, a + step, b + step);
        }
    }

    __device__ __forceinline__ int dqPanel() const { return kTile.dqInTurn ? 0 : number_; }

    // Adds this warp's 16 queries of dq_ to what is gathered, by way of shared memory.
    __device__ __forceinline__ void addDq(const BackwardPlace& here) {
        static_assert(kDims.key % kDqColumns == 0, "every share of dQ's columns is whole");
        float* const target = h_.dq.at(work_.batch * static_cast<int>(h_.a.step.q_heads) + here.head,
                                       here.tile * (kQueries / 16) + warp_, dqPanel() * 64);
        addGathered<kDqColumns>(dq_, shared_.dq[number_ * 4 + warp_], target);
    }

    // One tile of queries, whose scores and dP are under way, and but for the last the start of the next.
    template <bool kLast>
    __device__ __forceinline__ void step() {
        const BackwardPlace here = place_;
        const RingIndex<kTile.stages> now = stage_;
        const bool finite = weigh();
        if (!finite) {
            addAlone(here);
        }
        place_.advance(work_);
        stage_.advance();
        if constexpr (kTile.dqInTurn) {
            multiplyRegisters<kDims.value>(dv_, weights_, shared_.douts[now.stage]);
            shareGradients(now);
            multiplyRegisters<kDims.key>(dk_, gradients_, shared_.queries[now.stage]);
            commitProducts();
            addDqInTurn(here, now, finite);
        } else {
            addDqBehind(now);
            behind_ = {behind_.gradients.next(), here, finite};
        }
        if constexpr (!kLast) {
            multiplyQueries();
            commitProducts();
        }
        if constexpr (kLast && !kTile.dqInTurn) {
            addLastDq();
        }
        waitForProducts<kLast ? 0 : 1>();
        if constexpr (!kTile.dqInTurn) {
            releaseTile(now);
        }
        if constexpr (!kLast) {
            multiplyDouts();
            commitProducts();
        }
    }

    // The products of a tile, but dQ of the one before it: no consumer waits for the other's dS, which is there by now.
    // That dQ comes first, and is handed over behind this consumer's other two.
    __device__ __forceinline__ void addDqBehind(const RingIndex<kTile.stages>& now) {
        multiplyGradients(behind_.gradients);
        commitProducts();
        multiplyRegisters<kDims.value>(dv_, weights_, shared_.douts[now.stage]);
        shareGradients(behind_.gradients.next());
        multiplyRegisters<kDims.key>(dk_, gradients_, shared_.queries[now.stage]);
        commitProducts();
        waitForProducts<1>();
        if (behind_.finite) {
            addDq(behind_.place);
        }
    }

    __device__ __forceinline__ void addLastDq() {
        multiplyGradients(behind_.gradients);
        commitProducts();
        waitForProducts<0>();
        if (behind_.finite) {
            addDq(behind_.place);
        }
    }

    // A consumer whose turn it is not needs no more than the others' queries: dS stays until the one whose turn it is
    // gives those back.
    __device__ __forceinline__ void addDqInTurn(const BackwardPlace& here, const RingIndex<kTile.stages>& now,
                                                bool finite) {
        if constexpr (kDqColumns > 96) {
            waitForProducts<0>();  // operands leave the registers that dQ needs
        }
        if ((kTile.consumers == kTile.stages ? static_cast<int>(now.stage) : turn_) == number_) {
            multiplyGradients(now);
            commitProducts();
            waitForProducts<0>();
            releaseTile(now);
            if (finite) {
                addDq(here);
            }
        } else {
            waitForProducts<0>();
            releaseTile(now);
        }
        turn_ = turn_ + 1 == kTile.consumers ? 0 : turn_ + 1;
    }

    __device__ __forceinline__ void releaseTile(const RingIndex<kTile.stages>& tile) {
        releaseBarrier(shared_.queriesEmpty[tile.stage]);
        releaseBarrier(shared_.doutsEmpty[tile.stage]);
    }

    // A tile pair by pair: adds to memory, and leaves nothing for the products but a dq_ that means nothing.
    __device__ __forceinline__ void addAlone(const BackwardPlace& here) {
        const int thread = static_cast<int>(threadIdx.x) - 128;
        if (!addsToMemory_ && !h_.addsDkv) {
            clearRows<kThreads>(h_.a.step, h_.a.step.dk, static_cast<int>(h_.a.step.head_dim), work_, kTile.keys(),
                                thread);
            clearRows<kThreads>(h_.a.step, h_.a.step.dv, static_cast<int>(h_.a.step.value_dim), work_, kTile.keys(),
                                thread);
            syncNamed(kAllConsumers, kThreads);
        }
        addsToMemory_ = true;
        addPairs<Element, Config::kShaping, kTile.consumers * 4>(h_.a, h_.dq, here.tile * kQueries, kQueries,
                                                                 work_.firstKey, work_.firstKey + kTile.keys(),
                                                                 here.head, work_.batch);
        clearTile<kThreads>(shared_.queries[stage_.stage], thread);
        clearTile<kThreads>(shared_.douts[stage_.stage], thread);
#pragma unroll
        for (int n = 0; n < kQueries / 16; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                weights_[n][i] = gradients_[n][i] = 0;
            }
        }
        orderBeforeCopies();
        syncNamed(kAllConsumers, kThreads);
    }

    __device__ __forceinline__ void store() {
        if (addsToMemory_) {
            orderAllBeforeCopies();
        }
        syncNamed(kAllConsumers, kThreads);  // no product reads shared memory any more
        const int key = work_.firstKey + number_ * 64 + warp_ * 16;
        if (key < h_.a.step.kv_len) {
            const bool add = addsToMemory_ || h_.addsDkv;
            const int box = number_ * 4 + warp_;
            const auto share = [box](char* tile, int dim) { return tile + box * dim / 32 * kGradientBoxBytes; };
            storeGradient<kDims.value>(dv_, 1, h_.dv, share(shared_.queries[0], kDims.value), key, work_, add);
            storeGradient<kDims.key>(dk_, static_cast<float>(h_.a.step.softmax_scale), h_.dk,
                                     share(shared_.keys, kDims.key), key, work_, add);
        }
        waitForBoxes();
    }

    Shared& shared_;
    const HopperBackwardArguments& h_;
    const BackwardWork& work_;
    BackwardPlace place_;
    const int number_, warp_;  // of the consumers; within this one
    RingIndex<kTile.stages> stage_;
    // before the first tile: as if dS were there
    Behind behind_{{kTile.gradientStages() - 1, 1}, BackwardPlace(work_), false};
    int turn_ = 0;  // who computes the next dQ, where consumers take turns and are more than the stages
    bool addsToMemory_ = false;
    float dk_[kDims.key / 2], dv_[kDims.value / 2], p_[kQueries / 2], ds_[kQueries / 2], dq_[kDqColumns / 2];
    uint32_t weights_[kQueries / 16][4], gradients_[kQueries / 16][4];
};

}  // namespace flashring

#endif
