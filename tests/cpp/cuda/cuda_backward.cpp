// Backward steps on a GPU from a log-sum-exp that the host has computed in float64, so that nothing of forward is in
// what is checked: gradients that are added to what is there, log-sum-exps of all sizes, one key, scales of all sizes,
// key heads of many query heads, a softcap, and ALiBi. For what AUTO takes, deterministic and not, and for mma.
#include "cuda/device_case.h"
#include "oracle.h"

namespace {

struct Way {
    int32_t kernel;
    bool deterministic;
};

constexpr Way kWays[] = {{FLASHRING_KERNEL_AUTO, false}, {FLASHRING_KERNEL_AUTO, true}, {FLASHRING_KERNEL_MMA, false}};

struct Known {
    Case c;
    Results exact;  // float64

    explicit Known(const Case& drawn) : c(drawn), exact(oracle(drawn)) {}

    // The gradients of one step with these flags over buffers that hold `before`.
    Results backward(const Way& way, int32_t flags, double before) {
        Results r(c);
        const auto take = [](Buffer& to, const Buffer& from) {
            to.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) { to.set(b, s, h, d, from.get(b, s, h, d)); });
        };
        take(r.out, exact.out);
        take(r.lse, exact.lse);
        take(r.delta, exact.delta);
        for (Buffer* gradient : {&r.dq, &r.dk, &r.dv}) gradient->fill(before);
        DeviceCase(c, r).backward(way.kernel, flags, way.deterministic);
        CHECK(r.intact(), "%s: wrote outside a tensor", c.describe().c_str());
        return r;
    }
};

Case drawn(int32_t dtype, int64_t dim, int64_t length, int64_t qHeads, int64_t kvHeads, bool causal, double scale = 0) {
    std::mt19937_64 random(static_cast<uint64_t>(dim + length));
    Case c;
    c.dtype = dtype;
    c.shape = {1, length, length, qHeads, kvHeads, dim, dim};
    c.scale = scale > 0 ? scale : 1 / std::sqrt(static_cast<double>(dim));
    c.mask.right = causal ? 0 : -1;
    c.qRanges = c.kvRanges = {{0, length, 1}};
    c.draw(random);
    return c;
}

// Of the norm of `expected`, leaving the first `skipped` columns out and `before` away.
double normDifference(const Buffer& actual, const Buffer& expected, double before, int64_t skipped) {
    double error = 0, size = 0;
    expected.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
        if (d < skipped) return;
        const double x = actual.get(b, s, h, d) - before, y = expected.get(b, s, h, d);
        error += (x - y) * (x - y);
        size += y * y;
    });
    return error == 0 ? 0 : std::sqrt(error / size);
}

// Operands are rounded to the element type; `size` is that of the scores, whose own rounding grows with them.
void compare(const char* what, Known& known, int32_t flags, double before, int64_t skipped = 0, double size = 0) {
    const double bar = known.c.dtype == FLASHRING_BFLOAT16 || size >= 1000 ? 1.5e-2 : 4e-3;
    for (const Way& way : kWays) {
        const Results actual = known.backward(way, flags, before);
        const double added[] = {flags & FLASHRING_ADD_DQ ? before : 0, flags & FLASHRING_ADD_DKV ? before : 0,
                                flags & FLASHRING_ADD_DKV ? before : 0};
        const Buffer* const pairs[][2] = {
            {&actual.dq, &known.exact.dq}, {&actual.dk, &known.exact.dk}, {&actual.dv, &known.exact.dv}};
        for (int n = 0; n < 3; ++n) {
            const double off = normDifference(*pairs[n][0], *pairs[n][1], added[n], n < 2 ? skipped : 0);
            CHECK(off <= bar, "%s, kernel %d%s: %s: %s is off by %g of its norm", what, way.kernel,
                  way.deterministic ? ", deterministic" : "", known.c.describe().c_str(),
                  n == 0   ? "dq"
                  : n == 1 ? "dk"
                           : "dv",
                  off);
        }
    }
}

long checkAdding(int32_t dtype, int64_t dim) {
    Known known(drawn(dtype, dim, 333, 4, 2, true));
    compare("overwritten", known, 0, 3);
    compare("dq added", known, FLASHRING_ADD_DQ, 3);
    compare("dk and dv added", known, FLASHRING_ADD_DKV, 3);
    compare("all added", known, FLASHRING_ADD_DQ | FLASHRING_ADD_DKV, -2);
    return 4;
}

// All scores near `offset`, by a first column that is the same everywhere. Its own gradients cancel, and are left out.
long checkOffset(int32_t dtype, int64_t dim, double offset) {
    Case c = drawn(dtype, dim, 200, 2, 1, true);
    const double common = std::sqrt(std::fabs(offset) * std::sqrt(static_cast<double>(dim)));
    for (Buffer* buffer : {&c.q, &c.k}) {
        buffer->forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            if (d == 0) buffer->set(b, s, h, d, buffer == &c.q && offset < 0 ? -common : common);
        });
    }
    Known known(c);
    compare("offset", known, 0, 0, 1, std::fabs(offset));
    return 1;
}

// One key: its weight is 1, so dv is dout to the last bit.
long checkOneKey(int32_t dtype, int64_t dim) {
    for (const double size : {1.0, 30.0, 100.0}) {
        Case c = drawn(dtype, dim, 1, 1, 1, true);
        for (Buffer* buffer : {&c.q, &c.k}) {
            buffer->forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) { buffer->set(b, s, h, d, size); });
        }
        c.scale = 0.125;  // size * size * dim / 8 is exact
        Known known(c);
        for (const bool deterministic : {false, true}) {
            const Results actual = known.backward({FLASHRING_KERNEL_AUTO, deterministic}, 0, 7);
            actual.dv.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
                CHECK(actual.dv.get(b, s, h, d) == c.dout.get(b, s, h, d), "one key of %g: %s: dv is %g instead of %g",
                      size, c.describe().c_str(), actual.dv.get(b, s, h, d), c.dout.get(b, s, h, d));
            });
        }
    }
    return 3;
}

long checkScales(int32_t dtype, int64_t dim) {
    for (const double scale : {1e-30, 1e-12, 1e-3, 1.0}) {
        Known known(drawn(dtype, dim, 150, 2, 2, true, scale));
        compare("scale", known, 0, 0);
    }
    return 4;
}

// A softcap, and gradients so large that what the mask hides must be 0 whatever dP is there.
long checkSoftcap(int32_t dtype, int64_t dim) {
    Case c = drawn(dtype, dim, 170, 4, 2, true);
    c.softcap = 20;
    c.dout.forEach(
        [&](int64_t b, int64_t s, int64_t h, int64_t d) { c.dout.set(b, s, h, d, 256 * c.dout.get(b, s, h, d)); });
    Known known(c);
    compare("softcap, large gradients", known, 0, 0);
    return 1;
}

// ALiBi of gentle, steep and very steep slopes.
long checkSlopes(int32_t dtype, int64_t dim) {
    Case c = drawn(dtype, dim, 170, 4, 2, true);
    c.slopes = {0.0078125, 0.5, 20, 1e4};
    Known known(c);
    compare("slopes", known, 0, 0);
    return 1;
}

}  // namespace

int main() {
    skipWithoutDevice();
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16})
        for (const int64_t dim : {64, 96, 128, 80, 192, 256, 160}) {
            cases += checkAdding(dtype, dim) + checkOneKey(dtype, dim) + checkScales(dtype, dim);
            for (const double offset : {50.0, -50.0, 125.0, 131.0, 1000.0, -1000.0, 10000.0})
                cases += checkOffset(dtype, dim, offset);
            Known many(drawn(dtype, dim, 130, 12, 1, false));
            compare("one key head", many, 0, 0);
            cases += 1 + checkSoftcap(dtype, dim) + checkSlopes(dtype, dim);
        }
    return finish("cuda backward", cases);
}
