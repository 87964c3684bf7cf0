// Softcap and ALiBi on the scores of a warp.
#ifndef FLASHRING_CUDA_SM80_SHAPE_CUH
#define FLASHRING_CUDA_SM80_SHAPE_CUH

#include "common/shaping.cuh"
#include "sm80/mma.cuh"

namespace flashring {

// Calls each(x) for every score.
template <int kM, int kN, class Each>
__device__ __forceinline__ void forEachScore(float (&scores)[kM][kN][4], const Each& each) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            forEachPair(scores, m, half, [&](int, float& x, float& y) {
                each(x);
                each(y);
            });
        }
    }
}

// Products become scores bounded by the softcap, or scaled.
template <int kM, int kN>
__device__ __forceinline__ void bound(float (&scores)[kM][kN][4], const ScoreShape& shape) {
    if (shape.softcap != 0) {
        const Softcap softcap{shape.softcap, shape.exponent};
        forEachScore(scores, [&](float& x) { x = softcap.score(softcap.rest(x)); });
    } else {
        forEachScore(scores, [&](float& x) { x = __fmul_rn(x, shape.scale); });
    }
}

// Takes ALiBi's part from scores. queryAt(m, half) and slopeAt(m, half) are position and slope of this lane's rows,
// keyAt(col) the position of a column.
template <int kM, int kN, class QueryAt, class SlopeAt, class KeyAt>
__device__ __forceinline__ void takeDistances(float (&scores)[kM][kN][4], const QueryAt& queryAt,
                                              const SlopeAt& slopeAt, const KeyAt& keyAt) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {  // keys inside are loaded again for each m, as registers are scarce
        const int64_t queries[2] = {queryAt(m, 0), queryAt(m, 1)};
#pragma unroll
        for (int n = 0; n < kN; ++n) {
            const int col = n * 8 + threadIdx.x % 4 * 2;
            const int64_t keys[2] = {keyAt(col), keyAt(col + 1)};
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                scores[m][n][e] = withDistance(scores[m][n][e], slopeAt(m, e / 2), queries[e / 2], keys[e % 2]);
            }
        }
    }
}

// The same from positions in memory: of queries firstQuery + m * 16 + half * 8 + lane / 4, and keys firstKey + col.
// Past the ends it does as the last one does.
template <int kM, int kN>
__device__ __forceinline__ void takeDistances(float (&scores)[kM][kN][4], const Arguments& a, int head, int firstQuery,
                                              int firstKey) {
    const float slope = slopeOf(a.step, head);
    const int lastQuery = static_cast<int>(a.step.q_len) - 1, lastKey = static_cast<int>(a.step.kv_len) - 1;
    const int own = firstQuery + static_cast<int>(threadIdx.x) % 32 / 4;
    takeDistances(
        scores, [&](int m, int half) { return a.queryPositions[min(own + m * 16 + half * 8, lastQuery)]; },
        [&](int, int) { return slope; }, [&](int col) { return a.keyPositions[min(firstKey + col, lastKey)]; });
}

}  // namespace flashring

#endif
