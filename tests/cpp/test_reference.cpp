// The reference kernel against the oracle: every result of random float64 cases within 1e-12, whole and in resumed
// blocks.
#include "oracle.h"

int main() {
    constexpr double bar = 1e-12;
    std::mt19937_64 random(1);
    long cases = 0;
    for (; cases < 300 / kThinning; ++cases) {
        Case c = drawCase(random, FLASHRING_FLOAT64, 40);
        const Results expected = oracle(c);
        std::vector<int64_t> splits;
        if (cases % 2) splits = {c.shape.kvLen / 3, c.shape.kvLen / 3, c.shape.kvLen / 2};
        Results actual(c);
        run(c, actual, FLASHRING_KERNEL_REFERENCE, splits);
        const std::string context = "case " + std::to_string(cases) + " " + c.describe();
        checkClose(context, "out", actual.out, expected.out, bar);
        checkClose(context, "acc", actual.acc, expected.acc, bar);
        checkClose(context, "lse", actual.lse, expected.lse, bar);
        checkClose(context, "delta", actual.delta, expected.delta, bar);
        checkClose(context, "dq", actual.dq, expected.dq, bar);
        checkClose(context, "dk", actual.dk, expected.dk, bar);
        checkClose(context, "dv", actual.dv, expected.dv, bar);
        CHECK(actual.intact(), "%s: wrote outside a tensor", context.c_str());
    }
    return finish("reference", cases);
}
