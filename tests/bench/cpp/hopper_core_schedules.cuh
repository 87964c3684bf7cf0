// The consumers of the Hopper forward kernel in every schedule that bench_hopper_core times, without tiles, masks and
// copies.
#ifndef FLASHRING_BENCH_HOPPER_CORE_SCHEDULES_CUH
#define FLASHRING_BENCH_HOPPER_CORE_SCHEDULES_CUH

#include <math.h>

#include "hopper_core.cuh"
#include "sm90/softmax.cuh"
#include "sm90/tiles.h"
#include "sm90/wgmma.cuh"

namespace flashring {
namespace {

enum class Turns { None, Products, Softmax };
enum class Chains { One, Keys, Queries };

template <int kDim, Turns kTurnsTaken, bool kMaximumFirst, bool kInRegisters, Chains kChained = Chains::One>
struct Schedule {
    static constexpr int kHeadDim = kDim;
    static constexpr Turns kTurns = kTurnsTaken;
    static constexpr bool kMaximum = kMaximumFirst, kRegisters = kInRegisters;
    static constexpr Chains kChains = kChained;
    static constexpr bool kByQueries = kChains == Chains::Queries;
    static constexpr HopperTile kTile =
        kByQueries ? HopperTile{2, 64, 1, 4, kRegisters, false, 40, 232} : hopperTile({kDim, kDim});
    static constexpr int kPieces = kTile.consumers * (kByQueries ? 2 : 1);  // of 64 queries

    struct Shared {
        char queries[kPieces][panels(kDim) * panelBytes(64)];
        char keys[kTile.stages][panels(kDim) * panelBytes(kTile.keys)],
            values[kTile.stages][panels(kDim) * panelBytes(kTile.keys)];
        long long start;
        float scaleLog2;
    };
};

__device__ void loadQueries(uint32_t (&queries)[4], const char* piece, int k) {
    const int lane = threadIdx.x % 32;
    const uint32_t base = sharedAddress(piece) + (threadIdx.x % 128 / 32 * 16 + lane % 16) * 128;
    loadMatrices<false>(queries, base + k / 4 * panelBytes(64) + ((k % 4 * 32 + lane / 16 * 16) ^ (lane % 8 * 16)));
}

// The sum of a thread's part of the output, divided by the sums of weights.
template <int kDim>
__device__ float sumOf(const float (&out)[kDim / 2], const SoftmaxRow (&state)[2]) {
    float sum = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float pair = state[half].sum + __shfl_xor_sync(~0u, state[half].sum, 1);
        const float inverse = 1 / (pair + __shfl_xor_sync(~0u, pair, 2));
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n) {
            sum += (out[n * 4 + half * 2] + out[n * 4 + half * 2 + 1]) * inverse;
        }
    }
    return sum;
}

__device__ __forceinline__ ScoreScale scaleOf(float scaleLog2) {
    return {scaleLog2 * static_cast<float>(M_LN2), scaleLog2};
}

// As advance(), with every block's maximum found before its weights (Dao 2023, algorithm 1).
template <int kKeys, int kColumns>
__device__ __forceinline__ void advanceByMaximum(const float (&scores)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                                 float (&out)[kColumns], SoftmaxRow (&state)[2], ScoreScale scale) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float top = scores[half * 2];
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
            top = fmaxf(top, fmaxf(scores[n * 4 + half * 2], scores[n * 4 + half * 2 + 1]));
        }
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(scale.score(fmaxf(top, __shfl_xor_sync(~0u, top, 2))), state[half].reference);
        const float decay = expDifference(state[half].reference, top);
        state[half] = {top, state[half].sum * decay};
#pragma unroll
        for (int n = 0; n < kColumns / 4; ++n) {
            out[n * 4 + half * 2] *= decay;
            out[n * 4 + half * 2 + 1] *= decay;
        }
    }
    const NearWeight near[2] = {{scale, state[0].reference}, {scale, state[1].reference}};
    const float2 sums = weigh<Element, kKeys>(scores, weights, near);
    // Never so: it holds the exponentials before the turn, as the vote in advance() does.
    if (__any_sync(~0u, sums.x + sums.y == -1)) asm volatile("nanosleep.u32 0;");
    state[0].sum += sums.x;
    state[1].sum += sums.y;
}

// One consumer: Consumer in sm90/forward_consumer.cuh without tiles, masks and waiting for copies.
template <class Schedule>
class Core {
    static constexpr HopperTile kTile = Schedule::kTile;
    static constexpr Turns kTurns = Schedule::kTurns;
    // Turns of products go between whole consumers. Exponentials are computed by each quarter of a multiprocessor for
    // itself, and so turns of softmax go between those warps of the consumers that share a quarter.
    static constexpr int kDim = Schedule::kHeadDim, kKeys = kTile.keys,
                         kTurnThreads = kTurns == Turns::Softmax ? 64 : 256;

public:
    __device__ __forceinline__ Core(typename Schedule::Shared& shared, int number) : shared_(shared), number_(number) {}

    __device__ __forceinline__ void run(int blocks, float scaleLog2) {
        if constexpr (Schedule::kRegisters) {
#pragma unroll
            for (int k = 0; k < kDim / 16; ++k) {
                loadQueries(queries_[k], shared_.queries[number_], k);
            }
        }
        beginProducts();
        multiplyKeys();
        commitProducts();
        waitForProducts<0>();
        shared_.scaleLog2 = scaleLog2;
        syncNamed(kAllConsumers, kTile.consumers * 128);
        const int quarter = kTurns == Turns::Softmax ? uniform(threadIdx.x / 32 % 4) : 0;
        const int first = 1 + quarter * kTile.consumers, own = first + number_,
                  following = first + (number_ + 1) % kTile.consumers;
        // the first consumer's turn
        if (kTurns != Turns::None && number_ == kTile.consumers - 1) arriveNamed(following, kTurnThreads);
        shared_.start = clock64();
#pragma unroll 1
        for (int block = 1; block <= blocks; ++block) {
            const bool followed = block < blocks || number_ + 1 < kTile.consumers;
            if (kTurns == Turns::Softmax) {
                syncNamed(own, kTurnThreads);
                // read anew: no exponential comes before the turn
                scaleLog2 = *const_cast<volatile float*>(&shared_.scaleLog2);
            }
            Schedule::kMaximum
                ? advanceByMaximum<kKeys>(scores_, weights_, out_, state_, scaleOf(scaleLog2))
                : advance<Element, kKeys>(scores_, weights_, out_, state_, {true, true}, scaleOf(scaleLog2));
            if (kTurns == Turns::Softmax && followed) arriveNamed(following, kTurnThreads);
            if (kTurns == Turns::Products) syncNamed(own, kTurnThreads);
            beginProducts();
            multiplyValues();
            commitProducts();
            multiplyKeys();
            commitProducts();
            if (kTurns == Turns::Products && followed) arriveNamed(following, kTurnThreads);
            waitForProducts<1>();
            waitForProducts<0>();
        }
        syncNamed(kAllConsumers, kTile.consumers * 128);
        clocks[blockIdx.x] = clock64() - shared_.start;
    }

    __device__ __forceinline__ float result() const { return sumOf<kDim>(out_, state_); }

private:
    __device__ __forceinline__ void multiplyKeys() {
        const uint64_t queries = describe(sharedAddress(shared_.queries[number_]), 0),
                       keys = describe(sharedAddress(shared_.keys[key_.stage]), 0);
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) {
            const uint64_t a = queries + described(k / 4 * panelBytes(64) + k % 4 * 32);
            const uint64_t b = keys + described(k / 4 * panelBytes(kKeys) + k % 4 * 32);
            if constexpr (Schedule::kRegisters) {
                k ? Wgmma<kKeys>::template registers<Element, 1, 0>(scores_, queries_[k], b)
                  : Wgmma<kKeys>::template registers<Element, 0, 0>(scores_, queries_[k], b);
            } else {
                k ? Wgmma<kKeys>::template shared<Element, 1>(scores_, a, b)
                  : Wgmma<kKeys>::template shared<Element, 0>(scores_, a, b);
            }
        }
        key_.advance();
    }

    __device__ __forceinline__ void multiplyValues() {
        const uint64_t values = describe(sharedAddress(shared_.values[value_.stage]), panelBytes(kKeys));
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k) {
            Wgmma<kDim>::template registers<Element, 1, 1>(out_, weights_[k], values + described(k * 16 * 128));
        }
        value_.advance();
    }

    typename Schedule::Shared& shared_;
    const int number_;
    RingIndex<kTile.stages> key_, value_;
    float out_[kDim / 2] = {}, scores_[kKeys / 2];
    uint32_t weights_[kKeys / 16][4], queries_[Schedule::kRegisters ? kDim / 16 : 1][4];
    SoftmaxRow state_[2] = {{-INFINITY, 0}, {-INFINITY, 0}};
};

// The same with two chains of scores, weights and products, and one output for both or one for each.
template <class Schedule>
class ChainedCore {
    static constexpr HopperTile kTile = Schedule::kTile;
    static constexpr int kDim = Schedule::kHeadDim, kOutputs = Schedule::kByQueries ? 2 : 1,
                         kKeys = kTile.keys * kOutputs / 2;

public:
    __device__ __forceinline__ ChainedCore(typename Schedule::Shared& shared, int number)
        : shared_(shared), number_(number) {}

    __device__ __forceinline__ void run(int blocks, float scaleLog2) {
        if constexpr (Schedule::kRegisters) {
#pragma unroll
            for (int k = 0; k < kOutputs * kDim / 16; ++k) {
                loadQueries(queries_[k], shared_.queries[number_ * kOutputs + k / (kDim / 16)], k % (kDim / 16));
            }
        }
        beginProducts();
        multiplyKeys<0>();
        commitProducts();
        waitForProducts<0>();
        syncNamed(kAllConsumers, kTile.consumers * 128);
        shared_.start = clock64();
        // Nothing is under way where the loop begins anew: ptxas would serialise all products (C7514).
#pragma unroll 1
        for (int block = 1; block <= blocks; ++block) {
            beginProducts();
            multiplyKeys<1>();
            commitProducts();
            key_.advance();
            weighChain<0>(scaleLog2);
            beginProducts();
            multiplyValues<0>();
            commitProducts();
            waitForProducts<1>();
            beginProducts();
            multiplyKeys<0>();
            commitProducts();
            weighChain<1>(scaleLog2);
            beginProducts();
            multiplyValues<1>();
            commitProducts();
            value_.advance();
            waitForProducts<0>();
        }
        syncNamed(kAllConsumers, kTile.consumers * 128);
        clocks[blockIdx.x] = clock64() - shared_.start;
    }

    __device__ __forceinline__ float result() const {
        float sum = 0;
#pragma unroll
        for (int output = 0; output < kOutputs; ++output) {
            sum += sumOf<kDim>(out_[output], state_[output]);
        }
        return sum;
    }

private:
    template <int kChain>
    __device__ __forceinline__ void weighChain(float scaleLog2) {
        constexpr int kOutput = kChain % kOutputs;
        advance<Element, kKeys>(scores_[kChain], weights_[kChain], out_[kOutput], state_[kOutput], {true, true},
                                scaleOf(scaleLog2), kAllSeen, [] { waitForProducts<0>(); });
    }

    template <int kChain>
    __device__ __forceinline__ void multiplyKeys() {
        constexpr int kOutput = kChain % kOutputs;
        const uint64_t queries = describe(sharedAddress(shared_.queries[number_ * kOutputs + kOutput]), 0);
        const uint64_t keys = describe(sharedAddress(shared_.keys[key_.stage]), 0) + firstRow<kChain>();
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) {
            const uint64_t a = queries + described(k / 4 * panelBytes(64) + k % 4 * 32);
            const uint64_t b = keys + described(k / 4 * panelBytes(kTile.keys) + k % 4 * 32);
            if constexpr (Schedule::kRegisters) {
                const auto& piece = queries_[kOutput * kDim / 16 + k];
                k ? Wgmma<kKeys>::template registers<Element, 1, 0>(scores_[kChain], piece, b)
                  : Wgmma<kKeys>::template registers<Element, 0, 0>(scores_[kChain], piece, b);
            } else {
                k ? Wgmma<kKeys>::template shared<Element, 1>(scores_[kChain], a, b)
                  : Wgmma<kKeys>::template shared<Element, 0>(scores_[kChain], a, b);
            }
        }
    }

    template <int kChain>
    __device__ __forceinline__ void multiplyValues() {
        const uint64_t values =
            describe(sharedAddress(shared_.values[value_.stage]), panelBytes(kTile.keys)) + firstRow<kChain>();
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k) {
            Wgmma<kDim>::template registers<Element, 1, 1>(out_[kChain % kOutputs], weights_[kChain][k],
                                                           values + described(k * 16 * 128));
        }
    }

    // Where the keys of a chain begin in the block's.
    template <int kChain>
    static constexpr uint64_t firstRow() {
        return Schedule::kByQueries ? 0 : described(kChain * kKeys * 128);
    }

    typename Schedule::Shared& shared_;
    const int number_;
    RingIndex<kTile.stages> key_, value_;
    float out_[kOutputs][kDim / 2] = {}, scores_[2][kKeys / 2];
    uint32_t weights_[2][kKeys / 16][4], queries_[Schedule::kRegisters ? kOutputs * kDim / 16 : 1][4];
    SoftmaxRow state_[2][2] = {{{-INFINITY, 0}, {-INFINITY, 0}}, {{-INFINITY, 0}, {-INFINITY, 0}}};
};

// The first warpgroup only gives its registers away.

}  // namespace
}  // namespace flashring

#endif
