// The elementwise jobs beside attention: delta, combine, and zeros in a strided tensor. All are bound by memory.
#include "rowwise.h"

#include "common/attention.h"
#include "common/divisor.h"
#include "common/early_start.cuh"
#include "common/elements.cuh"

namespace flashring {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

struct RowIndex {
    int64_t batch, seq, head;
};

__device__ RowIndex rowIndex(int64_t index, int64_t seq, int64_t heads) {
    return {index / heads / seq, index / heads % seq, index % heads};
}

// One warp a row, of any type and any strides.
template <class Element>
__global__ void deltaKernel(const __grid_constant__ flashring_step step) {
    using Acc = typename Accumulator<Element>::type;
    const int64_t index = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
    if (index >= step.batch * step.q_len * step.q_heads) {
        return;
    }
    const RowIndex r = rowIndex(index, step.q_len, step.q_heads);
    const Element* const out = row<const Element>(step.out, r.batch, r.seq, r.head);
    const Element* const dout = row<const Element>(step.dout, r.batch, r.seq, r.head);
    Acc sum = 0;
    for (int64_t d = threadIdx.x % 32; d < step.value_dim; d += 32) {
        sum += widenTo<Acc>(out[d]) * widenTo<Acc>(dout[d]);
    }
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        sum += __shfl_xor_sync(~0u, sum, lanes);
    }
    if (threadIdx.x % 32 == 0) {
        *row<Acc>(step.delta, r.batch, r.seq, r.head) = sum;
    }
}

constexpr int kDeltaRows = 4;  // queries that a lane asks for before it needs the first

// Products of eight pairs of 16-bit elements, added up.
template <class Element>
__device__ float dot(const uint4& a, const uint4& b) {
    const Element* const x = reinterpret_cast<const Element*>(&a);
    const Element* const y = reinterpret_cast<const Element*>(&b);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        sum = fmaf(static_cast<float>(x[i]), static_cast<float>(y[i]), sum);
    }
    return sum;
}

// kLanes lanes for kDeltaRows queries of a head, 16 bytes of a row each. What it computes to find a row takes as long
// as the memory does to read it: so it is found once for all of them, and by multiplications.
template <class Element, int kLanes>
__global__ void __launch_bounds__(kThreads) deltaWordsKernel(const __grid_constant__ flashring_step step, int places,
                                                             Divisor byHeads, int groups, Divisor byGroups) {
#if __CUDA_ARCH__ >= 900
    letNextKernelStart();
    waitForEarlierKernel();
#endif
    const int thread = static_cast<int>(threadIdx.x), word = thread % kLanes;
    const int own = static_cast<int>(blockIdx.x) * (kThreads / kLanes) + thread / kLanes, place = min(own, places - 1);
    const int group = byHeads.quotient(place), batch = byGroups.quotient(group);
    const int head = place - group * static_cast<int>(step.q_heads), first = (group - batch * groups) * kDeltaRows;
    const int rows = own < places ? static_cast<int>(step.q_len) - first : 0;
    const Element* const outs = row<const Element>(step.out, batch, first, head) + word * 8;
    const Element* const douts = row<const Element>(step.dout, batch, first, head) + word * 8;
    uint4 out[kDeltaRows]{}, dout[kDeltaRows]{};
    const auto load = [&](int n) {
        out[n] = __ldcs(reinterpret_cast<const uint4*>(outs + n * step.out.stride_seq));
        dout[n] = *reinterpret_cast<const uint4*>(douts + n * step.dout.stride_seq);
    };
    // without conditions of their own, loads are not put off until sums need them
    if (rows >= kDeltaRows && word * 8 < step.value_dim) {
#pragma unroll
        for (int n = 0; n < kDeltaRows; ++n) {
            load(n);
        }
    } else if (word * 8 < step.value_dim) {
#pragma unroll
        for (int n = 0; n < kDeltaRows; ++n) {
            if (n < rows) {
                load(n);
            }
        }
    }
    float* const deltas = row<float>(step.delta, batch, first, head);
#pragma unroll
    for (int n = 0; n < kDeltaRows; ++n) {
        float sum = dot<Element>(out[n], dout[n]);
        for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
            sum += __shfl_xor_sync(~0u, sum, lanes);
        }
        if (word == 0 && n < rows) {
            deltas[n * step.delta.stride_seq] = sum;
        }
    }
}

constexpr int kLongestWords = 256;  // elements of a row that the lanes of a warp hold

// False where rows are not whole 16-byte words of 16-bit elements or longer than a warp holds, or too many for indices
// of 32 bits.
template <class Element>
bool deltaOfWords(const flashring_step& step) {
    const auto aligned = [&](const flashring_tensor& tensor) {
        return rowsAligned(tensor, queries(step, step.value_dim), sizeof(Element), 16);
    };
    const int64_t groups = ceilDiv(step.q_len, kDeltaRows), places = step.batch * groups * step.q_heads;
    const bool counted = places > 0 && places <= INT32_MAX / 2 && step.q_len <= INT32_MAX / 2;
    if (sizeof(Element) != 2 || step.value_dim > kLongestWords || !counted || !aligned(step.out) ||
        !aligned(step.dout)) {
        return false;
    }
    if constexpr (sizeof(Element) == 2) {
        const auto start = [&](auto kernel, int lanes) {
            launch(kernel, "delta kernel", computeCapability(step.device) >= 90 ? Start::Early : Start::InOrder,
                   ceilDiv(places, kThreads / lanes), kThreads, 0, step.stream, step, static_cast<int>(places),
                   Divisor(static_cast<int>(step.q_heads)), static_cast<int>(groups),
                   Divisor(static_cast<int>(groups)));
        };
        step.value_dim <= 64    ? start(deltaWordsKernel<Element, 8>, 8)
        : step.value_dim <= 128 ? start(deltaWordsKernel<Element, 16>, 16)
                                : start(deltaWordsKernel<Element, 32>, 32);
    }
    return true;
}

constexpr int kSinkThreads = 1024;

// dsinks from lse and delta: a block a head, which adds up in one order.
template <class Acc>
__global__ void __launch_bounds__(kSinkThreads) sinkGradientKernel(const __grid_constant__ flashring_step step) {
    __shared__ double sums[kSinkThreads];
    const int64_t h = blockIdx.x, rows = step.batch * step.q_len;
    const double sink = static_cast<const Acc*>(step.sinks)[h];
    double sum = 0;
    for (int64_t n = threadIdx.x; n < rows && sink != -INFINITY; n += kSinkThreads) {
        const int64_t b = n / step.q_len, i = n % step.q_len;
        const double difference = sink - static_cast<double>(*row<const Acc>(step.lse, b, i, h));
        const Acc p = exp(static_cast<Acc>(difference > 0 ? 0 : difference));  // NaN stays NaN
        sum -= static_cast<double>(p) * static_cast<double>(*row<const Acc>(step.delta, b, i, h));
    }
    sums[threadIdx.x] = sum;
    for (int half = kSinkThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < half) {
            sums[threadIdx.x] += sums[threadIdx.x + half];
        }
    }
    if (threadIdx.x == 0) {
        Acc& dsink = static_cast<Acc*>(step.dsinks)[h];
        dsink = static_cast<Acc>(sums[0] + (step.flags & FLASHRING_ADD_DSINKS ? static_cast<double>(dsink) : 0));
    }
}

// One warp a row of states, in their order.
template <class Element>
__global__ void mergeStatesKernel(const __grid_constant__ flashring_merge_args args) {
    using Acc = typename Accumulator<Element>::type;
    const int64_t index = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
    if (index >= args.batch * args.length * args.heads) {
        return;
    }
    const RowIndex r = rowIndex(index, args.length, args.heads);
    const Acc* const lse = row<const Acc>(args.state_lse, r.batch, r.seq, r.head);
    const Acc* const acc = row<const Acc>(args.acc, r.batch, r.seq, r.head);
    Element* const out = row<Element>(args.out, r.batch, r.seq, r.head);
    const auto lseOf = [&](int64_t s) { return lse[s * args.state_stride]; };
    Acc top = -INFINITY, total = 0;
    for (int64_t s = 0; s < args.states; ++s) {
        top = lseOf(s) > top || isnan(lseOf(s)) ? lseOf(s) : top;
    }
    for (int64_t s = 0; s < args.states; ++s) {
        total += lseOf(s) == -INFINITY ? Acc(0) : exp(lseOf(s) - top);
    }
    for (int64_t d = threadIdx.x % 32; d < args.dim; d += 32) {
        Acc sum = 0;
        for (int64_t s = 0; s < args.states; ++s) {
            if (lseOf(s) != -INFINITY) {
                sum += exp(lseOf(s) - top) / total * acc[s * args.state_stride + d];
            }
        }
        out[d] = narrow<Element>(sum);
    }
    if (args.lse.data && threadIdx.x % 32 == 0) {
        *row<Acc>(args.lse, r.batch, r.seq, r.head) = total == 0 ? -INFINITY : top + log(total);
    }
}

// One warp a row.
template <class Element>
__global__ void fillKernel(const __grid_constant__ flashring_tensor tensor, int64_t seq, int64_t heads, int64_t dim,
                           int64_t rows, Element value) {
    const int64_t index = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
    if (index < rows) {
        const RowIndex r = rowIndex(index, seq, heads);
        Element* const target = row<Element>(tensor, r.batch, r.seq, r.head);
        for (int64_t d = threadIdx.x % 32; d < dim; d += 32) {
            target[d] = value;
        }
    }
}

// Nothing where the tensor has no address.
template <class Element>
void fill(const flashring_tensor& tensor, const Extents& e, Element value, void* stream) {
    const int64_t rows = e.batch * e.length * e.heads;
    if (tensor.data) {
        launch(fillKernel<Element>, "fill kernel", ceilDiv(rows, kWarps), kThreads, 0, stream, tensor, e.length,
               e.heads, e.dim, rows, value);
    }
}

constexpr int kPerThread = 4, kPerBlock = kThreads * kPerThread;

template <class Acc>
__device__ void accumulate(Acc (&sums)[kPerThread], const flashring_tensor& tensor, int32_t dtype, const RowIndex& r,
                           int64_t first, int64_t dim) {
    withDeviceElement(dtype, [&](auto element) {
        const auto* const source = row<const decltype(element)>(tensor, r.batch, r.seq, r.head);
#pragma unroll
        for (int n = 0; n < kPerThread; ++n) {
            const int64_t d = first + n * kThreads;
            sums[n] += d < dim ? widenTo<Acc>(source[d]) : Acc(0);
        }
    });
}

// One block for kPerBlock elements of a row.
template <class Acc>
__global__ void combineKernel(const __grid_constant__ flashring_combine_args args, int64_t blocksPerRow) {
    const RowIndex r = rowIndex(blockIdx.x / blocksPerRow, args.length, args.heads);
    const int64_t first = blockIdx.x % blocksPerRow * kPerBlock + threadIdx.x;
    Acc sums[kPerThread] = {};
    accumulate(sums, args.a, args.a_dtype, r, first, args.dim);
    if (args.b.data) {
        accumulate(sums, args.b, args.b_dtype, r, first, args.dim);
    }
    withDeviceElement(args.dst_dtype, [&](auto element) {
        using Element = decltype(element);
        Element* const target = row<Element>(args.dst, r.batch, r.seq, r.head);
#pragma unroll
        for (int n = 0; n < kPerThread; ++n) {
            const int64_t d = first + n * kThreads;
            if (d < args.dim) {
                target[d] = narrow<Element>(sums[n]);
            }
        }
    });
}

// Where an axis steps by just what lies inside it, in every operand, it and the dims are one long row.
bool adjoins(const flashring_combine_args& args, int64_t length, int64_t flashring_tensor::* stride) {
    return length == 1 ||
           (args.dst.*stride == args.dim && args.a.*stride == args.dim && (!args.b.data || args.b.*stride == args.dim));
}

flashring_combine_args merged(flashring_combine_args args) {
    if (adjoins(args, args.heads, &flashring_tensor::stride_head)) {
        args.dim *= args.heads;
        args.heads = 1;
        if (adjoins(args, args.length, &flashring_tensor::stride_seq)) {
            args.dim *= args.length;
            args.length = 1;
        }
    }
    return args;
}

}  // namespace

void deltaOnDevice(const flashring_step& step) {
    const DeviceScope scope(step.device);
    withDeviceElement(step.dtype, [&](auto element) {
        using Element = decltype(element);
        if (!deltaOfWords<Element>(step)) {
            launch(deltaKernel<Element>, "delta kernel", ceilDiv(step.batch * step.q_len * step.q_heads, kWarps),
                   kThreads, 0, step.stream, step);
        }
        if (step.dsinks) {
            launch(sinkGradientKernel<typename Accumulator<Element>::type>, "sink gradient kernel", Start::InOrder,
                   step.q_heads, kSinkThreads, 0, step.stream, step);
        }
    });
}

void mergeOnDevice(const flashring_merge_args& args) {
    const DeviceScope scope(args.device);
    withDeviceElement(args.dtype, [&](auto element) {
        launch(mergeStatesKernel<decltype(element)>, "merge of states",
               ceilDiv(args.batch * args.length * args.heads, kWarps), kThreads, 0, args.stream, args);
    });
}

void clearOnDevice(const flashring_tensor& tensor, const Extents& extents, void* stream) {
    fill(tensor, extents, 0.0f, stream);
}

void forwardOfNothing(const flashring_step& s) {
    const DeviceScope scope(s.device);
    const Extents outputs = queries(s, s.value_dim), rows = queries(s, 1);
    const bool finish = s.flags & FLASHRING_FINISH;
    if (!(s.flags & FLASHRING_RESUME)) {
        fill(s.acc, outputs, 0.0f, s.stream);
        if (s.sinks) {  // the same for all of a head's rows
            combineOnDevice({sizeof(flashring_combine_args), s.device, FLASHRING_FLOAT32, FLASHRING_FLOAT32,
                             FLASHRING_FLOAT32, 0, s.batch, s.q_len, s.q_heads, 1, s.lse,
                             {const_cast<void*>(s.sinks), 0, 0, 1}, {}, s.stream});
        } else {
            fill(s.lse, rows, -INFINITY, s.stream);
        }
        fill(s.lse_low, rows, 0.0f, s.stream);
        if (finish) {
            with16BitElement(s.dtype, [&](auto element) { fill(s.out, outputs, decltype(element)(0.0f), s.stream); });
        }
    } else if (finish && s.q_len > 0) {
        combineOnDevice({sizeof(flashring_combine_args),
                         s.device,
                         s.dtype,
                         FLASHRING_FLOAT32,
                         FLASHRING_FLOAT32,
                         0,
                         s.batch,
                         s.q_len,
                         s.q_heads,
                         s.value_dim,
                         s.out,
                         s.acc,
                         {},
                         s.stream});
    }
}

void backwardOfNothing(const flashring_step& s) {
    const DeviceScope scope(s.device);
    if (!(s.flags & FLASHRING_ADD_DQ)) {
        clearOnDevice(s.dq, queries(s, s.head_dim), s.stream);
    }
    if (!(s.flags & FLASHRING_ADD_DKV)) {
        clearOnDevice(s.dk, keys(s, s.head_dim), s.stream);
        clearOnDevice(s.dv, keys(s, s.value_dim), s.stream);
    }
}

void combineOnDevice(const flashring_combine_args& args) {
    const DeviceScope scope(args.device);
    const bool wide = args.dst_dtype == FLASHRING_FLOAT64 || args.a_dtype == FLASHRING_FLOAT64 ||
                      (args.b.data && args.b_dtype == FLASHRING_FLOAT64);
    const flashring_combine_args rows = merged(args);
    const int64_t blocksPerRow = ceilDiv(rows.dim, kPerBlock);
    launch(wide ? combineKernel<double> : combineKernel<float>, "combine kernel",
           rows.batch * rows.length * rows.heads * blocksPerRow, kThreads, 0, args.stream, rows, blocksPerRow);
}

}  // namespace flashring
