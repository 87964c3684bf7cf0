// Attention in float64, which knows the mask's definition only.
#ifndef FLASHRING_TESTS_ORACLE_H
#define FLASHRING_TESTS_ORACLE_H

#include "attention_case.h"

// The elements of a buffer in float64, for loops that read each many times.
class Values {
public:
    explicit Values(const Buffer& buffer) : seq_(buffer.seq()), heads_(buffer.heads()), dim_(buffer.dim()) {
        values_.reserve(static_cast<size_t>(buffer.batch() * seq_ * heads_ * dim_));
        buffer.forEach(
            [&](int64_t b, int64_t s, int64_t h, int64_t d) { values_.push_back(buffer.get(b, s, h, d)); });
    }

    const double* row(int64_t b, int64_t s, int64_t h) const {
        return values_.data() + ((b * seq_ + s) * heads_ + h) * dim_;
    }
    double* row(int64_t b, int64_t s, int64_t h) { return values_.data() + ((b * seq_ + s) * heads_ + h) * dim_; }

    void copyTo(Buffer& buffer) const {
        auto value = values_.begin();
        buffer.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) { buffer.set(b, s, h, d, *value++); });
    }

private:
    int64_t seq_, heads_, dim_;
    std::vector<double> values_;
};

// softmax(score(Q K^T)) V and its gradients in float64 from the decoded operands, all scores of a query in memory.
inline Results oracle(const Case& c) {
    Results r(c, FLASHRING_FLOAT64);
    const Shape& s = c.shape;
    const std::vector<int64_t> qPositions = positionsOf(c.qRanges), kPositions = positionsOf(c.kvRanges);
    for (Buffer* gradient : {&r.dq, &r.dk, &r.dv, &r.dsinks}) gradient->fill(0);
    const Values queries(c.q), keys(c.k), values(c.v), douts(c.dout);
    Values dqs(r.dq), dks(r.dk), dvs(r.dv);
    std::vector<double> score(static_cast<size_t>(s.kvLen)), weight(score.size()), growth(score.size(), 1);
    std::vector<double> out(static_cast<size_t>(s.valueDim));
    const auto dot = [](const double* x, const double* y, int64_t count) {
        double sum = 0;
        for (int64_t d = 0; d < count; ++d) sum += x[d] * y[d];
        return sum;
    };
    const auto add = [](double* sum, double factor, const double* x, int64_t count) {
        for (int64_t d = 0; d < count; ++d) sum[d] += factor * x[d];
    };
    for (int64_t b = 0; b < s.batch; ++b) {
        for (int64_t h = 0; h < s.qHeads; ++h) {
            const int64_t g = h / (s.qHeads / s.kvHeads);
            for (int64_t i = 0; i < s.qLen; ++i) {
                const double *query = queries.row(b, i, h), *dout = douts.row(b, i, h);
                const double sink = c.sinks.empty() ? -INFINITY : c.sinks[static_cast<size_t>(h)];
                double maximum = sink;
                for (int64_t j = 0; j < s.kvLen; ++j) {
                    const size_t n = static_cast<size_t>(j);
                    const int64_t q = qPositions[static_cast<size_t>(i)], k = kPositions[n];
                    score[n] = -INFINITY;
                    if (!sees(c.mask, q, k)) continue;
                    double value = c.scale * dot(query, keys.row(b, j, g), s.headDim);
                    if (c.softcap > 0) {
                        growth[n] = 1 / std::pow(std::cosh(value / c.softcap), 2);
                        value = c.softcap * std::tanh(value / c.softcap);
                    }
                    if (!c.slopes.empty()) {
                        value -= c.slopes[static_cast<size_t>(h)] * static_cast<double>(std::abs(q - k));
                    }
                    score[n] = value;
                    maximum = std::max(maximum, value);
                }
                double sum = sink == -INFINITY ? 0 : std::exp(sink - maximum);
                const double sinkWeight = sum;
                for (size_t j = 0; j < score.size(); ++j) {
                    weight[j] = score[j] == -INFINITY ? 0 : std::exp(score[j] - maximum);
                    sum += weight[j];
                }
                r.lse.set(b, i, h, 0, sum == 0 ? -INFINITY : maximum + std::log(sum));
                std::fill(out.begin(), out.end(), 0);
                for (int64_t j = 0; j < s.kvLen; ++j) {
                    double& p = weight[static_cast<size_t>(j)];
                    if (p == 0) continue;
                    p /= sum;
                    add(out.data(), p, values.row(b, j, g), s.valueDim);
                }
                for (int64_t d = 0; d < s.valueDim; ++d) {
                    r.out.set(b, i, h, d, out[static_cast<size_t>(d)]);
                    r.acc.set(b, i, h, d, out[static_cast<size_t>(d)]);
                }
                const double delta = dot(out.data(), dout, s.valueDim);
                r.delta.set(b, i, h, 0, delta);
                if (sinkWeight > 0) r.dsinks.set(0, 0, h, 0, r.dsinks.get(0, 0, h, 0) - sinkWeight / sum * delta);
                for (int64_t j = 0; j < s.kvLen; ++j) {
                    const double p = weight[static_cast<size_t>(j)];
                    if (p == 0) continue;
                    const double dp = dot(dout, values.row(b, j, g), s.valueDim);
                    const double ds = c.scale * growth[static_cast<size_t>(j)] * p * (dp - delta);
                    add(dvs.row(b, j, g), p, dout, s.valueDim);
                    add(dqs.row(b, i, h), ds, keys.row(b, j, g), s.headDim);
                    add(dks.row(b, j, g), ds, query, s.headDim);
                }
            }
        }
    }
    dqs.copyTo(r.dq);
    dks.copyTo(r.dk);
    dvs.copyTo(r.dv);
    return r;
}

#endif
