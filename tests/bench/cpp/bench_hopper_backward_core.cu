// Clocks that the consumers of the Hopper backward kernel take for a tile of 64 queries and 128 keys at dim 128 where
// nothing is copied in: one block a multiprocessor, made-up tiles that stay in shared memory, and the kernel's own
// order of work with parts of it left out:
//   reduce        the bulk reduce that adds dQ to what is gathered, by all blocks in one order, as blocks of one head
//                 do
//   staging       dQ to shared memory, from where it is reduced
//   dQ            its product
//   dS            dS to shared memory, and the wait for the other consumer's
//   exponentials  with all that is not a product: P is the score
// Beside them the clocks that the tensor cores need. Fails where what has the same P and dS disagrees about dK and dV.
// No options.
#include "hopper_core.cuh"
#include "sm90/backward_outputs.cuh"
#include "sm90/key_rows.cuh"
#include "sm90/wgmma.cuh"

namespace flashring {
namespace {

constexpr int kDim = 128, kTiles = 1024, kGatheredTiles = 64;
constexpr HopperBackwardTile kTile = hopperBackwardTile({kDim, kDim});
constexpr int kQueries = kTile.queries, kKeys = kTile.keys(), kWarps = kTile.consumers * 4,
              kGradientStages = kTile.gradientStages();
static_assert(!kTile.dqInTurn && kTile.consumers == 2, "the order of work below is that of shares of dQ");

__device__ float gathered[kGatheredTiles * kQueries * kDim];  // of 16,384 queries' head a quarter: 2 MB

enum Part { kReduce = 1, kStage = 2, kDq = 4, kShare = 8, kExponentials = 16, kAll = 31 };

struct Shared {
    alignas(1024) char keys[panels(kDim) * panelBytes(kKeys)];
    char values[panels(kDim) * panelBytes(kKeys)];
    char queries[kTile.stages][panels(kDim) * panelBytes(kQueries)];
    char douts[kTile.stages][panels(kDim) * panelBytes(kQueries)];
    char gradients[kGradientStages][panels(kQueries) * panelBytes(kKeys)];  // dS^T
    char dq[kWarps][16 * 64 * 4];
    HopperQueryRows<kQueries, kTile.rowWarps, Shaping::None> rows[kTile.stages];
    uint64_t released[kTile.stages], gradientsFull[kGradientStages];
    long long start;
};

// One consumer: BackwardConsumer in sm90/backward_consumer.cuh without tiles, masks and waiting for copies.
template <int kParts>
class Core {
public:
    __device__ __forceinline__ Core(Shared& shared, int number, float scaleLog2)
        : shared_(shared), number_(number), warp_(uniform(threadIdx.x % 128 / 32)), scaleLog2_(scaleLog2) {}

    __device__ __forceinline__ void run() {
        multiplyQueries(stageOf(0));
        commitProducts();
        waitForProducts<1>();
        multiplyDouts(stageOf(0));
        commitProducts();
        syncNamed(kAllConsumers, kTile.consumers * 128);
        shared_.start = clock64();
#pragma unroll 1
        for (int tile = 0; tile < kTiles; ++tile) {
            step(tile);
        }
        waitForProducts<0>();
        waitForBoxes();
        syncNamed(kAllConsumers, kTile.consumers * 128);
        clocks[blockIdx.x] = clock64() - shared_.start;
    }

    // The sum of a thread's part of dK and dV.
    __device__ __forceinline__ float result() const {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < kDim / 2; ++i) {
            sum += dk_[i] + dv_[i];
        }
        return sum;
    }

private:
    using Stage = RingIndex<kTile.stages>;

    // Computed each time, as a register more would spill.
    static __device__ __forceinline__ Stage stageOf(int tile) {
        return {static_cast<uint32_t>(tile) % kTile.stages, static_cast<uint32_t>(tile) / kTile.stages % 2};
    }

    static __device__ __forceinline__ void release(const uint64_t& barrier) {
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            arrive(sharedAddress(&barrier));
        }
    }

    static __device__ __forceinline__ uint32_t addressOf(const char* tile) {
        uint32_t address;
        asm volatile("mov.u32 %0, %1;" : "=r"(address) : "r"(sharedAddress(tile)));
        return address;
    }

    // Waits until all are done with the tile before last, as the producer does before it copies the next one there.
    __device__ __forceinline__ void multiplyTile(float (&product)[kQueries / 2], const char* mine, const char* tile,
                                                 const float* start, const Stage& stage) {
        wait(sharedAddress(&shared_.released[stage.stage]), stage.parity ^ 1);
        startFrom(product, start);
        const uint64_t a = describe(addressOf(mine) + number_ * panelBytes(64), 0);
        const uint64_t b = describe(sharedAddress(tile), 0);
        beginProducts();
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) {
            const uint64_t stepA = described(k / 4 * panelBytes(kKeys) + k % 4 * 32);
            const uint64_t stepB = described(k / 4 * panelBytes(kQueries) + k % 4 * 32);
            Wgmma<kQueries>::template shared<Element, 1>(product, a + stepA, b + stepB);
        }
    }

    __device__ __forceinline__ void multiplyQueries(const Stage& now) {
        multiplyTile(p_, shared_.keys, shared_.queries[now.stage], shared_.rows[now.stage].score, now);
    }

    __device__ __forceinline__ void multiplyDouts(const Stage& now) {
        multiplyTile(ds_, shared_.values, shared_.douts[now.stage], shared_.rows[now.stage].dp, now);
    }

    __device__ __forceinline__ void multiplyRegisters(float (&gradient)[kDim / 2],
                                                      const uint32_t (&operand)[kQueries / 16][4], const char* tile) {
        const uint64_t b = describe(sharedAddress(tile), panelBytes(kQueries));
        beginProducts();
#pragma unroll
        for (int k = 0; k < kQueries / 16; ++k) {
            Wgmma<kDim>::template registers<Element, 1, 1>(gradient, operand[k], b + described(k * 16 * 128));
        }
    }

    __device__ __forceinline__ float weight(float score) const {
        return kParts & kExponentials ? exp2Fast(score * scaleLog2_) : score * scaleLog2_;
    }

    __device__ __forceinline__ void weigh() {
        waitForProducts<0>();
#pragma unroll
        for (int n = 0; n < kQueries / 8; ++n) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int i = n * 4 + half * 2;
                const float p = weight(p_[i]), q = weight(p_[i + 1]);
                weights_[n / 2][n % 2 * 2 + half] = pack<Element>(p, q);
                gradients_[n / 2][n % 2 * 2 + half] = pack<Element>(p * ds_[i], q * ds_[i + 1]);
            }
        }
    }

    __device__ __forceinline__ void shareGradients(const RingIndex<kGradientStages>& now) {
        const int lane = threadIdx.x % 32;
        const int row = number_ * 64 + warp_ * 16 + lane % 16;
        const uint32_t base = sharedAddress(shared_.gradients[now.stage]) + row * 128;
#pragma unroll
        for (int k = 0; k < kQueries / 16; ++k) {
            const int word = (k % 4 * 32 + lane / 16 * 16) ^ (lane % 8 * 16);
            storeMatrices(base + k / 4 * panelBytes(kKeys) + word, gradients_[k]);
        }
        orderBeforeCopies();
        release(shared_.gradientsFull[now.stage]);
    }

    __device__ __forceinline__ void multiplyGradients(const RingIndex<kGradientStages>& now) {
        const uint64_t a = describe(sharedAddress(shared_.gradients[now.stage]), 0);
        const uint64_t b = describe(addressOf(shared_.keys) + number_ * panelBytes(kKeys), panelBytes(kKeys));
        beginProducts();
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k) {
            const uint64_t step = described(k * 16 * 128);
            k == 0 ? Wgmma<64>::template fresh<Element, 1>(dq_, a, b)
                   : Wgmma<64>::template shared<Element, 1, 1>(dq_, a + step, b + step);
        }
    }

    // As addGathered(), which has no parts.
    __device__ __forceinline__ void addDq(int tile) {
        char* const staging = shared_.dq[number_ * 4 + warp_];
        const GatheredDq all{gathered, kGatheredTiles * (kQueries / 16), kDim};
        float* const target = all.at(0, tile % kGatheredTiles * (kQueries / 16) + warp_, number_ * 64);
        if constexpr (kParts & kReduce) {
            return addGathered<64>(dq_, staging, target);
        }
        const int lane = threadIdx.x % 32;
        if (lane == 0) {
            waitForBoxes();
        }
        __syncwarp();
#pragma unroll
        for (int n = 0; n < 8; ++n) {
            const float4 four{dq_[n * 4], dq_[n * 4 + 1], dq_[n * 4 + 2], dq_[n * 4 + 3]};
            *reinterpret_cast<float4*>(staging + n * 512 + lane * 16) = four;
        }
        orderBeforeCopies();
        __syncwarp();
    }

    __device__ __forceinline__ void step(int tile) {
        const Stage now = stageOf(tile), next = stageOf(tile + 1);
        weigh();
        if constexpr (kParts & kShare) {
            wait(sharedAddress(&shared_.gradientsFull[behind_.stage]), behind_.parity);
        }
        if constexpr (kParts & kDq) {
            multiplyGradients(behind_);
        } else {
            beginProducts();  // else ptxas puts one in (C7519)
        }
        commitProducts();
        multiplyRegisters(dv_, weights_, shared_.douts[now.stage]);
        behind_.advance();
        if constexpr (kParts & kShare) {
            shareGradients(behind_);
        }
        multiplyRegisters(dk_, gradients_, shared_.queries[now.stage]);
        commitProducts();
        waitForProducts<1>();
        if constexpr (kParts & kStage) {
            addDq(tile);
        }
        multiplyQueries(next);
        commitProducts();
        waitForProducts<1>();
        release(shared_.released[now.stage]);
        multiplyDouts(next);
        commitProducts();
    }

    Shared& shared_;
    const int number_, warp_;
    const float scaleLog2_;
    RingIndex<kGradientStages> behind_{kGradientStages - 1, 1};  // dS of the tile before
    float dk_[kDim / 2] = {}, dv_[kDim / 2] = {}, p_[kQueries / 2], ds_[kQueries / 2], dq_[32];
    uint32_t weights_[kQueries / 16][4], gradients_[kQueries / 16][4];
};

template <int kParts>
__global__ void __launch_bounds__(kTile.threads(), 1) hopperBackwardCoreKernel(float scaleLog2) {
    extern __shared__ __align__(1024) char memory[];
    Shared& shared = reinterpret_cast<Shared&>(memory);
    fill(shared);
    if (threadIdx.x == 0) {
        for (const uint64_t& released : shared.released) {
            initBarrier(sharedAddress(&released), kWarps);
        }
        for (const uint64_t& full : shared.gradientsFull) {
            initBarrier(sharedAddress(&full), kWarps);
        }
        publishBarriers();
    }
    __syncthreads();
    const int warpgroup = uniform(static_cast<int>(threadIdx.x) / 128);
    if (warpgroup == 0) return lowerRegisters<kTile.producerRegisters>();
    raiseRegisters<kTile.consumerRegisters>();
    Core<kParts> core(shared, warpgroup - 1, scaleLog2);
    core.run();
    results[blockIdx.x * kTile.consumers * 128 + threadIdx.x - 128] = core.result();
}

// Prints a line of the table; returns what each thread got for dK and dV.
template <int kParts>
std::vector<float> measure(const char* without, int multiprocessors) {
    constexpr int kBytes = sizeof(Shared);
    static_assert(kBytes <= 227 << 10);
    const auto kernel = hopperBackwardCoreKernel<kParts>;
    require(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
    const float scaleLog2 = 1.442695f / std::sqrt(static_cast<float>(kDim));
    const auto launch = [&] { kernel<<<multiprocessors, kTile.threads(), kBytes>>>(scaleLog2); };
    const double median = medianClocks(multiprocessors, launch) / kTiles;
    const double ideal = (kParts & kDq ? 10.0 : 8.0) * kQueries * kKeys * kDim / kFlopsPerClock;
    std::printf("%-44s  %11.0f  %5.0f  %4.0f %%\n", without, median, ideal, 100 * ideal / median);
    return std::vector<float>(results, results + multiprocessors * kTile.consumers * 128);
}

bool measureAll(int multiprocessors) {
    const std::vector<std::vector<float>> same = {
        measure<kAll>("nothing", multiprocessors),
        measure<kAll & ~kReduce>("reduce", multiprocessors),
        measure<kAll & ~(kReduce | kStage)>("reduce, staging", multiprocessors),
        measure<kShare | kExponentials>("reduce, staging, dQ", multiprocessors),
        measure<kExponentials>("reduce, staging, dQ, dS", multiprocessors)};
    measure<kDq>("all but products", multiprocessors);
    measure<0>("all but products, and dQ's", multiprocessors);
    const float worst = largestDifference(same);
    std::printf("with the same P and dS, threads' sums of dK and dV differ by %.1e\n", worst);
    return worst == 0;
}

}  // namespace
}  // namespace flashring

int main() {
    const int multiprocessors = flashring::requireHopper();
    std::printf("left out                                      clocks/tile  ideal  share\n");
    return flashring::measureAll(multiprocessors) ? 0 : 1;
}
