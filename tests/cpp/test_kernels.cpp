// Every kernel this machine can run, and the choice of AUTO, against the reference kernel, over random shapes, masks,
// positions, strides and splits.
#include "attention_case.h"
#include "caps.h"

namespace {

// Whether AUTO takes the row: the first of its type that can run, both ways. Forward steps of few queries go to the
// decode kernel.
bool isFirst(const flashring_capability& wanted) {
    flashring_capability row{};
    for (int32_t i = 0; row.dtype != wanted.dtype || !row.available || row.cuda || !row.backward; ++i) {
        row.size = sizeof row;
        CHECK(flashring_capability_get(i, &row) == FLASHRING_OK, "%s", flashring_last_error());
    }
    return row.kernel == wanted.kernel;
}

// What rounding leaves of dP - delta, sums over value_dim, comes to dq and dk times softmax_scale, which is of order
// head_dim^-1/2: with more of the first than of the second their bar is wider.
double widened(double bar, const Shape& shape) {
    return bar * std::sqrt(std::max(1.0, static_cast<double>(shape.valueDim) / static_cast<double>(shape.headDim)));
}

long compare(const std::vector<flashring_capability>& rows, int32_t dtype, uint64_t seed) {
    std::mt19937_64 random(seed);
    Case c = drawCase(random, dtype, seed % 4 == 0 ? 300 : 100);
    c.keepsLow = seed % 3 != 0;
    std::vector<int64_t> splits;
    if (seed % 2) {
        splits = {pick(random, 0, c.shape.kvLen), pick(random, 0, c.shape.kvLen)};
        std::sort(splits.begin(), splits.end());
    }
    Results expected(c);
    run(c, expected, FLASHRING_KERNEL_REFERENCE);
    long cases = 0;
    for (const flashring_capability& row : rows) {
        if (row.dtype != dtype || (row.kernel == FLASHRING_KERNEL_REFERENCE && !isFirst(row))) {
            continue;
        }
        const Bars bars = barsOf(row);
        Results actual(c);
        run(c, actual, isFirst(row) ? FLASHRING_KERNEL_AUTO : row.kernel, splits);
        const std::string context = std::string(row.name) + " seed " + std::to_string(seed) + " " + c.describe();
        checkClose(context, "out", actual.out, expected.out, bars.out);
        checkClose(context, "acc", actual.acc, expected.acc, bars.state);
        checkClose(context, "lse", actual.lse, expected.lse, bars.state);
        checkClose(context, "dq", actual.dq, expected.dq, widened(bars.gradient, c.shape));
        checkClose(context, "dk", actual.dk, expected.dk, widened(bars.gradient, c.shape));
        checkClose(context, "dv", actual.dv, expected.dv, bars.state);
        CHECK(actual.intact(), "%s: wrote outside a tensor", context.c_str());
        ++cases;
    }
    return cases;
}

}  // namespace

// test_kernels [SEEDS]
int main(int argc, char** argv) {
    sayWhatRuns();
    const std::vector<flashring_capability> rows = availableRows();
    const uint64_t seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : (*cap() ? 20 : 60) / kThinning;
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_FLOAT64, FLASHRING_FLOAT32, FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) {
        if (std::none_of(rows.begin(), rows.end(),
                         [&](const flashring_capability& row) { return row.dtype == dtype; })) {
            continue;
        }
        for (uint64_t seed = 0; seed < seeds; ++seed) {
            cases += compare(rows, dtype, seed);
        }
    }
    return finish("kernels", cases);
}
