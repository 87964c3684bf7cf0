// Softcap, sinks and ALiBi: every kernel that serves them against the plain formula in float64, forward and backward,
// over random shapes, masks, positions and splits; and what happens at the ends of their ranges.
#include <cstring>

#include "caps.h"
#include "oracle.h"
#include "score_case.h"

namespace {

long cases = 0;

double widened(double bar, double terms) { return bar * std::sqrt(std::max(1.0, terms)); }

void compare(const flashring_capability& row, Case& c, const Results& expected, const std::vector<int64_t>& splits,
             uint64_t seed) {
    const Bars bars = barsOf(row);
    Results actual(c);
    run(c, actual, row.kernel, splits);
    const std::string context = std::string(row.name) + " seed " + std::to_string(seed) + " " + describeScores(c);
    const double ratio = static_cast<double>(c.shape.valueDim) / static_cast<double>(c.shape.headDim);
    checkClose(context, "out", actual.out, expected.out, bars.out);
    checkClose(context, "acc", actual.acc, expected.acc, bars.state);
    checkClose(context, "lse", actual.lse, expected.lse, bars.state);
    checkClose(context, "dq", actual.dq, expected.dq, widened(bars.gradient, ratio));
    checkClose(context, "dk", actual.dk, expected.dk, widened(bars.gradient, ratio));
    checkClose(context, "dv", actual.dv, expected.dv, bars.state);
    if (!c.sinks.empty()) {
        checkClose(context, "dsinks", actual.dsinks, expected.dsinks, bars.gradient * sinkTerms(c));
    }
    CHECK(actual.intact(), "%s: wrote outside a tensor", context.c_str());
    ++cases;
}

// One case for all kernels of a type that serve its scores.
void compareAll(const std::vector<flashring_capability>& rows, int32_t dtype, uint64_t seed) {
    std::mt19937_64 random(seed);
    Case c = drawCase(random, dtype, seed % 4 == 0 ? 150 : 60);
    const int32_t drawn = seed % 3 == 0 ? FLASHRING_SINKS : static_cast<int32_t>(pick(random, 1, 7));
    drawScores(c, random, drawn);
    std::vector<int64_t> splits;
    if (seed % 2) {
        splits = {pick(random, 0, c.shape.kvLen), pick(random, 0, c.shape.kvLen)};
        std::sort(splits.begin(), splits.end());
    }
    std::vector<flashring_capability> serving;
    for (const flashring_capability& row : rows) {
        if (row.dtype == dtype && !(drawn & ~row.scores)) serving.push_back(row);
    }
    if (serving.empty()) return;
    const Results expected = oracle(c);
    for (const flashring_capability& row : serving) compare(row, c, expected, splits, seed);
}

// Heads wider than every kernel serves; those that do not serve them say so.
void wideHeads(const flashring_capability& row, uint64_t seed) {
    constexpr int64_t kDims[][2] = {{264, 264}, {320, 512}, {512, 384}, {512, 512}};
    std::mt19937_64 random(seed);
    Case c = drawCase(random, row.dtype, 40);
    c.shape.headDim = kDims[seed % 4][0];
    c.shape.valueDim = kDims[seed % 4][1];
    c.scale = 1 / std::sqrt(static_cast<double>(c.shape.headDim));
    c.draw(random);
    drawScores(c, random, row.scores & static_cast<int32_t>(pick(random, 0, 7)));
    if (row.max_head_dim == 512) {
        return compare(row, c, oracle(c), {pick(random, 0, c.shape.kvLen)}, seed);
    }
    Results r(c);
    Step step(c, r, row.kernel, 0, c.shape.kvLen);
    CHECK(step.forward(FLASHRING_FINISH) == FLASHRING_UNSUPPORTED && std::strstr(flashring_last_error(), "head_dim = "),
          "%s: %s", row.name, flashring_last_error());
    ++cases;
}

// Keys of 576 and values of 512 of one key head for all query heads: forward alone.
void latent(const flashring_capability& row) {
    Case c;
    c.dtype = row.dtype;
    c.shape = {2, 3, 150, 8, 1, 576, 512};
    c.scale = 1 / std::sqrt(192.0);
    c.qRanges = {{147, 3, 1}};
    c.kvRanges = {{0, 150, 1}};
    c.mask.right = 0;
    std::mt19937_64 random(12);
    c.draw(random);
    const Results expected = oracle(c);
    Results actual(c);
    Step step(c, actual, row.kernel, 0, c.shape.kvLen);
    CHECK(step.forward(FLASHRING_FINISH) == FLASHRING_OK, "%s: %s", row.name, flashring_last_error());
    const Bars bars = barsOf(row);
    checkClose(row.name, "out", actual.out, expected.out, bars.out);
    checkClose(row.name, "lse", actual.lse, expected.lse, bars.state);
    CHECK(step.backward(0) == FLASHRING_UNSUPPORTED && std::strstr(flashring_last_error(), "head_dim = 576"),
          "%s takes 576, 512 backward: %s", row.name, flashring_last_error());
    ++cases;
}

Case small(int32_t dtype, uint64_t seed, int64_t length = 70) {
    std::mt19937_64 random(seed);
    Case c;
    c.dtype = dtype;
    c.shape = {1, length, length, 2, 1, 16, 16};
    c.scale = 0.25;
    c.qRanges = c.kvRanges = {{0, length, 1}};
    c.mask.right = 0;
    c.draw(random);
    return c;
}

// A query that sees nothing: output 0, and lse its head's sink.
void nothingSeen(const flashring_capability& row) {
    Case c = small(row.dtype, 5);
    c.mask.cuSeqlens = {0, 10};  // the rest is in no document
    c.sinks = {1.25, -INFINITY};
    Results actual(c);
    run(c, actual, row.kernel, {20});
    for (int64_t i = 10; i < c.shape.qLen; ++i) {
        for (int64_t h = 0; h < 2; ++h) {
            CHECK(actual.out.get(0, i, h, 3) == 0, "%s: out is %g where nothing is seen", row.name,
                  actual.out.get(0, i, h, 3));
            CHECK(actual.lse.get(0, i, h) == c.sinks[static_cast<size_t>(h)], "%s: lse is %g where nothing is seen",
                  row.name, actual.lse.get(0, i, h));
            CHECK(actual.dq.get(0, i, h, 3) == 0, "%s: dq is %g where nothing is seen", row.name,
                  actual.dq.get(0, i, h, 3));
        }
    }
    CHECK(actual.dsinks.get(0, 0, 1) == 0, "%s: no sink has the gradient %g", row.name, actual.dsinks.get(0, 0, 1));
    ++cases;
}

// ALiBi by global positions far from 0, of shards far apart: what only differences matter for.
void farPositions(const flashring_capability& row) {
    Case near = small(row.dtype, 6), far = small(row.dtype, 6);
    near.mask.right = far.mask.right = -1;
    near.slopes = far.slopes = {0.5, 0.0625};
    near.qRanges = {{3, 40, 1}, {50, 30, 2}};
    near.kvRanges = {{0, 70, 2}};
    constexpr int64_t distance = INT64_C(1) << 60;
    far.qRanges = {{distance + 3, 40, 1}, {distance + 50, 30, 2}};
    far.kvRanges = {{distance, 70, 2}};
    Results expected(near), actual(far);
    run(near, expected, row.kernel);
    run(far, actual, row.kernel);
    CHECK(actual.out.sameBits(expected.out) && actual.dq.sameBits(expected.dq) && actual.dk.sameBits(expected.dk),
          "%s: ALiBi changes where all positions move", row.name);
    ++cases;
}

// ALiBi where a tile straddles gaps that the type of scores does not resolve: near tokens on the far side keep their
// distance. Exact, as all other terms are 0: with slope s and distances d the lse is that of -s * d.
void acrossGaps(const flashring_capability& row) {
    for (const int64_t gap : {INT64_C(1) << 25, INT64_C(1) << 31, INT64_C(1) << 60}) {
        Case c = small(row.dtype, 11, 64);
        c.mask.right = -1;
        c.shape.qHeads = c.shape.kvHeads = 1;
        c.slopes = {1};
        c.kvRanges = {{0, 32, 1}, {gap + 1, 32, 1}};
        c.qRanges = {{5, 32, 1}, {gap + 5, 32, 1}};
        std::mt19937_64 random(11);
        c.draw(random);
        c.q.fill(0);
        Results actual(c);
        run(c, actual, row.kernel);
        for (int64_t i = 0; i < 64; ++i) {
            double sum = 0;
            for (int64_t j = 0; j < 32; ++j)
                sum += std::exp(-std::fabs(static_cast<double>(i < 32 ? 5 + i - j : 4 + i - 32 - j)));
            CHECK(std::fabs(actual.lse.get(0, i, 0) - std::log(sum)) < 1e-6,
                  "%s: query %lld at a gap of %lld has lse %g instead of %g", row.name, static_cast<long long>(i),
                  static_cast<long long>(gap), actual.lse.get(0, i, 0), std::log(sum));
        }
        ++cases;
    }
}

// Scores beyond the softcap and infinite ones: it bounds them, and their gradients are 0.
void saturated(const flashring_capability& row) {
    Case c = small(row.dtype, 7, 3);
    c.mask.right = -1;
    c.softcap = 2;
    c.shape.headDim = c.shape.valueDim = 1;
    c.scale = 1;
    std::mt19937_64 random(7);
    c.draw(random);
    const double largest = row.dtype == FLASHRING_FLOAT16 ? 60000 : 1e30;
    for (int64_t i = 0; i < 3; ++i) {
        for (int64_t h = 0; h < 2; ++h) c.q.set(0, i, h, 0, largest);
        c.k.set(0, i, 0, 0, i == 0 ? largest : -largest);
    }
    Results actual(c);
    run(c, actual, row.kernel);
    const double lse = std::log(std::exp(2.0) + 2 * std::exp(-2.0));
    CHECK(std::fabs(actual.lse.get(0, 0, 0) - lse) < 1e-6, "%s: lse is %g instead of %g", row.name,
          actual.lse.get(0, 0, 0), lse);
    CHECK(actual.dq.get(0, 0, 0) == 0 && actual.dk.get(0, 1, 0) == 0, "%s: saturated scores have a gradient", row.name);
    ++cases;
}

// NaN that the mask hides stays hidden.
void hidden(const flashring_capability& row) {
    Case c = small(row.dtype, 8), clean = small(row.dtype, 8);
    c.softcap = clean.softcap = 3;
    c.sinks = clean.sinks = {0.5, 1};
    c.slopes = clean.slopes = {0.25, 0.125};
    const int64_t last = c.shape.kvLen - 1;
    for (int64_t d = 0; d < 16; ++d) {
        c.k.set(0, last, 0, d, NAN);
        c.v.set(0, last, 0, d, INFINITY);
    }
    Results expected(clean), actual(c);
    run(clean, expected, row.kernel);
    run(c, actual, row.kernel);
    for (int64_t i = 0; i < last; ++i) {
        for (int64_t d = 0; d < 16; ++d) {
            CHECK(actual.out.get(0, i, 1, d) == expected.out.get(0, i, 1, d), "%s: out of row %lld sees a hidden NaN",
                  row.name, static_cast<long long>(i));
            CHECK(actual.dq.get(0, i, 1, d) == expected.dq.get(0, i, 1, d), "%s: dq of row %lld sees a hidden NaN",
                  row.name, static_cast<long long>(i));
        }
    }
    ++cases;
}

// A softcap far above all scores changes nothing but their last bits; tanh is accurate near 0.
void looseSoftcap(const flashring_capability& row) {
    Case c = small(row.dtype, 9), capped = small(row.dtype, 9);
    capped.softcap = 1e6;
    Results expected(c), actual(capped);
    run(c, expected, row.kernel);
    run(capped, actual, row.kernel);
    const double bar = row.dtype == FLASHRING_FLOAT64 ? 1e-10 : 1e-6;
    checkClose(row.name, "lse under a loose softcap", actual.lse, expected.lse, bar);
    checkClose(row.name, "dv under a loose softcap", actual.dv, expected.dv, 10 * bar);
    ++cases;
}

// Steps that add to dsinks leave what one step of all rows does.
void addedSinks(const flashring_capability& row) {
    Case c = small(row.dtype, 10);
    c.sinks = {0.5, -1};
    Results r(c);
    run(c, r, row.kernel);
    const double once[2] = {r.dsinks.get(0, 0, 0), r.dsinks.get(0, 0, 1)};
    Step step(c, r, row.kernel, 0, c.shape.kvLen);
    step.raw.flags = FLASHRING_ADD_DSINKS;
    CHECK(step.delta() == FLASHRING_OK, "%s", flashring_last_error());
    for (int64_t h = 0; h < 2; ++h) {
        CHECK(r.dsinks.get(0, 0, h) == 2 * once[h], "added dsinks are %g, not twice %g", r.dsinks.get(0, 0, h),
              once[h]);
    }
    ++cases;
}

}  // namespace

// test_scores [SEEDS]
int main(int argc, char** argv) {
    sayWhatRuns();
    const uint64_t seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 16 / kThinning;
    const std::vector<flashring_capability> rows = availableRows();
    for (const int32_t dtype : {FLASHRING_FLOAT64, FLASHRING_FLOAT32, FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) {
        for (uint64_t seed = 0; seed < seeds; ++seed) compareAll(rows, dtype, seed);
    }
    for (const flashring_capability& row : rows) {
        for (uint64_t seed = 0; seed < std::max<uint64_t>(4, seeds / 4); ++seed) wideHeads(row, seed);
    }
    for (const flashring_capability& row : availableRows(false)) {
        if (row.max_head_dim == 512) latent(row);
    }
    for (const flashring_capability& row : rows) {
        if (!row.scores) continue;
        nothingSeen(row);
        addedSinks(row);
        if (row.scores & FLASHRING_ALIBI) {
            farPositions(row);
            acrossGaps(row);
        }
        if (row.scores & FLASHRING_SOFTCAP) {
            saturated(row);
            hidden(row);
            looseSoftcap(row);
        }
    }
    return finish("scores", cases);
}
