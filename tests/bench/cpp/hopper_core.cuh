// What the benchmarks of the Hopper kernels' inner loops share: clocks of a block a multiprocessor, over data that is
// made up once.
#ifndef FLASHRING_BENCH_HOPPER_CORE_CUH
#define FLASHRING_BENCH_HOPPER_CORE_CUH

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "common/ptx.cuh"
#include "sm90/ptx.cuh"

namespace flashring {
namespace {

using Element = __nv_bfloat16;

constexpr int kRuns = 5;
constexpr int kFlopsPerClock = 4096;  // of a multiprocessor's tensor cores, 16-bit elements

constexpr int kMostMultiprocessors = 256;
__managed__ long long clocks[kMostMultiprocessors];     // of each block of threads
__managed__ float results[kMostMultiprocessors * 384];  // of each of its consumers' threads

constexpr int kAllConsumers = 15;  // the named barrier of all

// Elements of variance 1, the same in every block and every schedule of one tile.
template <class Shared>
__device__ void fill(Shared& shared) {
    const auto element = [](uint32_t i) {  // from bits that look random
        i = (i ^ 61 ^ i >> 16) * 0x9e3779b1u;
        return (((i ^ i >> 15) * 0x85ebca6bu >> 8) * 0x1p-24f - 0.5f) * 3.4641f;
    };
    uint32_t* words = reinterpret_cast<uint32_t*>(&shared);
    for (uint32_t i = threadIdx.x; i < sizeof(Shared) / 4; i += blockDim.x) {
        words[i] = pack<Element>(element(2 * i), element(2 * i + 1));
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // products read by way of the asynchronous proxy
    __syncthreads();
}

inline void require(cudaError_t error) {
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
    std::exit(1);
}

// The median over blocks and runs of what `launch` leaves in clocks; the first run warms up.
template <class Launch>
double medianClocks(int multiprocessors, const Launch& launch) {
    std::vector<long long> taken;
    for (int run = 0; run < kRuns; ++run) {
        launch();
        require(cudaGetLastError());
        require(cudaDeviceSynchronize());
        if (run > 0) taken.insert(taken.end(), clocks, clocks + multiprocessors);
    }
    std::nth_element(taken.begin(), taken.begin() + taken.size() / 2, taken.end());
    return static_cast<double>(taken[taken.size() / 2]);
}

// The largest difference of a thread's results between the first and any other.
inline float largestDifference(const std::vector<std::vector<float>>& all) {
    float worst = 0;
    for (const auto& one : all)
        for (size_t i = 0; i < one.size(); ++i) {
            worst = std::fmax(worst, std::isfinite(one[i]) ? std::fabs(one[i] - all[0][i]) : INFINITY);
        }
    return worst;
}

// Multiprocessors of the first GPU; ends the program as skipped where that is no Hopper.
inline int requireHopper() {
    cudaDeviceProp device{};
    const cudaError_t error = cudaGetDeviceProperties(&device, 0);
    if (error != cudaSuccess || device.major != 9) {
        const char* const other = "the first GPU is not of compute capability 9.0";
        std::printf("skipped: %s\n", error != cudaSuccess ? cudaGetErrorString(error) : other);
        std::exit(77);
    }
    std::printf("%s\n", device.name);
    return std::min(device.multiProcessorCount, kMostMultiprocessors);
}

}  // namespace
}  // namespace flashring

#endif
