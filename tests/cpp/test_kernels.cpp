// Every kernel this machine can run against the reference kernel, over random shapes, masks, positions, strides and splits.
#include "attention_case.h"

int main() {
    long cases = 0;
    for (const flashring_capability& row : availableRows()) {
        if (row.kernel == FLASHRING_KERNEL_REFERENCE) {
            continue;
        }
        const Bars bars = barsOf(row);
        for (uint64_t seed = 0; seed < 60; ++seed, ++cases) {
            std::mt19937_64 random(seed);
            Case c = drawCase(random, row.dtype, seed % 4 == 0 ? 300 : 100);
            std::vector<int64_t> splits;
            if (seed % 2) {
                splits = {pick(random, 0, c.shape.kvLen), pick(random, 0, c.shape.kvLen)};
                std::sort(splits.begin(), splits.end());
            }
            Results expected(c), actual(c);
            run(c, expected, FLASHRING_KERNEL_REFERENCE);
            run(c, actual, row.kernel, splits);
            const std::string context = std::string(row.name) + " seed " + std::to_string(seed) + " " + c.describe();
            checkClose(context, "out", actual.out, expected.out, bars.out);
            checkClose(context, "acc", actual.acc, expected.acc, bars.state);
            checkClose(context, "lse", actual.lse, expected.lse, bars.state);
            checkClose(context, "dq", actual.dq, expected.dq, bars.gradient);
            checkClose(context, "dk", actual.dk, expected.dk, bars.gradient);
            checkClose(context, "dv", actual.dv, expected.dv, bars.state);
            CHECK(actual.intact(), "%s: wrote outside a tensor", context.c_str());
        }
    }
    return finish("kernels", cases);
}
