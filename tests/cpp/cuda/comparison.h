// How near results of a CUDA kernel have to be to those of a reference, and the worst of what was found.
#ifndef FLASHRING_TESTS_CUDA_COMPARISON_H
#define FLASHRING_TESTS_CUDA_COMPARISON_H

#include "attention_case.h"

struct DeviceBars {
    double out, acc, lse, gradient;  // relative to max(1, |expected|), on N(0, 1) operands
};

// The on-device reference repeats the host's sums in another order; results are rounded once to the type they are
// stored in. An `out` of 16 bits may land on the neighbour, and delta and with it the gradients follow.
inline DeviceBars referenceBars(int32_t dtype) {
    switch (dtype) {
        case FLASHRING_FLOAT64: return {1e-12, 1e-12, 1e-12, 1e-12};
        case FLASHRING_FLOAT32: return {1e-6, 1e-6, 1e-6, 1e-5};
        case FLASHRING_BFLOAT16: return {8e-3, 1e-6, 1e-6, 8e-3};
        default: return {1e-3, 1e-6, 1e-6, 1e-3};
    }
}

// Probabilities and their gradients are rounded to the element type before they are multiplied.
inline DeviceBars mmaBars(int32_t dtype) {
    return dtype == FLASHRING_BFLOAT16 ? DeviceBars{3e-2, 2e-2, 1e-4, 1.5e-1} : DeviceBars{4e-3, 3e-3, 1e-4, 2e-2};
}

constexpr double kVanishing = 1e-3;

// sqrt(sum (a - b)^2 / sum b^2): what a single large deviation does not show, many small ones do. b counts as if all
// its elements were kVanishing at least: where one key outweighs all others the gradients of queries and keys are all
// but 0, and the rest is rounding.
inline double normDifference(const Buffer& a, const Buffer& b) {
    double error = 0, size = 0, least = 0;
    a.forEach([&](int64_t i, int64_t s, int64_t h, int64_t d) {
        const double x = a.get(i, s, h, d), y = b.get(i, s, h, d);
        if (std::isfinite(y)) {
            error += (x - y) * (x - y);
            size += y * y;
            least += kVanishing * kVanishing;
        }
    });
    return least == 0 ? 0 : std::sqrt(error / std::max(size, least));
}

struct Worst {
    double out = 0, acc = 0, lse = 0, gradient = 0, norm = 0;
};

inline void compare(const char* what, uint64_t seed, const Case& c, const Results& actual, const Results& expected,
                    const DeviceBars& bars, double normBar, Worst& worst) {
    const auto check = [&](const char* name, const Buffer& a, const Buffer& b, double bar, double& most) {
        const Difference d = difference(a, b);
        most = std::max(most, d.largest);
        CHECK(d.largest <= bar, "%s --from %llu: %s: %s differs by %g at (%lld, %lld, %lld, %lld)", what,
              static_cast<unsigned long long>(seed), c.describe().c_str(), name, d.largest, static_cast<long long>(d.b),
              static_cast<long long>(d.s), static_cast<long long>(d.h), static_cast<long long>(d.d));
        const double norm = normDifference(a, b);
        worst.norm = std::max(worst.norm, norm);
        CHECK(norm <= normBar, "%s --from %llu: %s: %s differs by %g of its norm", what,
              static_cast<unsigned long long>(seed), c.describe().c_str(), name, norm);
    };
    check("out", actual.out, expected.out, bars.out, worst.out);
    check("acc", actual.acc, expected.acc, bars.acc, worst.acc);
    check("lse", actual.lse, expected.lse, bars.lse, worst.lse);
    check("dq", actual.dq, expected.dq, bars.gradient, worst.gradient);
    check("dk", actual.dk, expected.dk, bars.gradient, worst.gradient);
    check("dv", actual.dv, expected.dv, bars.gradient, worst.gradient);
    CHECK(actual.intact(), "%s --from %llu: %s: wrote outside a tensor", what, static_cast<unsigned long long>(seed),
          c.describe().c_str());
}

// Leaves it to `compare` to find where only one of two results is finite. Whether the other is NaN or infinite may
// depend on a weight that is 0 in one type and tiny in another.
inline void clearWhereNeitherIsFinite(Results& first, Results& second) {
    Buffer* const pairs[][2] = {{&first.out, &second.out},
                                {&first.acc, &second.acc},
                                {&first.dq, &second.dq},
                                {&first.dk, &second.dk},
                                {&first.dv, &second.dv}};
    for (const auto& pair : pairs) {
        pair[0]->forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            if (!std::isfinite(pair[0]->get(b, s, h, d)) && !std::isfinite(pair[1]->get(b, s, h, d))) {
                pair[0]->set(b, s, h, d, 0);
                pair[1]->set(b, s, h, d, 0);
            }
        });
    }
}

inline void report(const char* what, int32_t dtype, const char* dims, long cases, const Worst& w) {
    std::printf("%-10s %-9s %-8s %5ld cases   largest: out %.1e acc %.1e lse %.1e gradients %.1e   norm %.1e\n", what,
                nameOf(dtype), dims, cases, w.out, w.acc, w.lse, w.gradient, w.norm);
    std::fflush(stdout);
}

#endif
