// Softcap and ALiBi on a warpgroup's scores. Most blocks go a short way, from products to weights at once; the others
// have their scores finished in place (shaping.cuh) and go on as plain ones do.
#ifndef FLASHRING_CUDA_SM90_SHAPED_CUH
#define FLASHRING_CUDA_SM90_SHAPED_CUH

#include "common/shaping.cuh"
#include "sm90/arguments.h"
#include "sm90/softmax.cuh"

namespace flashring {

// The weight of a product under a softcap, by the curve that holds for small ones. `reach` sums fourth powers, which
// tells whether all of a row's were small.
struct CappedWeight {
    const CapCurve& curve;
    float shift;  // the reference times log2(e)
    float& reach;

    __device__ __forceinline__ float operator()(float product) const {
        const float square = __fmul_rn(product, product);
        reach = fmaf(square, square, reach);
        float slope = curve.terms[CapCurve::kTerms - 1];
#pragma unroll
        for (int i = CapCurve::kTerms - 2; i >= 0; --i) {
            slope = fmaf(square, slope, curve.terms[i]);
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

// The weight of a product of key `column` of a block under ALiBi, all of whose keys are on one side of the row.
struct DistantWeight {
    float scaleLog2, start, growth;  // of the exponent: of the product, at this lane's first column, a column

    __device__ __forceinline__ float operator()(float product, int column) const {
        return exp2Fast(fmaf(product, scaleLog2, fmaf(growth, static_cast<float>(column), start)));
    }
};

// Finished scores from products, in place.
template <int kKeys>
__device__ __forceinline__ void finishScores(float (&scores)[kKeys / 2], const Arguments& a, int head, int query,
                                             int key) {
    if (a.shape.softcap != 0) {
        const Softcap softcap{a.shape.softcap, a.shape.exponent};
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i) {
            scores[i] = softcap.score(softcap.rest(scores[i]));
        }
    } else {
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i) {
            scores[i] = __fmul_rn(scores[i], a.shape.scale);
        }
    }
    if (!a.keyPositions) {
        return;
    }
    const float slope = slopeOf(a.step, head);
    const int pair = threadIdx.x % 4 * 2;
    const KeyDistances distances(a, query, key, kKeys);
    if (distances.even) {
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i) {
            const float column = static_cast<float>(pair + i / 4 * 8 + i % 2);
            scores[i] = fmaf(-slope, fabsf(fmaf(-distances.stride, column, distances.first[i / 2 % 2])), scores[i]);
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
            score = withDistance(score, slope, rows[half], position);
        }
    }
}

// The same of one score.
__device__ __forceinline__ float finishedScore(float product, const Arguments& a, int head, int query, int key) {
    const Softcap softcap{a.shape.softcap, a.shape.exponent};
    const float score =
        a.shape.softcap != 0 ? softcap.score(softcap.rest(product)) : __fmul_rn(product, a.shape.scale);
    return a.keyPositions
               ? withDistance(score, slopeOf(a.step, head), a.queryPositions[query], a.keyPositions[key])
               : score;
}

// The short way: takes a block of products that all rows see into the state, as advance() does with finished scores.
// False, and nothing has changed, where it does not lead there.
template <class Element, int kKeys>
__device__ __forceinline__ bool advanceUnfinished(const float (&products)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4],
                                                  SoftmaxRow (&state)[2], const HopperArguments& h, int head, int query,
                                                  int key) {
    const float shifts[2] = {shiftOf(state[0]), shiftOf(state[1])};
    constexpr float kLog2E = static_cast<float>(M_LOG2E);
    constexpr bool kSeen[2] = {true, true};
    if (!h.a.keyPositions) {
        float reach[2] = {};
        const CappedWeight capped[2] = {{h.curve, shifts[0] * kLog2E, reach[0]}, {h.curve, shifts[1] * kLog2E, reach[1]}};
        float2 sums = weigh<Element, kKeys>(products, weights, capped);
        sums.x = reach[0] <= h.curve.reach ? sums.x : INFINITY;  // which does not fit
        sums.y = reach[1] <= h.curve.reach ? sums.y : INFINITY;
        return takeSums(state, sums, shifts, kSeen);
    }
    if (h.a.shape.softcap != 0) {
        return false;
    }
    const KeyDistances distances(h.a, query, key, kKeys);
    const int side = distances.side(kKeys);
    const float slope = slopeOf(h.a.step, head) * kLog2E * static_cast<float>(side);
    const float growth = slope * distances.stride;
    if (side == 0 || fabsf(growth) * kKeys > kFarScore) {
        return false;
    }
    const float scaleLog2 = h.a.shape.scale * kLog2E, pair = static_cast<float>(threadIdx.x % 4 * 2);
    float sums[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float start = fmaf(growth, pair, fmaf(-slope, distances.first[half], -shifts[half] * kLog2E));
        const DistantWeight weight{scaleLog2, start, growth};
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
            const float x = weight(products[n * 4 + half * 2], n * 8),
                        y = weight(products[n * 4 + half * 2 + 1], n * 8 + 1);
            sums[half] += x;
            sums[half] += y;
            weights[n / 2][n % 2 * 2 + half] = pack<Element>(x, y);
        }
    }
    return takeSums(state, {sums[0], sums[1]}, shifts, kSeen);
}

}  // namespace flashring

#endif
