// What other libraries got wrong in steps over caches, by the numbers of their reports, for whoever runs such steps:
// forward(c) returns what a step leaves, near(c, fault, actual, expected) checks that.
#ifndef FLASHRING_TESTS_CACHE_FAULTS_H
#define FLASHRING_TESTS_CACHE_FAULTS_H

#include "cache_case.h"

// Queries that are a part of packed q, k and v were read as if nothing lay between them (FlashInfer 4625).
template <class Forward>
long queriesOfPackedQkv(int32_t dtype, const Forward& forward) {
    CacheCase c = smallCase(dtype, {1500, 1, 64, 700}, 1500), packed = c;
    packed.q = Buffer(dtype, c.batch, c.queries, c.heads() + 2 * c.keyHeads, c.headDim, Order::BSHD);
    c.q.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) { packed.q.set(b, s, h, d, c.q.get(b, s, h, d)); });
    const Outcome expected = forward(c);
    for (int repeat = 0; repeat < 2; ++repeat) {  // what one call knows of strides must not serve the next
        CHECK(forward(packed).sameBits(expected), "FlashInfer 4625: %s: packed", c.describe().c_str());
        CHECK(forward(c).sameBits(expected), "FlashInfer 4625: %s: apart again", c.describe().c_str());
    }
    return 4;
}

// What merges the parts of a row wrote beside outputs in the order that people use most (FlagGems 5235).
template <class Forward>
long outputsInAnyOrder(int32_t dtype, const Forward& forward) {
    CacheCase c = smallCase(dtype, {3000, 2900}, 3000, 4, 3);
    const Outcome expected = forward(c);
    for (const Order order : {Order::BSHD, Order::BHSD}) {
        c.outOrder = order;
        const Outcome actual = forward(c);
        checkClose("FlagGems 5235: " + c.describe(), "out", actual.out, expected.out, 0);
        CHECK(actual.lse.sameBits(expected.lse), "FlagGems 5235: %s: lse", c.describe().c_str());
    }
    return 2;
}

// Finite scores below -50,000 were taken for hidden ones (FlashInfer 4450).
template <class Forward, class Near>
long scoresFarBelowZero(int32_t dtype, const Forward& forward, const Near& near) {
    CacheCase c = smallCase(dtype, {40, 1, 1030}, 1030);
    c.scale = 1;
    c.q.fill(64);
    c.k.fill(-64);
    c.hide(NAN);
    near(c, "FlashInfer 4450", forward(c), oracle(c));
    return 1;
}

// A sink counted twice where the first parts of the keys are empty, by their begin or by a window (ROCm 12227).
template <class Forward, class Near>
long sinkBehindEmptyParts(int32_t dtype, const Forward& forward, const Near& near) {
    for (const int64_t left : {-1, 40}) {
        CacheCase c = smallCase(dtype, {3000, 2500}, 3000);
        c.sinks = {0.5, -1, 3, -INFINITY, 0, 7, 1.25, 2};
        c.left = left;
        if (left < 0) c.begins = {2700, 2100};
        c.hide(NAN);
        near(c, "ROCm 12227", forward(c), oracle(c));
    }
    return 2;
}

// Queries without keys among others: their outputs were not written (FlashInfer 4975), their lse was written into
// another row's place (FlashAttention 2842) or finite (FlashInfer 4452).
template <class Forward, class Near>
long queriesWithoutKeys(int32_t dtype, const Forward& forward, const Near& near) {
    CacheCase c = smallCase(dtype, {700, 0, 1, 0, 64}, 700, 4, 3);
    c.queryLengths = {3, 3, 3, 0, 1};
    c.hide(NAN);
    near(c, "FlashInfer 4452, 4975, FlashAttention 2842", forward(c), oracle(c));
    return 1;
}

template <class Forward, class Near>
long cacheFaults(int32_t dtype, const Forward& forward, const Near& near) {
    return queriesOfPackedQkv(dtype, forward) + outputsInAnyOrder(dtype, forward) +
           scoresFarBelowZero(dtype, forward, near) + sinkBehindEmptyParts(dtype, forward, near) +
           queriesWithoutKeys(dtype, forward, near);
}

#endif
