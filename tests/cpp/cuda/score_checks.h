// Softcap, sinks and ALiBi on a CUDA device: the on-device reference against the host's, the kernels on tensor cores
// against the on-device reference.
#ifndef FLASHRING_TESTS_SCORE_CHECKS_H
#define FLASHRING_TESTS_SCORE_CHECKS_H

#include <cstring>

#include "cuda/comparison.h"
#include "cuda/device_case.h"
#include "score_case.h"

// Of every third case sinks alone, which more kernels serve; of the next a softcap or ALiBi alone, that under a causal
// mask and over one range, which wgmma serves at some dims.
inline Case drawScoreCase(std::mt19937_64& random, uint64_t seed, int32_t dtype, int64_t dim, int64_t longest) {
    Case c = drawCase(random, dtype, longest);
    if (dim) {
        c.shape.headDim = c.shape.valueDim = dim;
        c.scale = 1 / std::sqrt(static_cast<double>(dim));
        c.draw(random);
    }
    int32_t drawn = static_cast<int32_t>(pick(random, 1, 7));
    if (seed % 3 == 0) drawn = FLASHRING_SINKS;
    if (seed % 3 == 1 && c.shape.qLen && c.shape.kvLen) {
        drawn = pick(random, 0, 1) ? FLASHRING_SOFTCAP : FLASHRING_ALIBI;
        c.mask.right = 0;
        c.mask.prefixLengths.clear();
        const int64_t stride = pick(random, 1, 3), first = pick(random, 0, 50);
        c.kvRanges = {{first, c.shape.kvLen, stride}};
        c.qRanges = {{first + pick(random, 0, 20), c.shape.qLen, stride}};
    }
    drawScores(c, random, drawn);
    return c;
}

inline std::vector<int64_t> drawScoreSplits(std::mt19937_64& random, int64_t length) {
    return pick(random, 0, 1) ? std::vector<int64_t>{pick(random, 0, length)} : std::vector<int64_t>{};
}

inline void compareScores(const char* what, uint64_t seed, const Case& c, const Results& actual,
                          const Results& expected, const DeviceBars& bars, double normBar, Worst& worst) {
    const int before = failures;
    compare(what, seed, c, actual, expected, bars, normBar, worst);
    if (!c.sinks.empty()) {
        checkClose(what, "dsinks", actual.dsinks, expected.dsinks, bars.gradient * sinkTerms(c));
    }
    if (failures > before) std::fprintf(stderr, "  of %s\n", describeScores(c).c_str());
}

inline long checkScoresOfReference(int32_t dtype, long seeds, uint64_t from) {
    Worst worst;
    for (uint64_t seed = from; seed < from + static_cast<uint64_t>(seeds); ++seed) {
        std::mt19937_64 random(seed);
        Case c = drawScoreCase(random, seed, dtype, 0, 60);
        Results expected(c), actual(c);
        run(c, expected, FLASHRING_KERNEL_REFERENCE);
        DeviceCase(c, actual).run(FLASHRING_KERNEL_REFERENCE, drawScoreSplits(random, c.shape.kvLen), false);
        compareScores("scores, reference", seed, c, actual, expected, referenceBars(dtype), 1e-2, worst);
    }
    report("scores", dtype, "any", seeds, worst);
    return seeds;
}

// dim 0: any dims.
inline long checkScores(int32_t kernel, int32_t dtype, int64_t dim, int64_t longest, long seeds, uint64_t from) {
    Worst worst;
    for (uint64_t seed = from; seed < from + static_cast<uint64_t>(seeds); ++seed) {
        std::mt19937_64 random(seed);
        Case c = drawScoreCase(random, seed, dtype, dim, longest);
        if (seed % 5 == 4 && c.shape.batch && c.shape.kvLen) {  // what it spoils is computed again, row by row
            c.v.set(0, pick(random, 0, c.shape.kvLen - 1), 0, 0, NAN);
        }
        Results expected(c), actual(c);
        DeviceCase(c, expected).run(FLASHRING_KERNEL_REFERENCE, {}, false);
        DeviceCase(c, actual).run(kernel, drawScoreSplits(random, c.shape.kvLen), seed % 3 == 0);
        compareScores("scores", seed, c, actual, expected, mmaBars(dtype), dtype == FLASHRING_BFLOAT16 ? 1e-2 : 2e-3,
                      worst);
    }
    report("scores", dtype, dim ? std::to_string(dim).c_str() : "any", seeds, worst);
    return seeds;
}

inline long checkScoresOfDecode(int32_t dtype, long seeds, uint64_t from) {
    Worst worst;
    for (uint64_t seed = from; seed < from + static_cast<uint64_t>(seeds); ++seed) {
        std::mt19937_64 random(seed);
        Case c = drawCase(random, dtype, 60);
        const int64_t groups[] = {1, 3, 4, 8}, group = groups[pick(random, 0, 3)], keyHeads = pick(random, 1, 3);
        const int64_t queries = pick(random, 1, 8),
                      keys = pick(random, 0, 3) ? pick(random, 1, 3000) : pick(random, 0, 130);
        c.shape = {pick(random, 1, 4), queries, keys, keyHeads * group, keyHeads, c.shape.headDim, c.shape.valueDim};
        c.kvRanges = pick(random, 0, 1) ? std::vector<flashring_range>{{0, keys, 1}}
                                        : std::vector<flashring_range>{{0, keys / 2, 1}, {keys, keys - keys / 2, 2}};
        c.qRanges = {{pick(random, 0, 2 * keys), queries, 1}};
        c.mask = {};
        c.mask.right = pick(random, 0, 1) ? 0 : -1;
        c.draw(random);
        drawScores(c, random, static_cast<int32_t>(pick(random, 1, 7)));
        Results expected(c), actual(c);
        DeviceCase(c, expected).forward(FLASHRING_KERNEL_REFERENCE, {});
        DeviceCase(c, actual).forward(FLASHRING_KERNEL_DECODE, drawScoreSplits(random, keys));
        const int before = failures;
        compare("scores, decode", seed, c, actual, expected, mmaBars(dtype), dtype == FLASHRING_BFLOAT16 ? 1e-2 : 2e-3,
                worst);
        if (failures > before) std::fprintf(stderr, "  of %s\n", describeScores(c).c_str());
    }
    report("scores", dtype, "decode", seeds, worst);
    return seeds;
}

// The heads of latent attention, which go forward alone.
inline long checkLatent(int32_t dtype) {
    Case c;
    c.dtype = dtype;
    c.shape = {2, 3, 150, 8, 1, 576, 512};
    c.scale = 1 / std::sqrt(192.0);
    c.qRanges = {{147, 3, 1}};
    c.kvRanges = {{0, 150, 1}};
    c.mask.right = 0;
    std::mt19937_64 random(12);
    c.draw(random);
    Results expected(c), actual(c);
    Step step(c, expected, FLASHRING_KERNEL_REFERENCE, 0, c.shape.kvLen);
    CHECK(step.forward(FLASHRING_FINISH) == FLASHRING_OK, "%s", flashring_last_error());
    DeviceCase(c, actual).forward(FLASHRING_KERNEL_AUTO, {});
    Worst worst;
    compare("latent", 12, c, actual, expected, mmaBars(dtype), dtype == FLASHRING_BFLOAT16 ? 1e-2 : 2e-3, worst);
    return 1;
}

// ALiBi where all positions are far from 0: what only differences matter for.
inline long checkFarPositions(int32_t kernel, int32_t dtype) {
    Case near;
    near.dtype = dtype;
    near.shape = {1, 8, 200, 4, 2, 64, 64};
    near.scale = 0.125;
    near.slopes = {0.5, 0.25, 0.125, 0.0625};
    near.qRanges = {{150, 3, 1}, {170, 5, 2}};
    near.kvRanges = {{0, 100, 1}, {130, 100, 1}};
    std::mt19937_64 random(5);
    near.draw(random);
    Case far = near;
    for (std::vector<flashring_range>* ranges : {&far.qRanges, &far.kvRanges}) {
        for (flashring_range& range : *ranges) range.start += INT64_C(1) << 60;
    }
    Results expected(near), actual(far);
    DeviceCase(near, expected).forward(kernel, {});
    DeviceCase(far, actual).forward(kernel, {});
    CHECK(actual.out.sameBits(expected.out) && actual.lse.sameBits(expected.lse),
          "kernel %d, %s: ALiBi changes where all positions move", kernel, nameOf(dtype));
    return 1;
}

// ALiBi where a tile of keys straddles a gap that float32 does not resolve: queries of zeros, so that lse is that of
// -distance.
inline long checkGaps(int32_t kernel, int32_t dtype) {
    const int64_t gaps[] = {INT64_C(1) << 25, INT64_C(1) << 31, INT64_C(1) << 60};
    for (const int64_t gap : gaps) {
        Case c;
        c.dtype = dtype;
        c.shape = {1, 8, 64, 1, 1, 64, 64};
        c.slopes = {1};
        c.qRanges = {{5, 4, 1}, {gap + 5, 4, 1}};
        c.kvRanges = {{0, 32, 1}, {gap + 1, 32, 1}};
        std::mt19937_64 random(7);
        c.draw(random);
        c.q.fill(0);
        Results actual(c);
        DeviceCase(c, actual).forward(kernel, {});
        for (int64_t i = 0; i < 8; ++i) {
            double sum = 0;
            for (int64_t j = 0; j < 32; ++j)
                sum += std::exp(-std::fabs(static_cast<double>(i < 4 ? 5 + i - j : 4 + i - 4 - j)));
            CHECK(std::fabs(actual.lse.get(0, i, 0) - std::log(sum)) < 1e-5,
                  "kernel %d, %s: query %lld at a gap of %lld has lse %g instead of %g", kernel, nameOf(dtype),
                  static_cast<long long>(i), static_cast<long long>(gap), actual.lse.get(0, i, 0), std::log(sum));
        }
    }
    // Behind the last of two far ranges of keys, of which the first is too far to weigh anything.
    Case c;
    c.dtype = dtype;
    c.shape = {1, 1, 128, 1, 1, 64, 64};
    c.slopes = {0.0625};
    c.qRanges = {{(INT64_C(1) << 31) + 64, 1, 1}};
    c.kvRanges = {{0, 64, 1}, {INT64_C(1) << 31, 64, 1}};
    std::mt19937_64 random(8);
    c.draw(random);
    c.q.fill(0);
    Results actual(c);
    DeviceCase(c, actual).forward(kernel, {});
    double sum = 0;
    for (int64_t j = 0; j < 64; ++j) sum += std::exp(-0.0625 * static_cast<double>(64 - j));
    CHECK(std::fabs(actual.lse.get(0, 0, 0) - std::log(sum)) < 1e-5,
          "kernel %d, %s: lse behind far keys is %g instead of %g", kernel, nameOf(dtype), actual.lse.get(0, 0, 0),
          std::log(sum));
    return 4;
}

// The kernels on tensor cores leave softcaps beyond 256 to the reference.
inline long checkLargeSoftcap() {
    Case c;
    c.dtype = FLASHRING_BFLOAT16;
    c.shape = {1, 70, 70, 2, 2, 64, 64};
    c.softcap = 300;
    c.qRanges = c.kvRanges = {{0, 70, 1}};
    std::mt19937_64 random(6);
    c.draw(random);
    Results r(c);
    Step step(c, r, FLASHRING_KERNEL_MMA, 0, 70);
    step.raw.device = 0;
    int32_t row;
    CHECK(flashring_select(&step.raw, FLASHRING_FORWARD, &row) == FLASHRING_UNSUPPORTED &&
              std::strstr(flashring_last_error(), "softcap of up to 256"),
          "mma takes a softcap of 300: %s", flashring_last_error());
    step.raw.kernel = FLASHRING_KERNEL_AUTO;
    flashring_capability found{};
    found.size = sizeof found;
    CHECK(flashring_select(&step.raw, FLASHRING_BACKWARD, &row) == FLASHRING_OK &&
              flashring_capability_get(row, &found) == FLASHRING_OK && found.kernel == FLASHRING_KERNEL_REFERENCE,
          "a softcap of 300 goes to kernel %d", found.kernel);
    return 2;
}

inline long checkAllScores(long seeds, uint64_t from, int64_t longest) {
    long cases = checkLargeSoftcap();
    for (int32_t dtype = 0; dtype < 4; ++dtype) cases += checkScoresOfReference(dtype, seeds, from);
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) {
        for (const int64_t dim : {64, 96, 128, 192, 256, 0}) {
            for (const int32_t kernel : {FLASHRING_KERNEL_AUTO, FLASHRING_KERNEL_MMA}) {
                cases += checkScores(kernel, dtype, dim, longest, seeds, from);
            }
        }
        cases += checkScoresOfDecode(dtype, 2 * seeds, from);
        for (const int32_t kernel : {FLASHRING_KERNEL_REFERENCE, FLASHRING_KERNEL_MMA, FLASHRING_KERNEL_DECODE}) {
            cases += checkFarPositions(kernel, dtype) + checkGaps(kernel, dtype);
        }
    }
    return cases;
}

#endif
