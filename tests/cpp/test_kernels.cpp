// Every kernel this machine can run against the reference kernel, over random shapes, masks, positions, strides and splits.
#include "attention_case.h"

namespace {

// Relative to max(1, |expected|), on N(0, 1) operands.
double bar(int32_t dtype) { return dtype == FLASHRING_FLOAT64 ? 1e-12 : 2e-5; }

// `out` is rounded once to the step's dtype, so it may land on the neighbour of the reference's.
double outBar(int32_t dtype) {
    switch (dtype) {
        case FLASHRING_BFLOAT16: return 3.2e-2;
        case FLASHRING_FLOAT16: return 4e-3;
        default: return bar(dtype);
    }
}

void compare(const flashring_capability& row, int32_t dtype, long number) {
    std::mt19937_64 random(static_cast<uint64_t>(number));
    Case c = drawCase(random, dtype, number % 4 == 0 ? 300 : 100);
    std::vector<int64_t> splits;
    if (number % 2) {
        splits = {pick(random, 0, c.shape.kvLen), pick(random, 0, c.shape.kvLen)};
        std::sort(splits.begin(), splits.end());
    }
    Results expected(c), actual(c);
    run(c, expected, FLASHRING_KERNEL_REFERENCE);
    run(c, actual, row.kernel, splits);
    const auto check = [&](const char* name, const Buffer& a, const Buffer& b, double most) {
        const Difference worst = difference(a, b);
        CHECK(worst.largest <= most, "%s seed %ld %s: %s differs by %g at (%lld, %lld, %lld, %lld)", row.name, number,
              c.describe().c_str(), name, worst.largest, static_cast<long long>(worst.b), static_cast<long long>(worst.s),
              static_cast<long long>(worst.h), static_cast<long long>(worst.d));
    };
    check("out", actual.out, expected.out, outBar(dtype));
    check("acc", actual.acc, expected.acc, bar(dtype));
    check("lse", actual.lse, expected.lse, bar(dtype));
    check("dq", actual.dq, expected.dq, bar(dtype) + 10 * (outBar(dtype) - bar(dtype)));
    check("dk", actual.dk, expected.dk, bar(dtype) + 10 * (outBar(dtype) - bar(dtype)));
    check("dv", actual.dv, expected.dv, bar(dtype));
    CHECK(actual.intact(), "%s seed %ld %s: wrote outside a tensor", row.name, number, c.describe().c_str());
}

}  // namespace

int main() {
    long cases = 0;
    for (int32_t i = 0; i < flashring_capability_count(); ++i) {
        flashring_capability row{};
        row.size = sizeof row;
        CHECK(flashring_capability_get(i, &row) == FLASHRING_OK, "%s", flashring_last_error());
        const bool ownTest = row.kernel == FLASHRING_KERNEL_REFERENCE || row.kernel == FLASHRING_KERNEL_AMX;
        if (!row.available || ownTest) {
            continue;
        }
        for (long number = 0; number < 100; ++number, ++cases) {
            compare(row, row.dtype, number);
        }
    }
    return finish("kernels", cases);
}
