// The same bits for any thread count, on every run, and for callers that share the workers.
#include <thread>

#include "attention_case.h"
#include "caps.h"

namespace {

bool same(const Results& a, const Results& b) {
    return a.out.sameBits(b.out) && a.acc.sameBits(b.acc) && a.lse.sameBits(b.lse) && a.delta.sameBits(b.delta) &&
           a.dq.sameBits(b.dq) && a.dk.sameBits(b.dk) && a.dv.sameBits(b.dv);
}

Case causal(int32_t dtype, int64_t length, std::mt19937_64& random) {
    Case c;
    c.dtype = dtype;
    c.shape = {1, length, length, 2, 1, 32, 32};
    c.qRanges = c.kvRanges = {{0, length, 1}};
    c.mask.right = 0;
    c.scale = 0.2;
    c.draw(random);
    return c;
}

}  // namespace

int main() {
    sayWhatRuns();
    const int32_t threads = flashring_threads();
    std::mt19937_64 random(3);
    long cases = 0;
    for (const flashring_capability& row : availableRows()) {
        const bool slow = row.kernel == FLASHRING_KERNEL_REFERENCE;
        Case c = causal(row.dtype, slow ? 120 : kThinning > 1 ? 300 : 700, random);
        flashring_set_threads(1);
        Results alone(c);
        run(c, alone, row.kernel, {100});
        for (const int32_t count : {2, 3, 4, 16}) {
            flashring_set_threads(count);
            Results shared(c);
            run(c, shared, row.kernel, {100});
            CHECK(same(alone, shared), "%s %s: %d threads give other bits than one", row.name, nameOf(row.dtype),
                  count);
            ++cases;
        }
        flashring_set_threads(threads);
        std::vector<Results> results(6, Results(c));
        std::vector<Case> copies(6, c);
        std::vector<std::thread> callers;
        for (size_t n = 0; n < results.size(); ++n) {
            callers.emplace_back([&, n] { run(copies[n], results[n], row.kernel, {100}); });
        }
        for (std::thread& caller : callers) caller.join();
        for (const Results& result : results) {
            CHECK(same(alone, result), "%s %s: six callers at once change the result", row.name, nameOf(row.dtype));
            ++cases;
        }
    }
    return finish("determinism", cases);
}
