#include "rowwise.h"

#include <algorithm>
#include <cmath>

#include "elements.h"
#include "kernels.h"
#include "rounding.h"
#include "threads.h"

namespace flashring {
namespace {

constexpr int64_t kChunk = 256;  // elements converted at a time, in the first-level cache

template <class Acc>
void load(const flashring_tensor& tensor, int32_t dtype, int64_t b, int64_t s, int64_t h, int64_t offset, int64_t count,
          Acc* values) {
    withElement(dtype, [&](auto element) {
        const auto* const source = row<const decltype(element)>(tensor, b, s, h) + offset;
        for (int64_t d = 0; d < count; ++d) {
            values[d] = static_cast<Acc>(widen(source[d]));
        }
    });
}

template <class Acc>
void store(const flashring_tensor& tensor, int32_t dtype, int64_t b, int64_t s, int64_t h, int64_t offset,
           int64_t count, const Acc* values) {
    withElement(dtype, [&](auto element) {
        using Element = decltype(element);
        auto* const target = row<Element>(tensor, b, s, h) + offset;
        for (int64_t d = 0; d < count; ++d) {
            target[d] = Narrow<Element>::from(static_cast<typename Accumulator<Element>::type>(values[d]));
        }
    });
}

bool headsAdjoin(const flashring_tensor& tensor, int64_t dim) { return !tensor.data || tensor.stride_head == dim; }

template <class Acc>
void combineIn(const flashring_combine_args& args) {
    // Where heads lie one behind the other, a token is one long row.
    const bool merged =
        headsAdjoin(args.dst, args.dim) && headsAdjoin(args.a, args.dim) && headsAdjoin(args.b, args.dim);
    const int64_t heads = merged ? 1 : args.heads, dim = merged ? args.heads * args.dim : args.dim;
    const int64_t tokensPerTask = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, heads * dim));
    const int64_t tasks = ceilDiv(args.length, tokensPerTask);
    parallelFor(args.batch * tasks, [&](int64_t index, char*) {
        const int64_t b = index / tasks, first = index % tasks * tokensPerTask;
        for (int64_t s = first; s < std::min(args.length, first + tokensPerTask); ++s) {
            for (int64_t h = 0; h < heads; ++h) {
                for (int64_t d = 0; d < dim; d += kChunk) {
                    const int64_t count = std::min(kChunk, dim - d);
                    Acc sum[kChunk], other[kChunk];
                    load(args.a, args.a_dtype, b, s, h, d, count, sum);
                    if (args.b.data) {
                        load(args.b, args.b_dtype, b, s, h, d, count, other);
                        for (int64_t n = 0; n < count; ++n) {
                            sum[n] += other[n];
                        }
                    }
                    store(args.dst, args.dst_dtype, b, s, h, d, count, sum);
                }
            }
        }
    });
}

// dsinks from lse and delta: each head by itself, in one order.
template <class Acc>
void sinkGradients(const flashring_step& step) {
    parallelFor(step.q_heads, [&](int64_t h, char*) {
        const double sink = static_cast<double>(static_cast<const Acc*>(step.sinks)[h]);
        double sum = 0;
        for (int64_t b = 0; b < step.batch && sink != -INFINITY; ++b) {
            for (int64_t i = 0; i < step.q_len; ++i) {
                const double difference = sink - static_cast<double>(*row<const Acc>(step.lse, b, i, h));
                const double p = std::exp(difference > 0 ? 0 : difference);  // NaN stays NaN
                sum -= p * static_cast<double>(*row<const Acc>(step.delta, b, i, h));
            }
        }
        Acc& dsink = static_cast<Acc*>(step.dsinks)[h];
        dsink = static_cast<Acc>(step.flags & FLASHRING_ADD_DSINKS ? static_cast<double>(dsink) + sum : sum);
    });
}

template <class Element, class Acc>
void mergeRow(const flashring_merge_args& args, int64_t b, int64_t i, int64_t h) {
    const Acc* const lse = row<const Acc>(args.state_lse, b, i, h);
    const Acc* const acc = row<const Acc>(args.acc, b, i, h);
    Element* const out = row<Element>(args.out, b, i, h);
    const auto lseOf = [&](int64_t s) { return static_cast<double>(lse[s * args.state_stride]); };
    double top = -INFINITY, total = 0;
    for (int64_t s = 0; s < args.states; ++s) {
        top = lseOf(s) > top || std::isnan(lseOf(s)) ? lseOf(s) : top;
    }
    for (int64_t s = 0; s < args.states; ++s) {
        total += lseOf(s) == -INFINITY ? 0 : std::exp(lseOf(s) - top);
    }
    for (int64_t first = 0; first < args.dim; first += kChunk) {
        const int64_t count = std::min(kChunk, args.dim - first);
        double sum[kChunk] = {};
        for (int64_t s = 0; s < args.states; ++s) {
            if (lseOf(s) == -INFINITY) {
                continue;
            }
            const double weight = std::exp(lseOf(s) - top) / total;
            for (int64_t d = 0; d < count; ++d) {
                sum[d] += weight * static_cast<double>(acc[s * args.state_stride + first + d]);
            }
        }
        for (int64_t d = 0; d < count; ++d) {
            out[first + d] = Narrow<Element>::from(static_cast<Acc>(sum[d]));
        }
    }
    if (args.lse.data) {
        *row<Acc>(args.lse, b, i, h) = static_cast<Acc>(total == 0 ? -INFINITY : top + std::log(total));
    }
}

}  // namespace

void delta(const flashring_step& step) {
    constexpr int64_t kTokensPerTask = 64;
    const int64_t tasks = ceilDiv(step.q_len, kTokensPerTask);
    withElement(step.dtype, [&](auto element) {
        using Element = decltype(element);
        using Acc = typename Accumulator<Element>::type;
        parallelFor(step.batch * tasks, [&](int64_t index, char*) {
            const int64_t b = index / tasks, first = index % tasks * kTokensPerTask;
            for (int64_t i = first; i < std::min(step.q_len, first + kTokensPerTask); ++i) {
                for (int64_t h = 0; h < step.q_heads; ++h) {
                    const Element* const out = row<const Element>(step.out, b, i, h);
                    const Element* const dout = row<const Element>(step.dout, b, i, h);
                    Acc sum = 0;
                    for (int64_t d = 0; d < step.value_dim; ++d) {
                        sum += widen(out[d]) * widen(dout[d]);
                    }
                    *row<Acc>(step.delta, b, i, h) = sum;
                }
            }
        });
        if (step.dsinks) {
            sinkGradients<Acc>(step);
        }
    });
}

void merge(const flashring_merge_args& args) {
    withElement(args.dtype, [&](auto element) {
        using Element = decltype(element);
        using Acc = typename Accumulator<Element>::type;
        parallelFor(args.batch * args.length * args.heads, [&](int64_t index, char*) {
            const int64_t token = index / args.heads;
            mergeRow<Element, Acc>(args, token / args.length, token % args.length, index % args.heads);
        });
    });
}

void combine(const flashring_combine_args& args) {
    const bool wide = args.dst_dtype == FLASHRING_FLOAT64 || args.a_dtype == FLASHRING_FLOAT64 ||
                      (args.b.data && args.b_dtype == FLASHRING_FLOAT64);
    wide ? combineIn<double>(args) : combineIn<float>(args);
}

}  // namespace flashring
