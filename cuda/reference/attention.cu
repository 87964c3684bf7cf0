// The plain formulas on the device, for every dtype, in float64: one warp a query or a key, 32 partners at a time, each
// lane the score of one. What the fast kernels are compared with there, and what serves float32 and float64.
#include <math.h>

#include "common/attention.h"
#include "common/elements.cuh"
#include "common/sight.cuh"

namespace flashring {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int kDims = kMaxHeadDim / 32;  // of a row, to each lane

template <class Element>
__device__ double dot(const Element* a, const Element* b, int64_t count) {
    double sum = 0;
    for (int64_t d = 0; d < count; ++d) {
        sum += widenTo<double>(a[d]) * widenTo<double>(b[d]);
    }
    return sum;
}

__device__ double warpMax(double value) {
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        value = fmax(value, __shfl_xor_sync(~0u, value, lanes));
    }
    return value;
}

__device__ double warpSum(double value) {
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        value += __shfl_xor_sync(~0u, value, lanes);
    }
    return value;
}

// A row of up to kMaxHeadDim numbers, spread over a warp.
struct Row {
    double part[kDims] = {};

    // += weight * source; the lanes together read 32 neighbours.
    template <class Element>
    __device__ void add(double weight, const Element* source, int64_t dim) {
#pragma unroll
        for (int n = 0; n < kDims; ++n) {
            if (n * 32 >= dim) {
                break;
            }
            const int64_t d = threadIdx.x % 32 + n * 32;
            part[n] += d < dim ? weight * widenTo<double>(source[d]) : 0;
        }
    }

    template <class Element>
    __device__ void store(Element* target, int64_t dim, double scale, bool addToTarget) const {
        for (int n = 0; n < kDims; ++n) {
            const int64_t d = threadIdx.x % 32 + n * 32;
            if (d < dim) {
                target[d] = narrow<Element>(part[n] * scale + (addToTarget ? widenTo<double>(target[d]) : 0));
            }
        }
    }
};

// The warp's row of [batch, seq, heads]; false past the last.
__device__ bool ownRow(int64_t batch, int64_t seq, int64_t heads, int64_t* b, int64_t* i, int64_t* h) {
    const int64_t index = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
    *b = index / heads / seq;
    *i = index / heads % seq;
    *h = index % heads;
    return *b < batch;
}

struct Score {
    double value;   // rounded as forward's state holds it: backward has to find the same
    double growth;  // dvalue / d(scaled product)
};

// The score of query i of head h and key j of head g, as flashring.h has it.
template <class Element>
__device__ Score score(const Arguments& a, int64_t b, int64_t i, int64_t h, int64_t j, int64_t g) {
    using Acc = typename Accumulator<Element>::type;
    const flashring_step& s = a.step;
    const double product =
        s.softmax_scale * dot(row<const Element>(s.q, b, i, h), row<const Element>(s.k, b, j, g), s.head_dim);
    const double bounded = s.softcap != 0 ? tanh(product / s.softcap) : 0;
    double value = s.softcap != 0 ? s.softcap * bounded : product;
    if (s.alibi_slopes) {
        const int64_t query = Ranges(s.q_positions).positionOf(i), key = Ranges(s.kv_positions).positionOf(j);
        const double distance = fabs(static_cast<double>(query - key));
        value -= static_cast<double>(static_cast<const Acc*>(s.alibi_slopes)[h]) * distance;
    }
    return {static_cast<double>(static_cast<Acc>(value)), 1 - bounded * bounded};
}

template <class Element>
__global__ void forwardReference(const __grid_constant__ Arguments a) {
    using Acc = typename Accumulator<Element>::type;
    const flashring_step& s = a.step;
    int64_t b, i, h;
    if (!ownRow(s.batch, s.q_len, s.q_heads, &b, &i, &h)) {
        return;
    }
    const int64_t g = h / (s.q_heads / s.kv_heads);
    Acc* const lse = row<Acc>(s.lse, b, i, h);
    Acc* const low = s.lse_low.data ? row<Acc>(s.lse_low, b, i, h) : nullptr;
    Acc* const acc = s.acc.data ? row<Acc>(s.acc, b, i, h) : nullptr;
    Row output;
    const bool resume = s.flags & FLASHRING_RESUME;
    double maximum = resume    ? *lse
                     : s.sinks ? static_cast<const Acc*>(s.sinks)[h]
                               : -INFINITY,
           sum = maximum == -INFINITY ? 0 : 1;
    if (resume && maximum != -INFINITY) {
        sum = low ? exp(static_cast<double>(*low)) : 1;
        output.add(sum, acc, s.value_dim);
    }
    for (int32_t first = a.lo[i]; first < a.hi[i]; first += 32) {
        const int32_t own = first + static_cast<int32_t>(threadIdx.x) % 32;
        const double scored = own < a.hi[i] ? score<Element>(a, b, i, h, own, g).value : -INFINITY;
        const double before = maximum;
        maximum = fmax(maximum, warpMax(scored));
        const double shift = maximum == -INFINITY ? 0 : maximum, decay = exp(before - shift),
                     weight = exp(scored - shift);
        sum = sum * decay + warpSum(weight);
        for (double& part : output.part) {
            part *= decay;
        }
        for (int32_t lane = 0; lane < min(32, a.hi[i] - first); ++lane) {
            output.add(__shfl_sync(~0u, weight, lane), row<const Element>(s.v, b, first + lane, g), s.value_dim);
        }
    }
    const double inverse = sum == 0 ? 0 : 1 / sum;
    __syncwarp();  // every lane has read the state
    if (threadIdx.x % 32 == 0) {
        const double logSum = log(sum);
        *lse = static_cast<Acc>(sum == 0 ? -INFINITY : maximum + logSum);
        if (low) {
            *low = static_cast<Acc>(fabs(*lse) < INFINITY ? maximum - *lse + logSum : 0);
        }
    }
    if (acc) {
        output.store(acc, s.value_dim, inverse, false);
    }
    if (s.flags & FLASHRING_FINISH) {
        output.store(row<Element>(s.out, b, i, h), s.value_dim, inverse, false);
    }
}

struct Pair {
    double p, ds;  // softmax probability, and dL/d(scaled product)
};

template <class Element>
__device__ Pair pair(const Arguments& a, int64_t b, int64_t i, int64_t h, int64_t j, int64_t g) {
    using Acc = typename Accumulator<Element>::type;
    const flashring_step& s = a.step;
    const double lse = *row<const Acc>(s.lse, b, i, h);
    if (lse == -INFINITY) {
        return {0, 0};
    }
    const Score scored = score<Element>(a, b, i, h, j, g);
    const double difference = scored.value - lse;
    const double p = exp(difference > 0 ? 0 : difference);  // lse is rounded, too; NaN stays
    const double dp = dot(row<const Element>(s.dout, b, i, h), row<const Element>(s.v, b, j, g), s.value_dim);
    return {p, scored.growth * p * (dp - static_cast<double>(*row<const Acc>(s.delta, b, i, h)))};
}

// dq_i = scale * sum_j ds_ij k_j
template <class Element>
__global__ void queryGradientReference(const __grid_constant__ Arguments a) {
    using Acc = typename Accumulator<Element>::type;
    const flashring_step& s = a.step;
    int64_t b, i, h;
    if (!ownRow(s.batch, s.q_len, s.q_heads, &b, &i, &h)) {
        return;
    }
    const int64_t g = h / (s.q_heads / s.kv_heads);
    Row dq;
    for (int32_t first = a.lo[i]; first < a.hi[i]; first += 32) {
        const int32_t own = first + static_cast<int32_t>(threadIdx.x) % 32;
        const double ds = own < a.hi[i] ? pair<Element>(a, b, i, h, own, g).ds : 0;
        for (int32_t lane = 0; lane < min(32, a.hi[i] - first); ++lane) {
            dq.add(__shfl_sync(~0u, ds, lane), row<const Element>(s.k, b, first + lane, g), s.head_dim);
        }
    }
    dq.store(row<Acc>(s.dq, b, i, h), s.head_dim, s.softmax_scale, s.flags & FLASHRING_ADD_DQ);
}

// The first i in [0, length) with bounds[i] > value; bounds never decrease.
__device__ int32_t firstAbove(const int32_t* bounds, int64_t length, int64_t value) {
    int32_t first = 0, last = static_cast<int32_t>(length);
    while (first < last) {
        const int32_t middle = first + (last - first) / 2;
        if (bounds[middle] > value) {
            last = middle;
        } else {
            first = middle + 1;
        }
    }
    return first;
}

// dv_j = sum_i p_ij do_i and dk_j = scale * sum_i ds_ij q_i, over the queries of every head that shares the key head
template <class Element>
__global__ void keyGradientReference(const __grid_constant__ Arguments a) {
    using Acc = typename Accumulator<Element>::type;
    const flashring_step& s = a.step;
    int64_t b, j, g;
    if (!ownRow(s.batch, s.kv_len, s.kv_heads, &b, &j, &g)) {
        return;
    }
    const int32_t begin = firstAbove(a.hi, s.q_len, j), end = firstAbove(a.lo, s.q_len, j);
    const int64_t group = s.q_heads / s.kv_heads;
    Row dk, dv;
    for (int64_t h = g * group; h < (g + 1) * group; ++h) {
        for (int32_t first = begin; first < end; first += 32) {
            const int32_t own = first + static_cast<int32_t>(threadIdx.x) % 32;
            const Pair weight = own < end ? pair<Element>(a, b, own, h, j, g) : Pair{0, 0};
            for (int32_t lane = 0; lane < min(32, end - first); ++lane) {
                dk.add(__shfl_sync(~0u, weight.ds, lane), row<const Element>(s.q, b, first + lane, h), s.head_dim);
                dv.add(__shfl_sync(~0u, weight.p, lane), row<const Element>(s.dout, b, first + lane, h), s.value_dim);
            }
        }
    }
    dk.store(row<Acc>(s.dk, b, j, g), s.head_dim, s.softmax_scale, s.flags & FLASHRING_ADD_DKV);
    dv.store(row<Acc>(s.dv, b, j, g), s.value_dim, 1, s.flags & FLASHRING_ADD_DKV);
}

void forward(const Problem& problem) {
    const flashring_step& s = problem.step;
    const DeviceScope scope(s.device);
    const Arguments arguments = prepare(problem);
    withDeviceElement(s.dtype, [&](auto element) {
        launch(forwardReference<decltype(element)>, "forward reference kernel",
               ceilDiv(s.batch * s.q_len * s.q_heads, kWarps), kThreads, 0, s.stream, arguments);
    });
}

void backward(const Problem& problem) {
    const flashring_step& s = problem.step;
    const DeviceScope scope(s.device);
    const Arguments arguments = prepare(problem);
    withDeviceElement(s.dtype, [&](auto element) {
        launch(queryGradientReference<decltype(element)>, "backward reference kernel (dq)",
               ceilDiv(s.batch * s.q_len * s.q_heads, kWarps), kThreads, 0, s.stream, arguments);
        launch(keyGradientReference<decltype(element)>, "backward reference kernel (dk, dv)",
               ceilDiv(s.batch * s.kv_len * s.kv_heads, kWarps), kThreads, 0, s.stream, arguments);
    });
}

}  // namespace

const Kernel kCudaReference =
    Kernel{FLASHRING_KERNEL_REFERENCE,
           "reference",
           kCudaRequirement,
           anyDeviceCapable,
           forward,
           backward,
           [](const flashring_step& step, flashring_direction) { return intervalBytesOnDevice(step); },
           true}
        .serving(kAllScores)
        .forAnyDims();

}  // namespace flashring
