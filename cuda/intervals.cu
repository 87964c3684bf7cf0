// From positions and mask, both in device memory, to the local keys that each local query sees: one thread a query.
#include <math.h>

#include "attention.h"
#include "elements.h"
#include "visibility.h"

namespace flashring {
namespace {

constexpr int kThreads = 256;
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

__global__ void intervalsKernel(const __grid_constant__ flashring_step step, int32_t* lo, int32_t* hi) {
    const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
    if (i >= step.q_len) {
        return;
    }
    int64_t first = 0, last = 0;
    const int64_t q = positionOf(step.q_positions, i);
    if (q >= 0) {
        const Interval keys = visible(step.mask, documentAt(step.mask, documentOf(step.mask, q)), q);
        first = min(tokensBelow(step.kv_positions, keys.first), step.kv_len);
        last = min(tokensBelow(step.kv_positions, keys.last), step.kv_len);
    }
    lo[i] = static_cast<int32_t>(first);
    hi[i] = static_cast<int32_t>(max(first, last));
}

struct Axis {
    int64_t length, stride;
};

// Every row of the tensor starts on `bytes` bytes and holds a whole number of them.
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

}  // namespace

int64_t intervalBytesOnDevice(const flashring_step& step) {
    return 2 * roundUp(step.q_len * static_cast<int64_t>(sizeof(int32_t)), 64);
}

Arguments prepare(const Problem& problem) {
    const flashring_step& s = problem.step;
    if (s.q_len > kMaxTokens || s.kv_len > kMaxTokens) {
        fail(FLASHRING_UNSUPPORTED, "q_len = %lld, kv_len = %lld: CUDA kernels serve up to 2^30 tokens a step",
             static_cast<long long>(s.q_len), static_cast<long long>(s.kv_len));
    }
    int32_t* const lo = reinterpret_cast<int32_t*>(problem.workspace);
    int32_t* const hi = reinterpret_cast<int32_t*>(problem.workspace + intervalBytesOnDevice(s) / 2);
    launch(intervalsKernel, "intervals kernel", ceilDiv(s.q_len, kThreads), kThreads, 0, s.stream, s, lo, hi);

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
            queries(s.out, s.value_dim, size, 2 * size) && queries(s.acc, s.value_dim, accSize, 2 * accSize) &&
                queries(s.dq, s.head_dim, accSize, 16) && keys(s.dk, s.head_dim, accSize, 2 * accSize) &&
                keys(s.dv, s.value_dim, accSize, 2 * accSize)};
}

}  // namespace flashring
