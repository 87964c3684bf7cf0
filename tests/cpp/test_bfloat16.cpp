// The kernels that multiply in bfloat16, AMX and AVX512_BF16, against float64: errors at most 2 (results) or 3
// (gradients) times those of the plain formula in bfloat16, over random shapes, masks, positions, strides and blocks of
// keys; the same bits for any number of threads; NaN stays put.
#include "attention_case.h"

namespace {

constexpr int32_t kDtype = FLASHRING_BFLOAT16;
int32_t kernel;  // under test

double narrow(double value) {
    char bits[2];
    encode(kDtype, bits, value);
    return decode(kDtype, bits);
}

// A dense copy: [batch][heads][seq][dim].
struct Dense {
    int64_t heads, seq, dim;
    std::vector<double> values;

    explicit Dense(const Buffer& x)
        : heads(x.heads()), seq(x.seq()), dim(x.dim()), values(static_cast<size_t>(x.batch() * heads * seq * dim)) {
        x.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) { row(b, h, s)[d] = x.get(b, s, h, d); });
    }

    double* row(int64_t b, int64_t h, int64_t s) { return values.data() + ((b * heads + h) * seq + s) * dim; }
};

double dot(const double* a, const double* b, int64_t count) {
    double sum = 0;
    for (int64_t d = 0; d < count; ++d) sum += a[d] * b[d];
    return sum;
}

void add(double* target, double factor, const double* x, int64_t count) {
    for (int64_t d = 0; d < count; ++d) target[d] += factor * x[d];
}

// The formulas a matrix at a time, every matrix rounded to bfloat16.
Results plain(const Case& c) {
    Results r(c);
    const Shape& s = c.shape;
    Dense q(c.q), k(c.k), v(c.v), dout(c.dout), out(r.out), dq(r.dq), dk(r.dk), dv(r.dv);
    for (Dense* x : {&out, &dq, &dk, &dv}) x->values.assign(x->values.size(), 0);
    const std::vector<int64_t> qPositions = positionsOf(c.qRanges), kPositions = positionsOf(c.kvRanges);
    std::vector<double> score(static_cast<size_t>(s.kvLen));
    for (int64_t b = 0; b < s.batch; ++b) {
        for (int64_t h = 0; h < s.qHeads; ++h) {
            const int64_t g = h / (s.qHeads / s.kvHeads);
            for (int64_t i = 0; i < s.qLen; ++i) {
                double maximum = -INFINITY, sum = 0, delta = 0;
                for (size_t j = 0; j < score.size(); ++j) {
                    const bool visible = sees(c.mask, qPositions[static_cast<size_t>(i)], kPositions[j]);
                    const double product = narrow(dot(q.row(b, h, i), k.row(b, g, static_cast<int64_t>(j)), s.headDim));
                    score[j] = visible ? narrow(c.scale * product) : -INFINITY;
                    maximum = std::max(maximum, score[j]);
                }
                for (double x : score) sum += maximum == -INFINITY ? 0 : std::exp(x - maximum);
                r.lse.set(b, i, h, 0, sum == 0 ? -INFINITY : maximum + std::log(sum));
                for (size_t j = 0; j < score.size(); ++j) {
                    if (sum == 0) continue;
                    const double p = narrow(std::exp(score[j] - maximum) / sum);
                    add(out.row(b, h, i), p, v.row(b, g, static_cast<int64_t>(j)), s.valueDim);
                }
                for (int64_t d = 0; d < s.valueDim; ++d) delta += narrow(out.row(b, h, i)[d]) * dout.row(b, h, i)[d];
                for (size_t j = 0; j < score.size(); ++j) {
                    if (score[j] == -INFINITY) continue;
                    const int64_t key = static_cast<int64_t>(j);
                    const double p = narrow(std::exp(score[j] - maximum) / sum);
                    const double dp = narrow(dot(dout.row(b, h, i), v.row(b, g, key), s.valueDim));
                    const double ds = narrow(p * (dp - delta));
                    add(dq.row(b, h, i), c.scale * ds, k.row(b, g, key), s.headDim);
                    add(dk.row(b, g, key), c.scale * ds, q.row(b, h, i), s.headDim);
                    add(dv.row(b, g, key), p, dout.row(b, h, i), s.valueDim);
                }
            }
        }
    }
    const auto store = [](Buffer& target, Dense& x) {
        target.forEach(
            [&](int64_t b, int64_t i, int64_t h, int64_t d) { target.set(b, i, h, d, narrow(x.row(b, h, i)[d])); });
    };
    store(r.out, out);
    store(r.dq, dq);
    store(r.dk, dk);
    store(r.dv, dv);
    return r;
}

Case inFloat64(const Case& c) {
    Case wide = c;
    wide.dtype = FLASHRING_FLOAT64;
    const auto widen = [&](const Buffer& x) {
        Buffer y(FLASHRING_FLOAT64, x.batch(), x.seq(), x.heads(), x.dim(), c.order);
        x.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) { y.set(b, s, h, d, x.get(b, s, h, d)); });
        return y;
    };
    wide.q = widen(c.q);
    wide.k = widen(c.k);
    wide.v = widen(c.v);
    wide.dout = widen(c.dout);
    return wide;
}

struct Tensor {
    const char* name;
    Buffer Results::*member;
    double factor;  // of the error of the plain formula
};
const Tensor kTensors[] = {{"out", &Results::out, 2},
                           {"lse", &Results::lse, 2},
                           {"dq", &Results::dq, 3},
                           {"dk", &Results::dk, 3},
                           {"dv", &Results::dv, 3}};

void checkAccuracy(Case& c, const std::vector<int64_t>& splits) {
    Case wide = inFloat64(c);
    Results expected(wide), actual(c);
    run(wide, expected, FLASHRING_KERNEL_REFERENCE);
    run(c, actual, kernel, splits);
    const Results rough = plain(c);
    for (const Tensor& tensor : kTensors) {
        const Difference mine = difference(actual.*tensor.member, expected.*tensor.member);
        const double bar = tensor.factor * difference(rough.*tensor.member, expected.*tensor.member).largest + 1e-5;
        CHECK(mine.largest <= bar, "%s: %s differs by %g > %g at (%lld, %lld, %lld, %lld)", c.describe().c_str(),
              tensor.name, mine.largest, bar, static_cast<long long>(mine.b), static_cast<long long>(mine.s),
              static_cast<long long>(mine.h), static_cast<long long>(mine.d));
    }
    CHECK(actual.intact(), "%s: wrote outside a tensor", c.describe().c_str());
}

Case drawLong(std::mt19937_64& random, int64_t heads, int64_t kvHeads, int64_t length, int64_t dim) {
    Case c;
    c.dtype = kDtype;
    c.shape = {1, length, length, heads, kvHeads, dim, dim};
    c.scale = 1 / std::sqrt(static_cast<double>(dim));
    c.qRanges = c.kvRanges = {{0, length, 1}};
    c.mask.right = 0;
    c.draw(random);
    return c;
}

void checkDeterminism(std::mt19937_64& random) {
    const int32_t threads = flashring_threads();
    for (const int64_t kvHeads : {1, 2}) {
        Case c = drawLong(random, 2, kvHeads, 701, 64);
        Results first(c);
        flashring_set_threads(1);
        run(c, first, kernel);
        for (int32_t count = 2; count <= 8; ++count) {
            Results again(c);
            flashring_set_threads(count);
            run(c, again, kernel);
            for (const Tensor& tensor : kTensors) {
                CHECK((again.*tensor.member).sameBits(first.*tensor.member), "%s changes with %d threads", tensor.name,
                      count);
            }
        }
    }
    flashring_set_threads(threads);
}

bool finite(const Buffer& x, int64_t s) {
    bool result = true;
    for (int64_t d = 0; d < x.dim(); ++d) result = result && std::isfinite(x.get(0, s, 0, d));
    return result;
}

// One NaN row in each operand of a causal step: NaN exactly where the float64 formulas have it.
void checkNan(std::mt19937_64& random) {
    constexpr int64_t length = 150, bad = 70;
    for (Buffer Case::*operand : {&Case::q, &Case::k, &Case::v, &Case::dout}) {
        Case c = drawLong(random, 1, 1, length, 40);
        for (int64_t d = 0; d < 40; ++d) (c.*operand).set(0, bad, 0, d, NAN);
        Case wide = inFloat64(c);
        Results expected(wide), actual(c);
        run(wide, expected, FLASHRING_KERNEL_REFERENCE);
        run(c, actual, kernel);
        for (const Tensor& tensor : kTensors) {
            for (int64_t s = 0; s < length; ++s) {
                const bool should = finite(expected.*tensor.member, s), is = finite(actual.*tensor.member, s);
                CHECK(should == is, "NaN in row %lld of operand %ld: row %lld of %s is %s", static_cast<long long>(bad),
                      static_cast<long>(&(c.*operand) - &c.q), static_cast<long long>(s), tensor.name,
                      is ? "finite" : "NaN");
            }
        }
    }
}

// Scores of +-10^4, all equal scores, rising maxima.
void checkExtremes(std::mt19937_64& random) {
    for (int kind = 0; kind < 3; ++kind) {
        Case c = drawLong(random, 1, 1, 300, 64);
        for (int64_t j = 0; j < 300; ++j) {
            for (int64_t d = 0; d < 64; ++d) {
                const double rising = kind == 0 ? (j % 2 ? 35 : -35) : kind == 1 ? 1 : 0.05 * static_cast<double>(j);
                c.k.set(0, j, 0, d, rising);
                c.q.set(0, j, 0, d, kind == 0 ? 35 : 1);
            }
        }
        checkAccuracy(c, {});
    }
}

// Queries that see one key each: their weight is exactly 1 in both directions, however large the score.
void checkSingleKeys(std::mt19937_64& random) {
    for (const double m : {0.0, 3.0, 1000.0, -1000.0, 32768.0}) {
        Case c = drawLong(random, 2, 2, 70, 64);
        c.mask.left = 0;
        c.scale = 0.13;  // no power of two: scores round
        c.q.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            c.q.set(b, s, h, d, m * (1 + static_cast<double>((s + d) % 16) / 64));
            c.k.set(b, s, h, d, std::fabs(m));
        });
        Results r(c);
        run(c, r, kernel);
        c.v.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            const double out = r.out.get(b, s, h, d), v = c.v.get(b, s, h, d);
            const double dv = r.dv.get(b, s, h, d), dout = c.dout.get(b, s, h, d);
            CHECK(out == v, "single key of %g: out %g is not v %g", m, out, v);
            CHECK(dv == dout, "single key of %g: dv %g is not dout %g", m, dv, dout);
        });
    }
}

// Denormal operands count as 0.
void checkDenormals(std::mt19937_64& random) {
    Case c = drawLong(random, 2, 1, 100, 24);
    c.v.fill(1e-40);
    c.dout.fill(-1e-40);
    Results r(c);
    run(c, r, kernel);
    for (Buffer Results::*member : {&Results::out, &Results::acc, &Results::dq, &Results::dk, &Results::dv}) {
        (r.*member).forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            CHECK((r.*member).get(b, s, h, d) == 0, "%g from denormals", (r.*member).get(b, s, h, d));
        });
    }
}

// Backward with both ADD flags over its own results doubles them; forward to `out` alone gives the bits it gives with
// `acc`.
void checkFlags(std::mt19937_64& random) {
    Case c = drawLong(random, 4, 2, 203, 80);
    Results once(c), again(c);
    run(c, once, kernel);
    again = once;
    Step step(c, again, kernel, 0, c.shape.kvLen);
    CHECK(step.backward(FLASHRING_ADD_DQ | FLASHRING_ADD_DKV) == FLASHRING_OK, "backward: %s", flashring_last_error());
    for (Buffer Results::*member : {&Results::dq, &Results::dk, &Results::dv}) {
        (once.*member).forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            const double single = (once.*member).get(b, s, h, d), sum = (again.*member).get(b, s, h, d);
            // Tasks of the AVX512_BF16 kernel add their shares of dq one by one.
            const double bar = kernel == FLASHRING_KERNEL_AMX ? 0 : 1e-6 * std::max(1.0, std::fabs(sum));
            CHECK(std::fabs(sum - 2 * single) <= bar, "added gradient %g is not twice %g", sum, single);
        });
    }
    again.out.fill(NAN);
    step.raw.acc.data = nullptr;
    CHECK(step.forward(FLASHRING_FINISH) == FLASHRING_OK, "forward: %s", flashring_last_error());
    CHECK(again.out.sameBits(once.out), "out changes without acc");
}

}  // namespace

int main() {
    long cases = 0;
    for (const flashring_capability& row : availableRows()) {
        if (row.kernel != FLASHRING_KERNEL_AMX && row.kernel != FLASHRING_KERNEL_AVX512BF16) {
            continue;
        }
        kernel = row.kernel;
        std::mt19937_64 random(7);
        for (long n = 0; n < 160 / kThinning; ++n, ++cases) {
            Case c = drawCase(random, kDtype, n % 8 ? 90 : 400);
            std::vector<int64_t> splits;
            if (n % 2) splits = {c.shape.kvLen / 3, c.shape.kvLen / 3, c.shape.kvLen / 2};
            checkAccuracy(c, splits);
        }
        checkExtremes(random);
        checkDeterminism(random);
        checkNan(random);
        checkSingleKeys(random);
        checkDenormals(random);
        checkFlags(random);
    }
    if (cases == 0) {
        std::printf("bfloat16: skipped, this machine has neither AMX nor AVX512_BF16\n");
        return 77;
    }
    return finish("bfloat16", cases);
}
