// Clocks that the consumers of the Hopper forward kernel take for a block of keys where nothing is copied: one block a
// multiprocessor, made-up keys and values that stay in shared memory, the production tile, and every schedule that
// fits:
//   turns      consumers take turns in issuing their products, or in their softmax, or do both when they are ready
//   reference  the softmax keeps its reference while the sums fit (advance()), or finds every block's maximum first
//   queries    in registers or in shared memory
//   chains     one: the products of a consumer wait for its softmax; two, of half the keys each or of 64 queries each
//              (a tile of their own): the products of one are under way while the softmax of the other is computed
// Beside them the clocks the tensor cores need. Fails where schedules disagree about the output. No options.
#include <type_traits>

#include "hopper_core_schedules.cuh"

namespace flashring {
namespace {

constexpr int kBlocks = 1024;

template <class Schedule>
__global__ void __launch_bounds__(Schedule::kTile.threads(), 1) hopperCoreKernel(int blocks, float scaleLog2) {
    extern __shared__ __align__(1024) char memory[];
    auto& shared = reinterpret_cast<typename Schedule::Shared&>(memory);
    fill(shared);
    const int warpgroup = uniform(static_cast<int>(threadIdx.x) / 128);
    if (warpgroup == 0) return lowerRegisters<Schedule::kTile.producerRegisters>();
    raiseRegisters<Schedule::kTile.consumerRegisters>();
    std::conditional_t<Schedule::kChains == Chains::One, Core<Schedule>, ChainedCore<Schedule>> core(shared,
                                                                                                     warpgroup - 1);
    core.run(blocks, scaleLog2);
    results[blockIdx.x * (blockDim.x - 128) + threadIdx.x - 128] = core.result();
}

// Prints a line of the table; returns what each thread got for an output.
template <class Schedule>
std::vector<float> measure(int multiprocessors) {
    constexpr HopperTile kTile = Schedule::kTile;
    constexpr int kQueries = Schedule::kPieces * 64;
    constexpr const char *kTurns[] = {"none", "products", "softmax"}, *kChains[] = {"one", "keys", "queries"};
    constexpr int kBytes = sizeof(typename Schedule::Shared);
    require(cudaFuncSetAttribute(hopperCoreKernel<Schedule>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
    const float scaleLog2 = 1.442695f / std::sqrt(static_cast<float>(Schedule::kHeadDim));
    const auto launch = [&] {
        hopperCoreKernel<Schedule><<<multiprocessors, kTile.threads(), kBytes>>>(kBlocks, scaleLog2);
    };
    const double median = medianClocks(multiprocessors, launch) / kBlocks;
    const double ideal = 4.0 * kQueries * kTile.keys * Schedule::kHeadDim / kFlopsPerClock;
    std::printf("%4d  %3d x %-3d  %-8s  %-9s  %-9s  %-7s  %12.0f  %5.0f  %4.0f %%\n", Schedule::kHeadDim, kQueries,
                kTile.keys, kTurns[static_cast<int>(Schedule::kTurns)], Schedule::kMaximum ? "maximum" : "kept",
                Schedule::kRegisters ? "registers" : "shared", kChains[static_cast<int>(Schedule::kChains)], median,
                ideal, 100 * ideal / median);
    return std::vector<float>(results, results + multiprocessors * kTile.consumers * 128);
}

// Whether all schedules of one tile agree.
bool agree(int dim, const std::vector<std::vector<float>>& all) {
    const float worst = largestDifference(all);
    std::printf("%4d  schedules differ by %.1e in a thread's sum of outputs\n", dim, worst);
    return worst < 1e-2f;
}

template <int kDim, bool... kRegisters>
std::vector<std::vector<float>> measureDim(int multiprocessors) {
    return {measure<Schedule<kDim, Turns::Products, false, kRegisters>>(multiprocessors)...,
            measure<Schedule<kDim, Turns::None, false, kRegisters>>(multiprocessors)...,
            measure<Schedule<kDim, Turns::Softmax, false, kRegisters>>(multiprocessors)...,
            measure<Schedule<kDim, Turns::Products, true, kRegisters>>(multiprocessors)...,
            measure<Schedule<kDim, Turns::None, true, kRegisters>>(multiprocessors)...};
}

// Queries in registers do not fit beside the rest at 64 (of 160 registers a thread) and 256, two chains at 64 alone.
bool measureAll(int multiprocessors) {
    auto narrow = measureDim<64, false>(multiprocessors);
    narrow.push_back(measure<Schedule<64, Turns::None, false, false, Chains::Keys>>(multiprocessors));
    bool good = agree(64, narrow);
    good &= agree(64, {measure<Schedule<64, Turns::None, false, false, Chains::Queries>>(multiprocessors),
                       measure<Schedule<64, Turns::None, false, true, Chains::Queries>>(multiprocessors)});
    good &= agree(128, measureDim<128, true, false>(multiprocessors));
    return agree(256, measureDim<256, false>(multiprocessors)) && good;
}

}  // namespace
}  // namespace flashring

int main() {
    using namespace flashring;
    const int multiprocessors = requireHopper();
    std::printf(" dim  tile       turns     reference  queries    chains   clocks/block  ideal  share\n");
    return measureAll(multiprocessors) ? 0 : 1;
}
