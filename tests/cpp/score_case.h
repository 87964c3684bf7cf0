// Random scores for a case: softcap, sinks, ALiBi.
#ifndef FLASHRING_TESTS_SCORE_CASE_H
#define FLASHRING_TESTS_SCORE_CASE_H

#include "attention_case.h"

// `drawn` says which: bits of flashring_score.
inline void drawScores(Case& c, std::mt19937_64& random, int32_t drawn) {
    const auto uniform = [&](double from, double to) {
        return std::uniform_real_distribution<double>(from, to)(random);
    };
    if (drawn & FLASHRING_SOFTCAP) c.softcap = std::exp(uniform(-1, 4));  // scores are of order 1
    for (int64_t h = 0; h < c.shape.qHeads; ++h) {
        // Exact in float32, so that all kernels see the same numbers.
        if (drawn & FLASHRING_SINKS)
            c.sinks.push_back(pick(random, 0, 5) ? static_cast<float>(uniform(-3, 5)) : -INFINITY);
        if (drawn & FLASHRING_ALIBI)
            c.slopes.push_back(pick(random, 0, 5) ? static_cast<float>(std::exp(uniform(-7, 0))) : 0);
    }
}

inline std::string describeScores(const Case& c) {
    return "softcap " + std::to_string(c.softcap) + " sinks " + std::to_string(c.sinks.size()) + " slopes " +
           std::to_string(c.slopes.size()) + " " + c.describe();
}

// How much further than a result dsinks may be off: they are sums of a delta for each row.
inline double sinkTerms(const Case& c) {
    return std::sqrt(std::max(1.0, static_cast<double>(c.shape.batch * c.shape.qLen)));
}

#endif
