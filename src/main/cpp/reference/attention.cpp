// The plain formulas, one query (or key) at a time in float64: what the fast kernels are compared with.
#include <cmath>

#include "elements.h"
#include "kernels.h"
#include "state.h"
#include "threads.h"

namespace flashring {
namespace {

template <class Element, class Other>
double dot(const Element* a, const Other* b, int64_t count) {
    double sum = 0;
    for (int64_t d = 0; d < count; ++d) {
        sum += static_cast<double>(widen(a[d])) * static_cast<double>(widen(b[d]));
    }
    return sum;
}

template <class Element>
struct Reference {
    using Acc = typename Accumulator<Element>::type;

    const Problem& problem;
    const flashring_step& step = problem.step;

    int64_t lo(int64_t b, int64_t i) const { return problem.lo[b * problem.ofRow + i]; }
    int64_t hi(int64_t b, int64_t i) const { return problem.hi[b * problem.ofRow + i]; }
    // Returns body(the elements of a key or value, what they are to be multiplied with).
    template <class Body>
    auto withCached(const flashring_tensor& tensor, const void* const* pages, const float* scales, int64_t b, int64_t j,
                    int64_t g, const Body& body) const {
        return step.kv_dtype == FLASHRING_KV_OF_STEP
                   ? body(cached<const Element>(step, tensor, pages, b, j, g), 1.0)
                   : body(cached<const float8>(step, tensor, pages, b, j, g),
                          static_cast<double>(scaleOfHead(scales, g)));
    }
    int64_t keyHead(int64_t h) const { return h / (step.q_heads / step.kv_heads); }

    struct Score {
        double value;   // in the type of lse: that of a single key is its lse
        double growth;  // dvalue / d(scaled product)
    };

    // The score of query i and key j, as flashring.h has it.
    Score score(int64_t b, int64_t i, int64_t h, int64_t j) const {
        const double product =
            withCached(step.k, step.k_pages, step.k_scales, b, j, keyHead(h), [&](const auto* key, double scale) {
                return step.softmax_scale * dot(row<const Element>(step.q, b, i, h), key, step.head_dim) * scale;
            });
        const double bounded = step.softcap != 0 ? std::tanh(product / step.softcap) : 0;
        double value = step.softcap != 0 ? step.softcap * bounded : product;
        if (step.alibi_slopes) {
            const double distance = std::fabs(static_cast<double>(problem.qPositions[i] - problem.kvPositions[j]));
            value -= static_cast<double>(static_cast<const Acc*>(step.alibi_slopes)[h]) * distance;
        }
        return {static_cast<double>(static_cast<Acc>(value)), 1 - bounded * bounded};
    }

    // O = sum_j exp(s_j - lse) v_j with lse = log(sum_j exp(s_j)); the state takes part as one more key of score `lse`
    // and value `acc`.
    void forwardRow(int64_t b, int64_t i, int64_t h) const {
        const bool resume = step.flags & FLASHRING_RESUME;
        Acc* const state = step.acc.data ? row<Acc>(step.acc, b, i, h) : nullptr;
        Acc* const lse = row<Acc>(step.lse, b, i, h);
        double maximum = static_cast<double>(resume ? *lse : sinkOf<Acc>(step, h));
        const double earlier = maximum;
        for (int64_t j = lo(b, i); j < hi(b, i); ++j) {
            maximum = std::fmax(maximum, score(b, i, h, j).value);
        }
        const double shift = maximum == -INFINITY ? 0 : maximum;
        double output[kMaxHeadDim] = {};
        double sum = earlier == -INFINITY ? 0 : std::exp(earlier - shift);
        if (resume && earlier != -INFINITY) {
            sum *= static_cast<double>(earlierSum<Acc>(step, b, i, h));
            for (int64_t d = 0; d < step.value_dim; ++d) {
                output[d] = sum * static_cast<double>(state[d]);
            }
        }
        for (int64_t j = lo(b, i); j < hi(b, i); ++j) {
            const double weight = std::exp(score(b, i, h, j).value - shift);
            sum += weight;
            withCached(step.v, step.v_pages, step.v_scales, b, j, keyHead(h), [&](const auto* v, double scale) {
                for (int64_t d = 0; d < step.value_dim; ++d) {
                    output[d] += weight * static_cast<double>(widen(v[d])) * scale;
                }
            });
        }
        storeLse<Acc>(step, b, i, h, shift, sum);
        for (int64_t d = 0; d < step.value_dim; ++d) {
            const Acc result = static_cast<Acc>(sum == 0 ? 0 : output[d] / sum);
            if (state) {
                state[d] = result;
            }
            if (step.flags & FLASHRING_FINISH) {
                row<Element>(step.out, b, i, h)[d] = Narrow<Element>::from(result);
            }
        }
    }

    struct Pair {
        double p, ds;  // softmax probability, and scale * dL/d(scaled product)
    };

    Pair pair(int64_t b, int64_t i, int64_t h, int64_t j) const {
        const double lse = static_cast<double>(*row<const Acc>(step.lse, b, i, h));
        if (lse == -INFINITY) {
            return {0, 0};
        }
        const Score s = score(b, i, h, j);
        const double x = s.value - lse;
        const double p = std::exp(x > 0 ? 0 : x);  // NaN stays NaN
        const double dp =
            dot(row<const Element>(step.dout, b, i, h), row<const Element>(step.v, b, j, keyHead(h)), step.value_dim);
        const double ds = p * (dp - static_cast<double>(*row<const Acc>(step.delta, b, i, h)));
        return {p, step.softmax_scale * s.growth * ds};
    }

    static void write(Acc* target, const double* values, int64_t count, bool add) {
        for (int64_t d = 0; d < count; ++d) {
            target[d] = static_cast<Acc>(add ? static_cast<double>(target[d]) + values[d] : values[d]);
        }
    }

    // dq_i = sum_j ds_ij k_j
    void queryGradient(int64_t b, int64_t i, int64_t h) const {
        double dq[kMaxHeadDim] = {};
        for (int64_t j = problem.lo[i]; j < problem.hi[i]; ++j) {
            const double ds = pair(b, i, h, j).ds;
            const Element* const key = row<const Element>(step.k, b, j, keyHead(h));
            for (int64_t d = 0; d < step.head_dim; ++d) {
                dq[d] += ds * static_cast<double>(widen(key[d]));
            }
        }
        write(row<Acc>(step.dq, b, i, h), dq, step.head_dim, step.flags & FLASHRING_ADD_DQ);
    }

    // dv_j = sum_i p_ij do_i and dk_j = sum_i ds_ij q_i, over the queries of every head that shares the key head
    void keyGradient(int64_t b, int64_t j, int64_t g) const {
        double dk[kMaxHeadDim] = {}, dv[kMaxHeadDim] = {};
        const int64_t group = step.q_heads / step.kv_heads;
        for (int64_t h = g * group; h < (g + 1) * group; ++h) {
            for (int64_t i = 0; i < step.q_len; ++i) {
                if (j < problem.lo[i] || j >= problem.hi[i]) {
                    continue;
                }
                const Pair weight = pair(b, i, h, j);
                const Element* const query = row<const Element>(step.q, b, i, h);
                const Element* const dout = row<const Element>(step.dout, b, i, h);
                for (int64_t d = 0; d < step.head_dim; ++d) {
                    dk[d] += weight.ds * static_cast<double>(widen(query[d]));
                }
                for (int64_t d = 0; d < step.value_dim; ++d) {
                    dv[d] += weight.p * static_cast<double>(widen(dout[d]));
                }
            }
        }
        write(row<Acc>(step.dk, b, j, g), dk, step.head_dim, step.flags & FLASHRING_ADD_DKV);
        write(row<Acc>(step.dv, b, j, g), dv, step.value_dim, step.flags & FLASHRING_ADD_DKV);
    }
};

// Calls body(b, s, h) for every row of [batch, length, heads] on all cores.
template <class Body>
void forEachRow(int64_t batch, int64_t length, int64_t heads, const Body& body) {
    parallelFor(batch * length * heads, [&](int64_t index, char*) {
        body(index / heads / length, index / heads % length, index % heads);
    });
}

void forward(const Problem& problem) {
    const flashring_step& step = problem.step;
    withElement(step.dtype, [&](auto element) {
        const Reference<decltype(element)> reference{problem};
        forEachRow(step.batch, step.q_len, step.q_heads,
                   [&](int64_t b, int64_t i, int64_t h) { reference.forwardRow(b, i, h); });
    });
}

void backward(const Problem& problem) {
    const flashring_step& step = problem.step;
    withElement(step.dtype, [&](auto element) {
        const Reference<decltype(element)> reference{problem};
        forEachRow(step.batch, step.q_len, step.q_heads,
                   [&](int64_t b, int64_t i, int64_t h) { reference.queryGradient(b, i, h); });
        forEachRow(step.batch, step.kv_len, step.kv_heads,
                   [&](int64_t b, int64_t j, int64_t g) { reference.keyGradient(b, j, g); });
    });
}

bool available() { return true; }

}  // namespace

const Kernel kReference = Kernel{FLASHRING_KERNEL_REFERENCE,
                                 "reference",
                                 "nothing",
                                 available,
                                 forward,
                                 backward,
                                 nullptr,
                                 false,
                                 nullptr,
                                 nullptr,
                                 true}
                              .serving(kAllScores)
                              .forAnyDims();

}  // namespace flashring
