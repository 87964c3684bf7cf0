// One backward step on Hopper: FlashAttention-2 (Dao 2023), algorithm 2, with the copy engine and asynchronous products of
// whole warpgroups; keys stay, queries pass by, as in FlashAttention-3 (Shah 2024).
//
// Each block owns a tile of keys of one key head and walks over the queries, of every head of the group, that see them:
//   producer    warp 0 copies K and V once, then Q and dO of each tile of queries; warp 1 fetches what else is known of them
//   consumers   64 keys each, whose dK and dV stay in registers. Per tile of queries:
//               S^T = K Q^T and dP^T = V dO^T, from which P^T and dS^T = P^T (dP^T - delta), rounded, become operands in
//               registers: dV += P^T dO, dK += dS^T Q. dS also goes to shared memory, where the consumers share the work of
//               dQ = dS K, which the copy engine adds to dq.
// A consumer waits for the other's dS only after its own dV and dK are under way, and two tiles of dS are kept: one consumer's
// arithmetic hides behind the other's products.
#ifndef FLASHRING_CUDA_HOPPER_BACKWARD_CUH
#define FLASHRING_CUDA_HOPPER_BACKWARD_CUH

#include <math.h>

#include "hopper_backward_copies.cuh"
#include "hopper_pairs.cuh"
#include "hopper_wgmma.cuh"
#include "outputs.cuh"
#include "prefix.cuh"

namespace flashring {

// One consumer warpgroup. Lane l of warp w holds keys 16 w + l / 4 and 8 more of its 64, two queries in each 8.
template <class Element, class Config>
class BackwardConsumer {
    using Shared = HopperBackwardShared<Config>;
    static constexpr HopperBackwardTile kTile = Config::kTile;
    static constexpr HeadDims kDims = Config::kDims;
    static constexpr int kQueries = kTile.queries, kThreads = kTile.consumers * 128;
    static constexpr int kAllConsumers = 1;  // the named barrier of all of them

public:
    __device__ __forceinline__ BackwardConsumer(Shared& shared, const HopperBackwardArguments& h, int number)
        : shared_(shared), h_(h), place_(shared.work), number_(number), warp_(uniform(threadIdx.x % 128 / 32)) {}

    __device__ __forceinline__ void run() {
#pragma unroll
        for (int i = 0; i < kDims.key / 2; ++i) {
            dk_[i] = 0;
        }
#pragma unroll
        for (int i = 0; i < kDims.value / 2; ++i) {
            dv_[i] = 0;
        }
        more_ = place_.exists(shared_.work);
        if (more_) {
            wait(address(shared_.keysFull), 0);
            multiplyQueries();
            commitProducts();
            wait(address(shared_.valuesFull), 0);
            multiplyDouts();
            commitProducts();
            do {
                step();
            } while (more_);
            waitForProducts<0>();
            waitForBoxes();
        }
        store();
    }

private:
    static __device__ __forceinline__ uint32_t address(const uint64_t& barrier) { return sharedAddress(&barrier); }

    // Says for this warp that it is done with what the barrier guards.
    static __device__ __forceinline__ void release(const uint64_t& barrier) {
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            arrive(address(barrier));
        }
    }

    // Address of a tile that stays: computed anew each time, as many descriptors kept in registers would leave none.
    static __device__ __forceinline__ uint32_t addressOf(const char* tile) {
        uint32_t address;
        asm volatile("mov.u32 %0, %1;" : "=r"(address) : "r"(sharedAddress(tile)));
        return address;
    }

    // product = own K^T Q^T or own V^T dO^T, dim long, once the other operand is there
    template <int kDim>
    __device__ __forceinline__ void multiplyTile(float (&product)[kQueries / 2], const char* mine, const char* tile, const uint64_t& full) {
        if (more_) {
            wait(address(full), stage_.parity);
        }
        const uint64_t a = describe(addressOf(mine) + number_ * panelBytes(64), 0), b = describe(sharedAddress(tile), 0);
        beginProducts();
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) {
            const uint64_t stepA = described(k / 4 * panelBytes(kTile.keys) + k % 4 * 32), stepB = described(k / 4 * panelBytes(kQueries) + k % 4 * 32);
            k == 0 ? Wgmma<kQueries>::template fresh<Element, 0>(product, a, b)
                   : Wgmma<kQueries>::template shared<Element, 1>(product, a + stepA, b + stepB);
        }
    }

    __device__ __forceinline__ void multiplyQueries() {
        multiplyTile<kDims.key>(p_, shared_.keys, shared_.queries[stage_.stage], shared_.queriesFull[stage_.stage]);
    }

    __device__ __forceinline__ void multiplyDouts() {
        multiplyTile<kDims.value>(ds_, shared_.values, shared_.douts[stage_.stage], shared_.doutsFull[stage_.stage]);
    }

    // gradient += operand (64 keys x queries) times a tile of queries
    template <int kDim>
    __device__ __forceinline__ void multiplyRegisters(float (&gradient)[kDim / 2], const uint32_t (&operand)[kQueries / 16][4], const char* tile) {
        const uint64_t b = describe(sharedAddress(tile), panelBytes(kQueries));
        beginProducts();
#pragma unroll
        for (int k = 0; k < kQueries / 16; ++k) {
            Wgmma<kDim>::template registers<Element, 1, 1>(gradient, operand[k], b + described(k * 16 * 128));
        }
    }

    // Puts -inf in place of the scores that the mask hides. Returns 0 where nothing that is not finite is in the tile.
    __device__ __forceinline__ float hide(const HopperQueryRows<kQueries>& rows) {
        const int key = number_ * 64 + warp_ * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
        float probe = 0;
#pragma unroll
        for (int n = 0; n < kQueries / 8; ++n) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const int query = n * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + e, lo = rows.lo[query], hi = rows.hi[query];
                probe = rows.shift[query] == rows.shift[query] ? fmaf(rows.delta[query], 0.0f, probe) : 1;
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    float& score = p_[n * 4 + half * 2 + e];
                    probe = fmaf(score, 0.0f, fmaf(ds_[n * 4 + half * 2 + e], 0.0f, probe));
                    score = key + half * 8 >= lo && key + half * 8 < hi ? score : -INFINITY;
                }
            }
            __syncwarp();  // keeps the loads of later columns out of registers
        }
        return probe;
    }

    // P and dS, rounded, from the scores in p_ and dP in ds_. False where the mask and something that is not finite meet in
    // this tile, for any consumer.
    __device__ __forceinline__ bool weigh() {
        const auto& rows = shared_.rows[stage_.stage];
        waitForProducts<0>();
        bool finite = true;
        if (rows.lo[kQueries - 1] > 0 || rows.hi[0] < kTile.keys || rows.hi[kQueries - 1] <= 0) {
            finite = !anyNamed(kAllConsumers, kThreads, hide(rows) != 0);
        }
#pragma unroll
        for (int n = 0; n < kQueries / 8; ++n) {
            const int query = n * 8 + static_cast<int>(threadIdx.x) % 4 * 2;
            const float2 shift = *reinterpret_cast<const float2*>(rows.shift + query), delta = *reinterpret_cast<const float2*>(rows.delta + query);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int i = n * 4 + half * 2;
                const float p = exp2Fast(fmaf(p_[i], h_.a.scaleLog2, -shift.x)), q = exp2Fast(fmaf(p_[i + 1], h_.a.scaleLog2, -shift.y));
                weights_[n / 2][n % 2 * 2 + half] = pack<Element>(p, q);
                gradients_[n / 2][n % 2 * 2 + half] = pack<Element>(p * (ds_[i] - delta.x), q * (ds_[i + 1] - delta.y));
            }
            if (n % 4 == 3) {
                __syncwarp();  // keeps the loads of later columns out of registers
            }
        }
        return finite;
    }

    // This consumer's dS^T to shared memory, as panels of 64 queries.
    __device__ __forceinline__ void shareGradients() {
        const int lane = threadIdx.x % 32;
        const uint32_t base = sharedAddress(shared_.gradients[slot_.stage]) + (number_ * 64 + warp_ * 16 + lane % 16) * 128;
#pragma unroll
        for (int k = 0; k < kQueries / 16; ++k) {
            storeMatrices(base + k / 4 * panelBytes(kTile.keys) + ((k % 4 * 32 + lane / 16 * 16) ^ (lane % 8 * 16)), gradients_[k]);
        }
        orderBeforeCopies();
        release(shared_.gradientsFull[slot_.stage]);
    }

    // dq_ = dS K for 64 queries and 64 dims: consumers take different queries where a tile has 128, else different dims.
    __device__ __forceinline__ void multiplyGradients() {
        wait(address(shared_.gradientsFull[slot_.stage]), slot_.parity);
        const int queryPanel = kQueries == 128 ? number_ : 0, dimPanel = kQueries == 128 ? 0 : number_;
        const uint64_t a = describe(sharedAddress(shared_.gradients[slot_.stage]) + queryPanel * panelBytes(kTile.keys), 0);
        const uint64_t b = describe(addressOf(shared_.keys) + dimPanel * panelBytes(kTile.keys), 0);
        beginProducts();
#pragma unroll
        for (int k = 0; k < kTile.keys / 16; ++k) {
            const uint64_t step = described(k * 16 * 128);
            k == 0 ? Wgmma<64>::template fresh<Element, 1>(dq_, a, b) : Wgmma<64>::template shared<Element, 1, 1>(dq_, a + step, b + step);
        }
        slot_.advance();
    }

    // Adds this warp's 16 queries of dq_ to dq, by way of shared memory.
    __device__ __forceinline__ void addDq(const BackwardPlace& here) {
        char* const boxes = shared_.dq[number_ * 4 + warp_][0];
        const int lane = threadIdx.x % 32;
        const float scale = static_cast<float>(h_.a.step.softmax_scale);
        if (lane == 0) {
            waitForBoxes();
        }
        __syncwarp();
#pragma unroll
        for (int n = 0; n < 8; ++n) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int query = half * 8 + lane / 4, word = n % 4 * 2 + lane % 4 / 2;  // of 16 bytes, swizzled
                float2* const target = reinterpret_cast<float2*>(boxes + n / 4 * 2048 + query * 128 + (word ^ query % 8) * 16 + lane % 2 * 8);
                *target = {dq_[n * 4 + half * 2] * scale, dq_[n * 4 + half * 2 + 1] * scale};
            }
        }
        orderBeforeCopies();
        __syncwarp();
        if (lane == 0) {
            const int query = here.tile * kQueries + (kQueries == 128 ? number_ * 64 : 0) + warp_ * 16, column = kQueries == 128 ? 0 : number_ * 64;
            addBox(h_.dq, column, query, here.head, shared_.work.batch, sharedAddress(boxes));
            addBox(h_.dq, column + 32, query, here.head, shared_.work.batch, sharedAddress(boxes + 2048));
            commitBoxes();
        }
    }

    // One tile of queries, whose scores and dP are under way, and the start of the next: of nothing useful where there is none.
    __device__ __forceinline__ void step() {
        const BackwardPlace here = place_;
        const RingIndex<kTile.stages> now = stage_;
        const bool finite = weigh();
        if (!finite) {
            addAlone(here);
        }
        place_.advance(shared_.work);
        more_ = place_.exists(shared_.work);
        stage_.advance();
        multiplyRegisters<kDims.value>(dv_, weights_, shared_.douts[now.stage]);
        shareGradients();
        multiplyRegisters<kDims.key>(dk_, gradients_, shared_.queries[now.stage]);
        commitProducts();
        multiplyGradients();
        commitProducts();
        waitForProducts<1>();
        release(shared_.queriesEmpty[now.stage]);
        release(shared_.doutsEmpty[now.stage]);
        multiplyQueries();
        commitProducts();
        waitForProducts<1>();
        if (finite) {
            addDq(here);
        }
        multiplyDouts();
        commitProducts();
    }

    // A tile pair by pair: adds to memory, and leaves nothing for the products but a dq_ that means nothing.
    __device__ __forceinline__ void addAlone(const BackwardPlace& here) {
        const int thread = static_cast<int>(threadIdx.x) - 128;
        if (!addsToMemory_ && !(h_.a.step.flags & FLASHRING_ADD_DKV)) {
            clearRows(h_.a.step.dk, static_cast<int>(h_.a.step.head_dim));
            clearRows(h_.a.step.dv, static_cast<int>(h_.a.step.value_dim));
            syncNamed(kAllConsumers, kThreads);
        }
        addsToMemory_ = true;
        addPairs<Element, kTile.consumers * 4>(h_.a, here.tile * kQueries, kQueries, shared_.work.firstKey, shared_.work.firstKey + kTile.keys, here.head, shared_.work.batch);
        clear(shared_.queries[stage_.stage], thread);
        clear(shared_.douts[stage_.stage], thread);
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

    template <int kBytes>
    static __device__ __forceinline__ void clear(char (&tile)[kBytes], int thread) {
#pragma unroll 1
        for (int i = thread * 16; i < kBytes; i += kThreads * 16) {
            *reinterpret_cast<uint4*>(tile + i) = {};
        }
    }

    // Writes zeros to the block's rows of dk or dv.
    __device__ __forceinline__ void clearRows(const flashring_tensor& target, int dim) const {
        const int thread = static_cast<int>(threadIdx.x) - 128, rows = min(kTile.keys, static_cast<int>(h_.a.step.kv_len) - shared_.work.firstKey);
#pragma unroll 1
        for (int i = thread; i < rows * dim; i += kThreads) {
            row<float>(target, shared_.work.batch, shared_.work.firstKey + i / dim, shared_.work.keyHead)[i % dim] = 0;
        }
    }

    // Writes (or adds) scale * gradient to this lane's two rows of dk or dv.
    template <int kDim>
    __device__ __forceinline__ void storeGradient(const float (&gradient)[kDim / 2], const flashring_tensor& target, int dim, float scale) {
        const int lane = threadIdx.x % 32;
        const bool add = addsToMemory_ || h_.a.step.flags & FLASHRING_ADD_DKV;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int key = shared_.work.firstKey + number_ * 64 + warp_ * 16 + half * 8 + lane / 4;
            if (key < h_.a.step.kv_len) {
                float* const to = row<float>(target, shared_.work.batch, key, shared_.work.keyHead);
#pragma unroll
                for (int n = 0; n < kDim / 8; ++n) {
                    const int column = n * 8 + lane % 4 * 2;
                    const float2 before = add ? loadPair(to, column, dim, h_.a.vectorOutputs) : float2{};
                    storePair(to, column, dim, h_.a.vectorOutputs, fmaf(gradient[n * 4 + half * 2], scale, before.x),
                              fmaf(gradient[n * 4 + half * 2 + 1], scale, before.y));
                }
            }
        }
    }

    __device__ __forceinline__ void store() {
        const flashring_step& step = h_.a.step;
        storeGradient<kDims.value>(dv_, step.dv, static_cast<int>(step.value_dim), 1);
        storeGradient<kDims.key>(dk_, step.dk, static_cast<int>(step.head_dim), static_cast<float>(step.softmax_scale));
    }

    Shared& shared_;
    const HopperBackwardArguments& h_;
    BackwardPlace place_;
    const int number_, warp_;  // of the consumers; within this one
    RingIndex<kTile.stages> stage_;
    RingIndex<2> slot_;     // the tile of dS that comes next
    bool more_, addsToMemory_ = false;  // whether tiles are left
    float dk_[kDims.key / 2], dv_[kDims.value / 2], p_[kQueries / 2], ds_[kQueries / 2], dq_[32];
    uint32_t weights_[kQueries / 16][4], gradients_[kQueries / 16][4];
};

template <class Element, class Config>
__global__ void __launch_bounds__(Config::kTile.threads, 1) hopperBackwardKernel(const __grid_constant__ HopperBackwardArguments h) {
    constexpr int kKeys = Config::kTile.keys, kQueries = Config::kTile.queries, kThreads = Config::kTile.threads;
    extern __shared__ __align__(1024) char memory[];
    HopperBackwardShared<Config>& shared = *reinterpret_cast<HopperBackwardShared<Config>*>(memory);
    if (threadIdx.x == 0) {
        shared.initBarriers();
    }
    // Early keys are seen most under a causal mask: they start first.
    const flashring_step& step = h.a.step;
    const int length = static_cast<int>(step.q_len), tiles = (static_cast<int>(step.kv_len) + kKeys - 1) / kKeys;
    const int keyHeads = static_cast<int>(step.kv_heads), group = static_cast<int>(step.q_heads) / keyHeads;
    const int block = static_cast<int>(blockIdx.x);
    const int firstKey = block % tiles * kKeys, keyHead = block / tiles % keyHeads, batch = block / tiles / keyHeads;
    const int firstQuery = prefixLength<kThreads>(length, [&](int i) { return h.a.hi[i] <= firstKey; });
    const int lastQuery = prefixLength<kThreads>(length, [&](int i) { return h.a.lo[i] < firstKey + kKeys; });
    if (threadIdx.x == 0) {
        const int firstHead = keyHead * group, lastHead = firstQuery < lastQuery ? firstHead + group : firstHead;
        shared.work = BackwardWork{firstKey, keyHead, batch, firstQuery, lastQuery, firstQuery / kQueries, (lastQuery + kQueries - 1) / kQueries, firstHead, lastHead};
    }
    __syncthreads();  // barriers and work are there
    const int warpgroup = uniform(static_cast<int>(threadIdx.x) / 128);
    if (warpgroup == 0) {
        lowerRegisters<Config::kTile.producerRegisters>();
        if (threadIdx.x / 32 == 1) {
            copyRows(shared, h.a);
        } else if (threadIdx.x == 0 && firstQuery < lastQuery) {
            copyBackwardTiles(shared, h);
        }
    } else {
        raiseRegisters<Config::kTile.consumerRegisters>();
        BackwardConsumer<Element, Config>(shared, h, warpgroup - 1).run();
    }
}

template <class Element>
void hopperBackward(const HopperBackwardArguments& h) {
    const flashring_step& step = h.a.step;
    withHeadDims(step, [&](auto index) {
        if constexpr (kHeadDims[decltype(index)::value].key <= kMostHopperBackwardDim) {
            using Config = HopperBackwardConfig<decltype(index)::value>;
            constexpr int kBytes = sizeof(HopperBackwardShared<Config>);
            static_assert(kBytes <= 227 << 10, "more shared memory than a block can have");
            static_assert(Config::kTile.registersFit(), "more registers than a block is started with: the last consumer would wait for ever");
            launch(hopperBackwardKernel<Element, Config>, "Hopper backward kernel",
                   ceilDiv(step.kv_len, Config::kTile.keys) * step.kv_heads * step.batch, Config::kTile.threads, kBytes, step.stream, h);
        }
    });
}

}  // namespace flashring

#endif
