// Errors against float64 are at most 2 times (out) and 3 times (gradients) those of the plain formula, each of whose
// matrices is rounded to the dtype, as a framework without a fused kernel computes it.
#include "caps.h"
#include "oracle.h"

namespace {

double rounded(int32_t dtype, double value) {
    char bytes[8];
    encode(dtype, bytes, value);
    return decode(dtype, bytes);
}

using Grid = std::vector<double>;  // [rows][columns]

// a [n x depth] times b [m x depth] transposed, summed in float32 and rounded.
Grid times(int32_t dtype, const Grid& a, const Grid& b, size_t n, size_t m, size_t depth) {
    Grid c(n * m);
    for (size_t i = 0; i < n; ++i) {
        for (size_t j = 0; j < m; ++j) {
            float sum = 0;
            for (size_t k = 0; k < depth; ++k)
                sum += static_cast<float>(a[i * depth + k]) * static_cast<float>(b[j * depth + k]);
            c[i * m + j] = rounded(dtype, sum);
        }
    }
    return c;
}

Grid transposed(const Grid& a, size_t n, size_t m) {
    Grid t(a.size());
    for (size_t i = 0; i < n; ++i) {
        for (size_t j = 0; j < m; ++j) t[j * n + i] = a[i * m + j];
    }
    return t;
}

Grid matrixOf(const Buffer& buffer) {
    Grid grid;
    buffer.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) { grid.push_back(buffer.get(b, s, h, d)); });
    return grid;
}

struct Gradients {
    Grid out, dq, dk, dv;
};

// One head, causal.
Gradients plain(const Case& c) {
    const auto n = static_cast<size_t>(c.shape.qLen), dim = static_cast<size_t>(c.shape.headDim);
    const int32_t t = c.dtype;
    const Grid q = matrixOf(c.q), k = matrixOf(c.k), v = matrixOf(c.v), dout = matrixOf(c.dout);
    Grid p = times(t, q, k, n, n, dim);
    for (size_t i = 0; i < n; ++i) {
        float top = -INFINITY, sum = 0;
        for (size_t j = 0; j <= i; ++j) {
            p[i * n + j] = rounded(t, p[i * n + j] * c.scale);
            top = std::max(top, static_cast<float>(p[i * n + j]));
        }
        for (size_t j = 0; j <= i; ++j) sum += std::exp(static_cast<float>(p[i * n + j]) - top);
        for (size_t j = 0; j < n; ++j)
            p[i * n + j] = j > i ? 0 : rounded(t, std::exp(static_cast<float>(p[i * n + j]) - top) / sum);
    }
    Gradients g;
    g.out = times(t, p, transposed(v, n, dim), n, dim, n);
    Grid ds = times(t, dout, v, n, n, dim);
    for (size_t i = 0; i < n; ++i) {
        float delta = 0;
        for (size_t d = 0; d < dim; ++d)
            delta += static_cast<float>(g.out[i * dim + d]) * static_cast<float>(dout[i * dim + d]);
        for (size_t j = 0; j < n; ++j) ds[i * n + j] = rounded(t, c.scale * p[i * n + j] * (ds[i * n + j] - delta));
    }
    g.dq = times(t, ds, transposed(k, n, dim), n, dim, n);
    g.dk = times(t, transposed(ds, n, n), transposed(q, n, dim), n, dim, n);
    g.dv = times(t, transposed(p, n, n), transposed(dout, n, dim), n, dim, n);
    return g;
}

double worst(const Grid& a, const Grid& exact) {
    double largest = 0;
    for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(a[i] - exact[i]));
    return largest;
}

long check(int32_t dtype, int64_t dim) {
    const std::vector<flashring_capability> rows = availableRows();
    if (std::none_of(rows.begin(), rows.end(), [&](const flashring_capability& row) { return row.dtype == dtype; })) {
        return 0;
    }
    std::mt19937_64 random(static_cast<uint64_t>(dim));
    Case c;
    c.dtype = dtype;
    const int64_t length = kThinning > 1 ? 160 : 400;
    c.shape = {1, length, length, 1, 1, dim, dim};
    c.qRanges = c.kvRanges = {{0, length, 1}};
    c.mask.right = 0;
    c.scale = 1 / std::sqrt(static_cast<double>(dim));
    c.draw(random);
    const Results exact = oracle(c);
    const Gradients formula = plain(c);
    long cases = 0;
    for (const flashring_capability& row : rows) {
        if (row.dtype != dtype) {
            continue;
        }
        Results actual(c);
        run(c, actual, row.kernel);
        const auto compare = [&](const char* name, const Buffer& a, const Grid& b, const Buffer& truth, double factor) {
            const double ours = worst(matrixOf(a), matrixOf(truth)), theirs = worst(b, matrixOf(truth));
            std::printf("%-9s %-8s D%-3lld %-3s error %.3g, plain formula %.3g: %.2f times\n", row.name, nameOf(dtype),
                        static_cast<long long>(dim), name, ours, theirs, ours / theirs);
            CHECK(ours <= factor * theirs, "%s %s D%lld: %s error %g exceeds %g times the plain formula's %g", row.name,
                  nameOf(dtype), static_cast<long long>(dim), name, ours, factor, theirs);
            ++cases;
        };
        compare("out", actual.out, formula.out, exact.out, 2);
        compare("dq", actual.dq, formula.dq, exact.dq, 3);
        compare("dk", actual.dk, formula.dk, exact.dk, 3);
        compare("dv", actual.dv, formula.dv, exact.dv, 3);
    }
    return cases;
}

}  // namespace

int main() {
    sayWhatRuns();
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_FLOAT32, FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) {
        for (const int64_t dim : {64, 128}) {
            cases += check(dtype, dim);
        }
    }
    return finish("precision", cases);
}
