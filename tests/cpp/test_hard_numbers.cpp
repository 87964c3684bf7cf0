// Hard but legal numbers, for every kernel and dtype of this machine, whole and resumed: errors against long double at
// most 3 times the larger of the reference kernel's and a plain formula's that keeps its probabilities, as frameworks
// do; probabilities within [0, 1]; single keys exact.
#include <functional>

#include "attention_case.h"

namespace {

using Exact = long double;
using Grid = std::vector<Exact>;  // [rows][columns]

constexpr int64_t kLength = 96;

Grid gridOf(const Buffer& buffer) {
    Grid grid;
    buffer.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
        grid.push_back(static_cast<Exact>(buffer.get(b, s, h, d)));
    });
    return grid;
}

Exact largest(const Grid& grid) {
    Exact most = 0;
    for (const Exact x : grid) most = std::max(most, std::fabs(x));
    return most;
}

// A value in `T`, then rounded to the dtype where one is given.
template <class T>
Exact rounded(Exact value, int32_t dtype) {
    if (dtype < 0) return static_cast<Exact>(static_cast<T>(value));
    char bytes[8];
    encode(dtype, bytes, static_cast<double>(static_cast<T>(value)));
    return static_cast<Exact>(decode(dtype, bytes));
}

struct Gradients {
    Grid out, lse, dq, dk, dv;
};

// One head. Sums run in T; P and dS are rounded to `matrices`, and out to `output`, where they are not negative.
template <class T>
Gradients formula(const Case& c, int32_t matrices, int32_t output) {
    const auto n = static_cast<size_t>(c.shape.qLen), dim = static_cast<size_t>(c.shape.headDim),
               width = static_cast<size_t>(c.shape.valueDim);
    using Matrix = std::vector<T>;
    const auto matrix = [](const Buffer& buffer) {
        const Grid grid = gridOf(buffer);
        return Matrix(grid.begin(), grid.end());
    };
    const Matrix q = matrix(c.q), k = matrix(c.k), v = matrix(c.v), dout = matrix(c.dout);
    const T scale = static_cast<T>(c.scale);
    const auto dot = [](const Matrix& a, size_t i, const Matrix& b, size_t j, size_t depth) {
        T sum = 0;
        for (size_t d = 0; d < depth; ++d) sum += a[i * depth + d] * b[j * depth + d];
        return sum;
    };
    const auto add = [](Matrix& to, size_t i, T factor, const Matrix& from, size_t j, size_t depth) {
        for (size_t d = 0; d < depth; ++d) to[i * depth + d] += factor * from[j * depth + d];
    };
    Matrix out(n * width), lse(n), dq(n * dim), dk(n * dim), dv(n * width), p(n);
    for (size_t i = 0; i < n; ++i) {
        T top = -static_cast<T>(INFINITY), sum = 0, delta = 0;
        for (size_t j = 0; j < n; ++j) {
            const bool visible = sees(c.mask, static_cast<int64_t>(i), static_cast<int64_t>(j));
            p[j] = visible ? dot(q, i, k, j, dim) * scale : -static_cast<T>(INFINITY);
            top = std::max(top, p[j]);
        }
        for (T& x : p) sum += x = std::exp(x - top);
        lse[i] = top + std::log(sum);
        for (size_t j = 0; j < n; ++j) {
            p[j] = static_cast<T>(rounded<T>(p[j] / sum, matrices));
            add(out, i, p[j], v, j, width);
        }
        for (size_t d = 0; d < width; ++d) {
            T& o = out[i * width + d];
            o = static_cast<T>(rounded<T>(o, output));
            delta += o * dout[i * width + d];
        }
        for (size_t j = 0; j < n; ++j) {
            if (p[j] == 0) continue;
            const T ds = static_cast<T>(rounded<T>(p[j] * (dot(dout, i, v, j, width) - delta), matrices));
            add(dq, i, ds * scale, k, j, dim);
            add(dk, j, ds * scale, q, i, dim);
            add(dv, j, p[j], dout, i, width);
        }
    }
    const auto exact = [](const Matrix& a) { return Grid(a.begin(), a.end()); };
    return {exact(out), exact(lse), exact(dq), exact(dk), exact(dv)};
}

Gradients plain(const Case& c, bool narrow) {
    const int32_t matrices = narrow ? c.dtype : -1;
    return c.dtype == FLASHRING_FLOAT64 ? formula<double>(c, matrices, c.dtype) : formula<float>(c, matrices, c.dtype);
}

Gradients gradientsOf(const Results& r) {
    return {gridOf(r.out), gridOf(r.lse), gridOf(r.dq), gridOf(r.dk), gridOf(r.dv)};
}

// Operands of a kind of trouble, over standard normal ones.
struct Kind {
    const char* name;
    std::function<void(Case&)> spoil;
};

template <class Value>  // value(s, d, old)
void change(Buffer& buffer, const Value& value) {
    buffer.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
        buffer.set(b, s, h, d, value(s, d, buffer.get(b, s, h, d)));
    });
}

void multiply(Buffer& buffer, double factor) {
    change(buffer, [=](int64_t, int64_t, double old) { return factor * old; });
}

// All scores share this offset.
void offset(Case& c, double size) {
    for (Buffer* x : {&c.q, &c.k})
        change(*x, [&](int64_t, int64_t d, double old) { return d ? old : std::sqrt(size / c.scale); });
}

std::vector<Kind> kinds() {
    return {
        {"offset 100", [](Case& c) { offset(c, 100); }},
        {"offset 1000", [](Case& c) { offset(c, 1000); }},
        {"offset 10000", [](Case& c) { offset(c, 10000); }},
        {"equal keys", [](Case& c) { change(c.k, [](int64_t, int64_t d, double) { return d % 3 - 1.25; }); }},
        {"one-hot rows",
         [](Case& c) {
             for (Buffer* x : {&c.q, &c.k})
                 change(*x, [](int64_t s, int64_t d, double) { return d == s % 16 ? 30 : 0; });
         }},
        {"rising rows",
         [](Case& c) {
             offset(c, 1);
             change(c.k, [](int64_t s, int64_t d, double old) { return d ? old : 0.75 * static_cast<double>(s); });
         }},
        {"peaked rows", [](Case& c) { multiply(c.q, 12); }},
        {"denormal scores",
         [](Case& c) {
             multiply(c.q, c.dtype == FLASHRING_FLOAT64 ? 1e-310 : c.dtype == FLASHRING_FLOAT16 ? 1e-6 : 1e-40);
         }},
        {"denormal values",
         [](Case& c) {
             multiply(c.v, c.dtype == FLASHRING_FLOAT64 ? 1e-308 : c.dtype == FLASHRING_FLOAT16 ? 1e-4 : 1e-37);
         }},
        {"tiny scale",
         [](Case& c) {
             c.scale = c.dtype == FLASHRING_FLOAT16 ? 1e-9 : 1e-30;
             multiply(c.q, c.dtype == FLASHRING_FLOAT16 ? 1e3 : 1e15);
             multiply(c.k, c.dtype == FLASHRING_FLOAT16 ? 1e4 : 1e15);
         }},
        {"huge scale",
         [](Case& c) {
             c.scale = c.dtype == FLASHRING_FLOAT16 ? 1e6 : 1e30;
             multiply(c.q, c.dtype == FLASHRING_FLOAT16 ? 1e-3 : 1e-15);
             multiply(c.k, c.dtype == FLASHRING_FLOAT16 ? 1e-3 : 1e-16);
         }},
        {"near overflow",
         [](Case& c) {
             c.scale = 1;
             const double top = c.dtype == FLASHRING_FLOAT64 ? 1e153 : c.dtype == FLASHRING_FLOAT16 ? 6e3 : 1e18;
             multiply(c.q, top);
             multiply(c.k, top);
         }},
    };
}

Case draw(int32_t dtype, int64_t dim, int64_t valueDim) {
    std::mt19937_64 random(static_cast<uint64_t>(dim));
    Case c;
    c.dtype = dtype;
    c.shape = {1, kLength, kLength, 1, 1, dim, valueDim};
    c.qRanges = c.kvRanges = {{0, kLength, 1}};
    c.mask.right = 0;
    c.scale = 1 / std::sqrt(static_cast<double>(dim));
    c.draw(random);
    return c;
}

std::vector<int64_t> splitsOf(int64_t steps) {
    std::vector<int64_t> splits;
    for (int64_t i = 1; i < steps; ++i) splits.push_back(i * kLength / steps);
    return splits;
}

double distance(const Grid& a, const Grid& exact) {
    Exact most = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        if (!std::isfinite(a[i])) return INFINITY;
        most = std::max(most, std::fabs(a[i] - exact[i]));
    }
    return static_cast<double>(most);
}

double relative(const Grid& a, const Grid& exact) {
    Exact error = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        error += (a[i] - exact[i]) * (a[i] - exact[i]);
        norm += exact[i] * exact[i];
    }
    return static_cast<double>(std::sqrt(error / norm));
}

double epsilon(int32_t dtype) { return dtype == FLASHRING_FLOAT64 ? 0x1p-52 : 0x1p-23; }

// Length of the longest row.
double norm(const Grid& grid, int64_t columns) {
    Exact most = 0, sum = 0;
    for (size_t i = 0; i < grid.size(); ++i) {
        sum = (i % static_cast<size_t>(columns) ? sum : 0) + grid[i] * grid[i];
        most = std::max(most, sum);
    }
    return static_cast<double>(std::sqrt(most));
}

// What each result is made of: its size where it is itself 0.
struct Sizes {
    double out, dq, dk, dv;

    explicit Sizes(const Case& c) {
        out = norm(gridOf(c.v), c.shape.valueDim);
        dv = norm(gridOf(c.dout), c.shape.valueDim);
        dq = out * dv * c.scale * norm(gridOf(c.k), c.shape.headDim);
        dk = out * dv * c.scale * norm(gridOf(c.q), c.shape.headDim);
    }
};

// Its products take P and dS in bfloat16, too.
bool multipliesBfloat16(const flashring_capability& row) {
    return row.kernel == FLASHRING_KERNEL_AMX || row.kernel == FLASHRING_KERNEL_AVX512BF16;
}

// What the errors of a kernel are measured by.
struct Bar {
    const Gradients &exact, &formula, &reference;
    const Sizes& sizes;
};

void compare(const flashring_capability& row, const Kind& kind, Case& c, int64_t steps, const Bar& bar) {
    Results actual(c);
    run(c, actual, row.kernel, splitsOf(steps));
    const Gradients ours = gradientsOf(actual);
    const auto check = [&](const char* name, Grid Gradients::*member, double size) {
        const Grid& exact = bar.exact.*member;
        const double error = distance(ours.*member, exact), top = static_cast<double>(largest(exact));
        const double other = std::max(distance(bar.reference.*member, exact), distance(bar.formula.*member, exact));
        // Where denormals round, or, in products of bfloat16, are taken for 0. And each step rounds the state anew.
        const double smallest = c.dtype == FLASHRING_FLOAT64 ? 0x1p-1074
                                : multipliesBfloat16(row)    ? kLength * 0x1p-126
                                                             : 0x1p-147;
        const double floor =
            2 * epsilon(c.dtype) * static_cast<double>(steps) * (top > 1e-9 * size ? top : size) + smallest;
        CHECK(error <= std::max(3 * other, floor),
              "%s %s D%lld %s in %lld steps: %s is off by %g, reference and plain formula by %g", row.name,
              nameOf(c.dtype), static_cast<long long>(c.shape.headDim), kind.name, static_cast<long long>(steps), name,
              error, other);
    };
    check("out", &Gradients::out, bar.sizes.out);
    check("lse", &Gradients::lse, 1);
    check("dq", &Gradients::dq, bar.sizes.dq);
    check("dk", &Gradients::dk, bar.sizes.dk);
    check("dv", &Gradients::dv, bar.sizes.dv);
    if (c.dtype == FLASHRING_FLOAT32 && std::string(kind.name) == "offset 10000") {
        const double dq = relative(ours.dq, bar.exact.dq);
        std::printf(
            "%-9s D%-4lld %lld steps: dq at offset 10,000 is off by %.2g, reference kernel %.2g, plain formula %.2g\n",
            row.name, static_cast<long long>(c.shape.headDim), static_cast<long long>(steps), dq,
            relative(bar.reference.dq, bar.exact.dq), relative(bar.formula.dq, bar.exact.dq));
        CHECK(dq <= 4e-3, "%s: dq at offset 10,000 is off by %g", row.name, dq);
    }
}

// v and dout are unit matrices, so out is forward's P and dv backward's, transposed: within [0, 1], and rows sum to 1.
void probabilities(const flashring_capability& row, const Kind& kind, int64_t dim, int64_t steps) {
    Case c = draw(row.dtype, dim, kLength);
    kind.spoil(c);
    for (Buffer* x : {&c.v, &c.dout}) change(*x, [](int64_t s, int64_t d, double) { return s == d ? 1 : 0; });
    Results r(c);
    run(c, r, row.kernel, splitsOf(steps));
    const std::string context = std::string(row.name) + " " + nameOf(row.dtype) + " " + kind.name;
    for (const Buffer* p : {&r.out, &r.dv}) {
        p->forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            const double value = p->get(b, s, h, d);
            CHECK(value >= 0 && value <= 1, "%s: %s has a probability of %g", context.c_str(),
                  p == &r.out ? "forward" : "backward", value);
        });
    }
    c.v.fill(1);
    run(c, r, row.kernel, splitsOf(steps));
    r.acc.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
        const double sum = r.acc.get(b, s, h, d), slack = multipliesBfloat16(row) ? 0x1p-7 : 8 * epsilon(row.dtype);
        CHECK(std::fabs(sum - 1) <= slack, "%s: the probabilities of query %lld sum to %.17g", context.c_str(),
              static_cast<long long>(s), sum);
    });
}

// A query that sees one key: out is its value and dv the gradient, to 2 units in the last place, whatever the score.
long singleKeys(const flashring_capability& row) {
    long cases = 0;
    for (const double score : {1.0, 1e3, 1e4, 3e4, 1e6, 1e9, -1e3, -3e4, -1e9}) {
        for (const int64_t dim : {40, 64, 128}) {
            Case c = draw(row.dtype, dim, dim);
            c.mask.left = 0;
            const double element = std::sqrt(std::fabs(score) / c.scale / static_cast<double>(dim));
            change(c.q, [&](int64_t s, int64_t d, double) {
                return element * (1 + 0.01 * static_cast<double>((s + d) % 7));
            });
            change(c.k, [&](int64_t s, int64_t d, double) {
                return (score < 0 ? -element : element) * (1 + 0.01 * static_cast<double>((s * d) % 5));
            });
            Results r(c);
            run(c, r, row.kernel, cases % 2 ? splitsOf(4) : splitsOf(1));
            const double unit = c.dtype == FLASHRING_FLOAT16    ? 0x1p-10
                                : c.dtype == FLASHRING_BFLOAT16 ? 0x1p-7
                                                                : epsilon(c.dtype);
            const auto check = [&](const char* name, const Buffer& a, const Buffer& b) {
                a.forEach([&](int64_t i, int64_t s, int64_t h, int64_t d) {
                    const double x = a.get(i, s, h, d), y = b.get(i, s, h, d);
                    CHECK(std::fabs(x - y) <= 2 * unit * std::fabs(y),
                          "%s %s D%lld single key of score %g: %s is %.9g for %.9g", row.name, nameOf(row.dtype),
                          static_cast<long long>(dim), score, name, x, y);
                });
            };
            check("out", r.out, c.v);
            check("dv", r.dv, c.dout);
            ++cases;
        }
    }
    return cases;
}

}  // namespace

int main() {
    const std::vector<flashring_capability> rows = availableRows();
    const std::vector<int64_t> dims = kThinning > 1 ? std::vector<int64_t>{40} : std::vector<int64_t>{40, 64, 128};
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_FLOAT64, FLASHRING_FLOAT32, FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) {
        for (const int64_t dim : dims) {
            for (const Kind& kind : kinds()) {
                Case c = draw(dtype, dim, dim);
                kind.spoil(c);
                const Gradients exact = formula<Exact>(c, -1, -1), wide = plain(c, false), narrow = plain(c, true);
                const Sizes sizes(c);
                for (const int64_t steps : {1, 2, 4, 7}) {
                    Results results(c);
                    run(c, results, FLASHRING_KERNEL_REFERENCE, splitsOf(steps));
                    const Gradients reference = gradientsOf(results);
                    for (const flashring_capability& row : rows) {
                        if (row.dtype != dtype || row.kernel == FLASHRING_KERNEL_REFERENCE) continue;
                        compare(row, kind, c, steps,
                                {exact, multipliesBfloat16(row) ? narrow : wide, reference, sizes});
                        ++cases;
                    }
                }
            }
        }
    }
    for (const flashring_capability& row : rows) {
        cases += singleKeys(row);
        for (const Kind& kind : kinds()) {
            probabilities(row, kind, 64, 1);
            probabilities(row, kind, 128, 4);
            cases += 2;
        }
    }
    return finish("hard numbers", cases);
}
