// From positions and mask, both in device memory, to the local keys that each local query sees: one thread a query.
#include <math.h>

#include "common/attention.h"
#include "common/early_start.cuh"
#include "common/gap.cuh"
#include "elements.h"
#include "visibility.h"

namespace flashring {
namespace {

constexpr int kMaxThreads = 256;
constexpr int64_t kMaxTokens = INT64_C(1) << 30;  // local indices are 32 bits wide, with room for a tile beyond the end

// Ranges of positions. The first one, often the only one, is loaded before it is needed.
class Ranges {
public:
    __device__ explicit Ranges(const flashring_positions& positions)
        : positions_(positions), first_(positions.count > 0 ? positions.ranges[0] : flashring_range{}) {}

    // The global position of local token i, or -1 where the ranges end before it.
    __device__ int64_t positionOf(int64_t i) const {
        for (int64_t r = 0; r < positions_.count; ++r) {
            const flashring_range range = at(r);
            if (i < range.length) {
                return range.start + i * range.stride;
            }
            i -= range.length;
        }
        return -1;
    }

    // The local tokens whose global position is below the bound.
    __device__ int64_t tokensBelow(int64_t bound) const {
        int64_t count = 0;
        for (int64_t r = 0; r < positions_.count; ++r) {
            const flashring_range range = at(r);
            const int64_t inside = countBelow(range, bound);
            count += inside;
            if (inside < range.length) {
                break;
            }
        }
        return count;
    }

private:
    __device__ flashring_range at(int64_t r) const { return r == 0 ? first_ : positions_.ranges[r]; }

    const flashring_positions& positions_;
    const flashring_range first_;
};

// The first document that ends after position q.
__device__ int64_t documentOf(const flashring_mask& mask, int64_t q) {
    int64_t first = 0, last = mask.cu_seqlens ? mask.documents : 0;
    while (first < last) {
        const int64_t middle = (first + last) / 2;
        if (mask.cu_seqlens[middle + 1] <= q) {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    return first;
}

struct Sight {
    const flashring_step& step;
    const Ranges queries, keys;

    __device__ explicit Sight(const flashring_step& s) : step(s), queries(s.q_positions), keys(s.kv_positions) {}

    // The local keys that local query i sees.
    __device__ Interval operator()(int64_t i) const {
        const int64_t q = queries.positionOf(i);
        if (q < 0) {
            return {0, 0};
        }
        const Interval seen = visible(step.mask, documentAt(step.mask, documentOf(step.mask, q)), q);
        const int64_t first = min(keys.tokensBelow(seen.first), step.kv_len);
        return {first, max(first, min(keys.tokensBelow(seen.last), step.kv_len))};
    }
};

// A few rounds of tiles over the multiprocessors: enough to even out, and few enough for their keys to stay in the L2 cache.
constexpr int kStretch = 512;

// The block's part of tiling.order: tiles [begin, end) of all, by the keys between the first and the last that they see.
__device__ void sortTiles(const Sight& sight, const Tiling& tiling, int begin, int end, int tiles) {
    __shared__ unsigned lengths[kStretch];  // in blocks of keys, then the tile, so that all differ
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    constexpr int64_t kLongest = UINT32_MAX / kStretch;
    for (int i = thread; i < end - begin; i += threads) {
        const int64_t first = firstQuery(begin + i, tiles, tiling.queries, sight.step.q_len);
        const int64_t last = min(first + tiling.queries, sight.step.q_len) - 1;
        const int64_t blocks = max(int64_t{0}, sight(last).last - sight(max(first, int64_t{0})).first + tiling.keys - 1) / tiling.keys;
        lengths[i] = static_cast<unsigned>(min(blocks, kLongest)) * kStretch + static_cast<unsigned>(i);
    }
    __syncthreads();
    for (int i = thread; i < end - begin; i += threads) {
        int before = tiles - end;
        for (int j = 0; j < end - begin; ++j) {
            before += lengths[j] > lengths[i];
        }
        tiling.order[before] = begin + i;
    }
}

// The span of a tile, one thread a query that sees [lo, hi); the last of them has number count - 1.
__device__ void writeSpan(const Tiling& tiling, int tile, int count, int lo, int hi) {
    __shared__ int first[kMaxThreads];
    __shared__ WidestGap widest;
    const int thread = static_cast<int>(threadIdx.x);
    first[thread] = lo;
    if (thread == 0) {
        widest = 0;
    }
    __syncthreads();
    if (thread + 1 < count) {
        offerGap(widest, hi, first[thread + 1], tiling.keys);
    }
    __syncthreads();
    if (thread == count - 1) {
        const Gap gap = gapOf(widest, hi);
        tiling.spans[tile] = {first[0], gap.begin, gap.end, hi};
        if (tile == 0) {
            *tiling.next = 0;
        }
    }
}

// Query i, which sees `seen`, writes where it is the first to see a tile of keys, and where it is the first to see nothing more of
// one. The last query also writes for tiles that nobody sees, or whose end nobody sees.
__device__ void writeSeenBy(const Sight& sight, const Tiling& tiling, int64_t i, const Interval& seen) {
    const int64_t length = sight.step.q_len, tiles = ceilDiv(sight.step.kv_len, tiling.keys);
    const Interval before = i > 0 ? sight(i - 1) : Interval{0, 0};
    int64_t begun = ceilDiv(before.last, tiling.keys), ended = before.first / tiling.keys;
    for (; begun * tiling.keys < seen.last; ++begun) {
        tiling.seenBy[begun].first = static_cast<int>(i);
    }
    for (; (ended + 1) * tiling.keys <= seen.first; ++ended) {
        tiling.seenBy[ended].last = static_cast<int>(i);
    }
    for (; i + 1 == length && begun < tiles; ++begun) {
        tiling.seenBy[begun].first = static_cast<int>(length);
    }
    for (; i + 1 == length && ended < tiles; ++ended) {
        tiling.seenBy[ended].last = static_cast<int>(length);
    }
}

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

// One thread per query; those before query 0 do as query 0. With a tiling, one block per tile, after `stretches` blocks that
// sort the tiles.
__global__ void intervalsKernel(const __grid_constant__ flashring_step step, int32_t* lo, int32_t* hi, const __grid_constant__ Tiling tiling,
                                int stretches) {
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
    const int block = static_cast<int>(blockIdx.x), tile = block - stretches, tiles = static_cast<int>(gridDim.x) - stretches;
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

struct Axis {
    int64_t length, stride;
};

}  // namespace

bool rowsAligned(const flashring_tensor& tensor, int64_t batch, int64_t seq, int64_t heads, int64_t dim, int64_t elementSize,
                 int64_t bytes) {
    if (!tensor.data) {
        return true;
    }
    bool aligned = reinterpret_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(bytes) == 0 && dim * elementSize % bytes == 0;
    for (const Axis& axis : {Axis{batch, tensor.stride_batch}, Axis{seq, tensor.stride_seq}, Axis{heads, tensor.stride_head}}) {
        aligned &= axis.length <= 1 || axis.stride * elementSize % bytes == 0;
    }
    return aligned;
}

int64_t intervalBytesOnDevice(const flashring_step& step) {
    return 2 * roundUp(step.q_len * static_cast<int64_t>(sizeof(int32_t)), 64);
}

Arguments prepare(const Problem& problem, const Tiling* tiling) {
    const flashring_step& s = problem.step;
    if (s.q_len > kMaxTokens || s.kv_len > kMaxTokens) {
        fail(FLASHRING_UNSUPPORTED, "q_len = %lld, kv_len = %lld: CUDA kernels serve up to 2^30 tokens a step",
             static_cast<long long>(s.q_len), static_cast<long long>(s.kv_len));
    }
    int32_t* const lo = reinterpret_cast<int32_t*>(problem.workspace);
    int32_t* const hi = reinterpret_cast<int32_t*>(problem.workspace + intervalBytesOnDevice(s) / 2);
    const int threads = tiling ? tiling->queries : kMaxThreads;
    const int64_t tiles = ceilDiv(s.q_len, threads), stretches = tiling && tiling->order ? ceilDiv(tiles, kStretch) : 0;
    launch(intervalsKernel, "intervals kernel", tiling ? Start::Early : Start::InOrder, tiles + stretches, threads, 0, s.stream, s, lo, hi,
           tiling ? *tiling : Tiling{}, static_cast<int>(stretches));

    const int64_t size = elementBytes(s.dtype), accSize = elementBytes(accumulatorType(s.dtype));
    const auto queries = [&](const flashring_tensor& tensor, int64_t dim, int64_t elementSize, int64_t bytes) {
        return rowsAligned(tensor, s.batch, s.q_len, s.q_heads, dim, elementSize, bytes);
    };
    const auto keys = [&](const flashring_tensor& tensor, int64_t dim, int64_t elementSize, int64_t bytes) {
        return rowsAligned(tensor, s.batch, s.kv_len, s.kv_heads, dim, elementSize, bytes);
    };
    return {s,
            lo,
            hi,
            nullptr,
            static_cast<float>(s.softmax_scale),
            static_cast<float>(s.softmax_scale * M_LOG2E),
            queries(s.q, s.head_dim, size, 16) && queries(s.dout, s.value_dim, size, 16) && keys(s.k, s.head_dim, size, 16) &&
                keys(s.v, s.value_dim, size, 16),
            queries(s.out, s.value_dim, size, 16) && queries(s.acc, s.value_dim, accSize, 16),
            queries(s.out, s.value_dim, size, 2 * size) && queries(s.acc, s.value_dim, accSize, 2 * accSize) &&
                queries(s.dq, s.head_dim, accSize, 16) && keys(s.dk, s.head_dim, accSize, 2 * accSize) &&
                keys(s.dv, s.value_dim, accSize, 2 * accSize)};
}

}  // namespace flashring
