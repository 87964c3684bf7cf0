// From positions and mask, both in device memory, to the local keys that each local query sees: one thread a query.
#include <math.h>

#include "attention.h"
#include "elements.h"
#include "visibility.h"

namespace flashring {
namespace {

constexpr int kMaxThreads = 256;
constexpr int64_t kMaxTokens = INT64_C(1) << 30;  // local indices are 32 bits wide, with room for a tile beyond the end

// The global position of local token i, or -1 where the ranges end before it.
__device__ int64_t positionOf(const flashring_positions& positions, int64_t i) {
    for (int64_t r = 0; r < positions.count; ++r) {
        const flashring_range range = positions.ranges[r];
        if (i < range.length) {
            return range.start + i * range.stride;
        }
        i -= range.length;
    }
    return -1;
}

// The local tokens whose global position is below the bound.
__device__ int64_t tokensBelow(const flashring_positions& positions, int64_t bound) {
    int64_t count = 0;
    for (int64_t r = 0; r < positions.count; ++r) {
        const flashring_range range = positions.ranges[r];
        const int64_t inside = countBelow(range, bound);
        count += inside;
        if (inside < range.length) {
            break;
        }
    }
    return count;
}

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

// The local keys [first, last) that local query i sees.
__device__ void keysSeen(const flashring_step& step, int64_t i, int64_t& first, int64_t& last) {
    const int64_t q = positionOf(step.q_positions, i);
    if (q >= 0) {
        const Interval keys = visible(step.mask, documentAt(step.mask, documentOf(step.mask, q)), q);
        first = min(tokensBelow(step.kv_positions, keys.first), step.kv_len);
        last = max(first, min(tokensBelow(step.kv_positions, keys.last), step.kv_len));
    }
}

// The span of this block's tile, one thread a query that sees [lo, hi).
__device__ void writeSpan(const Tiling& tiling, int64_t queries, int lo, int hi) {
    __shared__ int first[kMaxThreads];
    __shared__ unsigned long long widest;  // the gap's length, then its first key
    const int thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
    const int count = static_cast<int>(min(int64_t{blockDim.x}, queries - int64_t{block} * blockDim.x));
    first[thread] = lo;
    if (thread == 0) {
        widest = 0;
    }
    __syncthreads();
    if (thread + 1 < count && first[thread + 1] - hi > tiling.keys) {
        atomicMax(&widest, static_cast<unsigned long long>(first[thread + 1] - hi) << 32 | static_cast<unsigned>(hi));
    }
    __syncthreads();
    if (thread == count - 1) {
        const int length = static_cast<int>(widest >> 32), gap = length ? static_cast<int>(widest & 0xffffffff) : hi;
        tiling.spans[block] = {first[0], gap, gap + length, hi};
        if (block == 0) {
            *tiling.next = 0;
        }
    }
}

// One thread a query; where there is a tiling, one block a tile.
__global__ void intervalsKernel(const __grid_constant__ flashring_step step, int32_t* lo, int32_t* hi, const __grid_constant__ Tiling tiling) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");  // a next kernel that can start early may: it waits for this one's end
#endif
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    int64_t first = 0, last = 0;
    if (i < step.q_len) {
        keysSeen(step, i, first, last);
        lo[i] = static_cast<int32_t>(first);
        hi[i] = static_cast<int32_t>(last);
    }
    if (tiling.spans) {
        writeSpan(tiling, step.q_len, static_cast<int>(first), static_cast<int>(last));
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
    launch(intervalsKernel, "intervals kernel", ceilDiv(s.q_len, threads), threads, 0, s.stream, s, lo, hi, tiling ? *tiling : Tiling{});

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
            static_cast<float>(s.softmax_scale * M_LOG2E),
            queries(s.q, s.head_dim, size, 16) && queries(s.dout, s.value_dim, size, 16) && keys(s.k, s.head_dim, size, 16) &&
                keys(s.v, s.value_dim, size, 16),
            queries(s.out, s.value_dim, size, 16),
            queries(s.out, s.value_dim, size, 2 * size) && queries(s.acc, s.value_dim, accSize, 2 * accSize) &&
                queries(s.dq, s.head_dim, accSize, 16) && keys(s.dk, s.head_dim, accSize, 2 * accSize) &&
                keys(s.dv, s.value_dim, accSize, 2 * accSize)};
}

}  // namespace flashring
