// Every kernel this machine can run against the reference kernel, over random shapes, masks, positions, strides and splits.
#include "attention_case.h"

namespace {

long compare(const std::vector<flashring_capability>& rows, int32_t dtype, uint64_t seed) {
    std::mt19937_64 random(seed);
    Case c = drawCase(random, dtype, seed % 4 == 0 ? 300 : 100);
    std::vector<int64_t> splits;
    if (seed % 2) {
        splits = {pick(random, 0, c.shape.kvLen), pick(random, 0, c.shape.kvLen)};
        std::sort(splits.begin(), splits.end());
    }
    Results expected(c);
    run(c, expected, FLASHRING_KERNEL_REFERENCE);
    long cases = 0;
    for (const flashring_capability& row : rows) {
        if (row.dtype != dtype || row.kernel == FLASHRING_KERNEL_REFERENCE) {
            continue;
        }
        const Bars bars = barsOf(row);
        Results actual(c);
        run(c, actual, row.kernel, splits);
        const std::string context = std::string(row.name) + " seed " + std::to_string(seed) + " " + c.describe();
        checkClose(context, "out", actual.out, expected.out, bars.out);
        checkClose(context, "acc", actual.acc, expected.acc, bars.state);
        checkClose(context, "lse", actual.lse, expected.lse, bars.state);
        checkClose(context, "dq", actual.dq, expected.dq, bars.gradient);
        checkClose(context, "dk", actual.dk, expected.dk, bars.gradient);
        checkClose(context, "dv", actual.dv, expected.dv, bars.state);
        CHECK(actual.intact(), "%s: wrote outside a tensor", context.c_str());
        ++cases;
    }
    return cases;
}

}  // namespace

int main() {
    const std::vector<flashring_capability> rows = availableRows();
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_FLOAT64, FLASHRING_FLOAT32, FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) {
        if (std::none_of(rows.begin(), rows.end(), [&](const flashring_capability& row) { return row.dtype == dtype; })) {
            continue;
        }
        for (uint64_t seed = 0; seed < 60 / kThinning; ++seed) {
            cases += compare(rows, dtype, seed);
        }
    }
    return finish("kernels", cases);
}
