// The reference kernel against the oracle: every result of random float64 cases within 1e-12, whole and in resumed blocks.
#include "attention_case.h"

int main() {
    constexpr double bar = 1e-12;
    std::mt19937_64 random(1);
    long cases = 0;
    for (; cases < 300; ++cases) {
        Case c = drawCase(random, FLASHRING_FLOAT64, 40);
        const Results expected = oracle(c);
        std::vector<int64_t> splits;
        if (cases % 2) splits = {c.shape.kvLen / 3, c.shape.kvLen / 3, c.shape.kvLen / 2};
        Results actual(c);
        run(c, actual, FLASHRING_KERNEL_REFERENCE, splits);
        const auto compare = [&](const char* name, const Buffer& a, const Buffer& b) {
            const Difference worst = difference(a, b);
            CHECK(worst.largest <= bar, "case %ld %s: %s differs by %g at (%lld, %lld, %lld, %lld)", cases, c.describe().c_str(),
                  name, worst.largest, static_cast<long long>(worst.b), static_cast<long long>(worst.s),
                  static_cast<long long>(worst.h), static_cast<long long>(worst.d));
        };
        compare("out", actual.out, expected.out);
        compare("acc", actual.acc, expected.acc);
        compare("lse", actual.lse, expected.lse);
        compare("delta", actual.delta, expected.delta);
        compare("dq", actual.dq, expected.dq);
        compare("dk", actual.dk, expected.dk);
        compare("dv", actual.dv, expected.dv);
        CHECK(actual.intact(), "case %ld %s: wrote outside a tensor", cases, c.describe().c_str());
    }
    return finish("reference", cases);
}
