// From positions and mask, both in device memory, to the local keys that each local query sees: one thread a query.
#include <float.h>
#include <math.h>

#include <algorithm>

#include "common/attention.h"
#include "common/early_start.cuh"
#include "common/sight.cuh"
#include "common/tiling.cuh"
#include "elements.h"

namespace flashring {
namespace {

constexpr int64_t kMaxTokens = INT64_C(1) << 30;  // local indices are 32 bits wide, with room for a tile beyond the end

#if __CUDA_ARCH__ >= 900
// Brings what every block reads first into the L2 cache. An earlier kernel may still be writing it, which does no harm.
__device__ void prefetch(const flashring_step& step) {
    const auto line = [](const void* address) { asm volatile("prefetch.global.L2 [%0];" ::"l"(address)); };
    const int64_t bound = int64_t{threadIdx.x} * 16;  // of documents, 16 a line
    if (threadIdx.x == 0 && step.q_positions.count > 0) {
        line(step.q_positions.ranges);
    }
    if (threadIdx.x == 0 && step.kv_positions.count > 0) {
        line(step.kv_positions.ranges);
    }
    if (step.mask.cu_seqlens && bound <= step.mask.documents) {
        line(step.mask.cu_seqlens + bound);
    }
}
#endif

// One thread per query; those before query 0 do as query 0. With a tiling, one block per tile, after `stretches` blocks
// that sort the tiles.
__global__ void intervalsKernel(const __grid_constant__ flashring_step step, int32_t* lo, int32_t* hi,
                                const __grid_constant__ Tiling tiling, int stretches) {
#if __CUDA_ARCH__ >= 900
    if (!tiling.seenBy) {
        letNextKernelStart();
    }
    prefetch(step);
    waitForEarlierKernel();
    if (tiling.seenBy) {
        letNextKernelStart();  // what it clears, earlier kernels may have used
    }
#endif
    const Sight sight(step);
    const int block = static_cast<int>(blockIdx.x), tile = block - stretches,
              tiles = static_cast<int>(gridDim.x) - stretches;
    if (tile < 0) {
        const auto border = [&](int stretch) { return static_cast<int>(int64_t{stretch} * tiles / stretches); };
        sortTiles(sight, tiling, border(block), border(block + 1), tiles);
        return;
    }
    const int64_t first = firstQuery(tile, tiles, static_cast<int>(blockDim.x), step.q_len), i = first + threadIdx.x;
    const Interval seen = i < step.q_len ? sight(max(i, int64_t{0})) : Interval{0, 0};
    if (i >= 0 && i < step.q_len) {
        lo[i] = static_cast<int32_t>(seen.first);
        hi[i] = static_cast<int32_t>(seen.last);
        if (tiling.seenBy) {
            writeSeenBy(sight, tiling, i, seen);
        }
    }
    if (tiling.spans) {
        const int count = static_cast<int>(min(int64_t{blockDim.x}, step.q_len - first));
        writeSpan(tiling, tile, count, static_cast<int>(seen.first), static_cast<int>(seen.last));
    }
}

// The position of each query, then of each key, one thread each.
__global__ void positionsKernel(const __grid_constant__ flashring_step step, int64_t* positions) {
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i < step.q_len + step.kv_len) {
        positions[i] = i < step.q_len ? Ranges(step.q_positions).positionOf(i)
                                      : Ranges(step.kv_positions).positionOf(i - step.q_len);
    }
}

// Of lo, and of hi.
int64_t boundBytes(const flashring_step& step) {
    return roundUp(step.q_len * static_cast<int64_t>(sizeof(int32_t)), 64);
}

}  // namespace

ScoreShape::ScoreShape(const flashring_step& step)
    : any(step.softcap != 0 || step.alibi_slopes),
      scale(static_cast<float>(step.softmax_scale)),
      softcap(static_cast<float>(step.softcap)),
      exponent(softcap == 0
                   ? 0
                   : static_cast<float>(std::min(2 * M_LOG2E * step.softmax_scale / step.softcap, double{FLT_MAX}))) {}

int64_t intervalBytesOnDevice(const flashring_step& step) {
    const int64_t positions = (step.q_len + step.kv_len) * static_cast<int64_t>(sizeof(int64_t));
    return 2 * boundBytes(step) + (step.alibi_slopes ? roundUp(positions, 64) : 0);
}

Arguments prepare(const Problem& problem, const Tiling* tiling) {
    const flashring_step& s = problem.step;
    if (s.q_len > kMaxTokens || s.kv_len > kMaxTokens) {
        fail(FLASHRING_UNSUPPORTED, "q_len = %lld, kv_len = %lld: CUDA kernels serve up to 2^30 tokens a step",
             static_cast<long long>(s.q_len), static_cast<long long>(s.kv_len));
    }
    int32_t* const lo = reinterpret_cast<int32_t*>(problem.workspace);
    int32_t* const hi = reinterpret_cast<int32_t*>(problem.workspace + boundBytes(s));
    int64_t* const positions =
        s.alibi_slopes ? reinterpret_cast<int64_t*>(problem.workspace + 2 * boundBytes(s)) : nullptr;
    const int threads = tiling ? tiling->queries : kMaxTilingThreads;
    const int64_t tiles = ceilDiv(s.q_len, threads), stretches = tiling && tiling->order ? ceilDiv(tiles, kStretch) : 0;
    launch(intervalsKernel, "intervals kernel", tiling ? Start::Early : Start::InOrder, tiles + stretches, threads, 0,
           s.stream, s, lo, hi, tiling ? *tiling : Tiling{}, static_cast<int>(stretches));
    if (positions) {
        launch(positionsKernel, "positions kernel", Start::InOrder, ceilDiv(s.q_len + s.kv_len, kMaxTilingThreads),
               kMaxTilingThreads, 0, s.stream, s, positions);
    }

    const ScoreShape shape(s);
    const int64_t size = elementBytes(s.dtype), accSize = elementBytes(accumulatorType(s.dtype));
    const Extents q = queries(s, s.head_dim), out = queries(s, s.value_dim);
    const Extents k = keys(s, s.head_dim), v = keys(s, s.value_dim);
    return {s,
            lo,
            hi,
            nullptr,
            static_cast<float>(shape.any ? 1 : s.softmax_scale),
            static_cast<float>((shape.any ? 1 : s.softmax_scale) * M_LOG2E),
            rowsAligned(s.q, q, size, 16) && rowsAligned(s.dout, out, size, 16) && rowsAligned(s.k, k, size, 16) &&
                rowsAligned(s.v, v, size, 16),
            rowsAligned(s.out, out, size, 16) && rowsAligned(s.acc, out, accSize, 16),
            rowsAligned(s.out, out, size, 2 * size) && rowsAligned(s.acc, out, accSize, 2 * accSize) &&
                rowsAligned(s.dq, q, accSize, 16) && rowsAligned(s.dk, k, accSize, 2 * accSize) &&
                rowsAligned(s.dv, v, accSize, 2 * accSize),
            shape,
            positions,
            positions ? positions + s.q_len : nullptr};
}

}  // namespace flashring
