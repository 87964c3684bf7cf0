// Softcap and ALiBi on a warpgroup's scores. Most blocks go a short way, from products to weights at once; the others
// have their scores finished in place (shaping.cuh) and go on as plain ones do.
#ifndef FLASHRING_CUDA_SM90_SHAPED_CUH
#define FLASHRING_CUDA_SM90_SHAPED_CUH

#include "common/shaping.cuh"
#include "sm90/arguments.h"
#include "sm90/softmax.cuh"

namespace flashring {

// The weight of a product under a softcap, by the curve that holds for small ones. `largest` tells whether they were.
struct CappedWeight {
    const float (&terms)[CapCurve::kTerms];
    float shift;  // the reference times log2(e)
    float& largest;

    __device__ __forceinline__ float operator()(float product) const {
        const float square = __fmul_rn(product, product);
        largest = fmaxf(largest, fabsf(product));
        float slope = terms[CapCurve::kTerms - 1];
#pragma unroll
        for (int i = CapCurve::kTerms - 2; i >= 0; --i) {
            slope = fmaf(square, slope, terms[i]);
        }
        return exp2Fast(fmaf(product, slope, -shift));
    }
};

// How far this lane's two rows, of queries `query` and `query` + 8, are from a block of keys that starts at `key`.
// Keys and rows that do not exist do as their neighbours.
struct KeyDistances {
    bool even;       // the keys' positions are an arithmetic sequence, short enough for float32
    float stride;    // between them
    float first[2];  // the position of the row less that of the first key

    __device__ __forceinline__ KeyDistances(const Arguments& a, int query, int key, int keys) {
        const int lastQuery = static_cast<int>(a.step.q_len) - 1, lastKey = static_cast<int>(a.step.kv_len) - 1;
        const int begin = max(key, 0), end = min(key + keys - 1, lastKey);
        const int64_t start = a.keyPositions[begin], length = a.keyPositions[end] - start;
        int64_t step = 1;
        even = length == end - begin;  // positions ascend
        if (!even && a.step.kv_positions.count == 1) {
            step = a.step.kv_positions.ranges[0].stride;
            even = step <= kLargestStride;
        }
        stride = static_cast<float>(step);
        const int64_t shift = start - (begin - key) * step;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int own = min(max(query + half * 8, 0), lastQuery);
            first[half] = static_cast<float>(a.queryPositions[own] - shift);
        }
    }

    // 1 where no row of the warp is before any of the keys, -1 where none is behind any, else 0.
    __device__ __forceinline__ int side(int keys) const {
        const float reach = static_cast<float>(keys) * stride;
        return __all_sync(~0u, even && first[0] >= reach && first[1] >= reach)  ? 1
               : __all_sync(~0u, even && first[0] <= 0 && first[1] <= 0) ? -1
                                                                        : 0;
    }

private:
    static constexpr int64_t kLargestStride = 1 << 15;  // a block's keys are less than 2^22 apart
};

// Finished scores from products, in place.
template <Shaping kShaping, int kKeys>
__device__ __forceinline__ void finishScores(float (&scores)[kKeys / 2], const Arguments& a, int head, int query,
                                             int key) {
    if constexpr (kShaping == Shaping::Softcap) {
        const Softcap softcap{a.shape.softcap, a.shape.exponent};
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i) {
            scores[i] = softcap.score(softcap.rest(scores[i]));
        }
        return;
    }
    const float slope = slopeOf(a.step, head);
    const int pair = threadIdx.x % 4 * 2;
    const KeyDistances distances(a, query, key, kKeys);
    if (distances.even) {
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i) {
            const float column = static_cast<float>(pair + i / 4 * 8 + i % 2);
            const float distance = fabsf(fmaf(-distances.stride, column, distances.first[i / 2 % 2]));
            scores[i] = fmaf(-slope, distance, __fmul_rn(scores[i], a.shape.scale));
        }
        return;
    }
    const int lastQuery = static_cast<int>(a.step.q_len) - 1, lastKey = static_cast<int>(a.step.kv_len) - 1;
    const int64_t rows[2] = {a.queryPositions[min(max(query, 0), lastQuery)],
                             a.queryPositions[min(max(query + 8, 0), lastQuery)]};
#pragma unroll
    for (int n = 0; n < kKeys / 4; ++n) {
        const int64_t position = a.keyPositions[min(max(key + pair + n / 2 * 8 + n % 2, 0), lastKey)];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float& score = scores[n / 2 * 4 + half * 2 + n % 2];
            score = withDistance(__fmul_rn(score, a.shape.scale), slope, rows[half], position);
        }
    }
}

// The same of one score, of any kernel.
template <Shaping kShaping>
__device__ __forceinline__ float finishedScore(float product, const Arguments& a, int head, int query, int key) {
    if constexpr (kShaping == Shaping::Softcap) {
        const Softcap softcap{a.shape.softcap, a.shape.exponent};
        return softcap.score(softcap.rest(product));
    } else if constexpr (kShaping == Shaping::Alibi) {
        return withDistance(__fmul_rn(product, a.shape.scale), slopeOf(a.step, head), a.queryPositions[query],
                            a.keyPositions[key]);
    } else {
        return scaleOf(a).score(product);
    }
}

constexpr float kLog2E = static_cast<float>(M_LOG2E);

// The same number, kept in a register: what a product multiplies from elsewhere takes twice the time.
__device__ __forceinline__ float inRegister(float x) {
    asm("" : "+f"(x));
    return x;
}

// The short ways: they take a block of products that all rows see into the state, as advance() does with finished
// scores. False, and nothing has changed, where they do not lead there.
template <class Element, int kKeys, bool kRoom>
__device__ __forceinline__ bool advanceCapped(const float (&products)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                              SoftmaxRow (&state)[2], const CapCurve& curve) {
    const float shifts[2] = {shiftOf(state[0]), shiftOf(state[1])};
    float terms[CapCurve::kTerms], largest = 0;
#pragma unroll
    for (int i = 0; i < CapCurve::kTerms; ++i) {
        terms[i] = kRoom ? inRegister(curve.terms[i]) : curve.terms[i];
    }
    const CappedWeight capped[2] = {{terms, shifts[0] * kLog2E, largest}, {terms, shifts[1] * kLog2E, largest}};
    float2 sums = weigh<Element, kKeys>(products, weights, capped);
    sums.x = largest <= curve.reach ? sums.x : INFINITY;  // which does not fit
    return takeSums(state, sums, shifts, {true, true});
}

// Under ALiBi: the exponent of a product is scale * log2(e) times it, and what the key's column adds to the row's start.
template <class Element, int kKeys>
__device__ __forceinline__ bool advanceDistant(const float (&products)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                               SoftmaxRow (&state)[2], float scale, const float (&start)[2],
                                               float growth) {
    const float shifts[2] = {shiftOf(state[0]), shiftOf(state[1])}, scaleLog2 = inRegister(scale * kLog2E);
    float sums[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float first = fmaf(shifts[half], -kLog2E, start[half]);
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
            const auto weight = [&](int e) {
                const float distance = fmaf(growth, static_cast<float>(n * 8 + e), first);
                return exp2Fast(fmaf(products[n * 4 + half * 2 + e], scaleLog2, distance));
            };
            const float x = weight(0), y = weight(1);
            sums[half] += x;
            sums[half] += y;
            weights[n / 2][n % 2 * 2 + half] = pack<Element>(x, y);
        }
    }
    return takeSums(state, {sums[0], sums[1]}, shifts, {true, true});
}

// Whether the short way is open to a block of keys: 1 or -1, the side of the rows that it is on, else 0. Leaves what
// the distance to this lane's first column takes from the exponents of its rows, and what each column further adds.
template <int kKeys>
__device__ __forceinline__ int approach(const Arguments& a, int head, int query, int key, float (&start)[2],
                                        float& growth) {
    const KeyDistances distances(a, query, key, kKeys);
    const int side = distances.side(kKeys);
    const float slope = slopeOf(a.step, head) * kLog2E * static_cast<float>(side);
    growth = slope * distances.stride;
    start[0] = fmaf(growth, static_cast<float>(threadIdx.x % 4 * 2), -slope * distances.first[0]);
    start[1] = fmaf(growth, static_cast<float>(threadIdx.x % 4 * 2), -slope * distances.first[1]);
    return fabsf(growth) * kKeys <= kFarScore ? side : 0;
}

}  // namespace flashring

#endif
