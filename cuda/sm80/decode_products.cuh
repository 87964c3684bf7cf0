// The queries of a decode step and their products with keys.
#ifndef FLASHRING_CUDA_SM80_DECODE_PRODUCTS_CUH
#define FLASHRING_CUDA_SM80_DECODE_PRODUCTS_CUH

#include <cfloat>

#include "common/scores.cuh"
#include "sm80/decode_float8.cuh"
#include "sm80/decode_rows.cuh"
#include "sm80/mma.cuh"
#include "sm80/row_state.cuh"
#include "sm80/shape.cuh"

namespace flashring {

// A warp's 16 rows of queries as the left operand of products: rows l / 4 and l / 4 + 8 of columns 2 (l % 4) and 8
// further.
template <class Element, int kDim>
__device__ void loadQueries(uint32_t (&fragments)[kDim / 16][4], const DecodeArguments& a, int batch, int keyHead,
                            int firstRow) {
    const int lane = threadIdx.x % 32, dim = static_cast<int>(a.step.head_dim);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int r = firstRow + half * 8 + lane / 4;
        const Element* const q =
            r < a.rows ? row<const Element>(a.step.q, batch, r / a.group, keyHead * a.group + r % a.group) : nullptr;
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n) {
            const int col = n * 8 + lane % 4 * 2;
            uint32_t pair = 0;
            if (q && a.vectorInputs) {
                pair = col < dim ? *reinterpret_cast<const uint32_t*>(q + col) : 0;
            } else if (q) {
                pair = pack<Element>(col < dim ? static_cast<float>(q[col]) : 0,
                                     col + 1 < dim ? static_cast<float>(q[col + 1]) : 0);
            }
            fragments[n / 2][n % 2 * 2 + half] = pair;
        }
    }
}

// The scores of a warp's rows against a tile of keys.
template <class Element, int kDim, int kN, class Tile>
__device__ void multiplyKeys(float (&scores)[1][kN][4], const uint32_t (&queries)[kDim / 16][4], const Tile& keys) {
    const uint32_t base = baseOfB<Stored::AlongDepth>(keys, 0);
#pragma unroll
    for (int k = 0; k < kDim; k += 16) {
#pragma unroll
        for (int n = 0; n < kN; n += 2) {
            uint32_t pair[4];
            loadB<Stored::AlongDepth, Tile>(pair, base, n, k);
            mma<Element>(scores[0][n], queries[k / 16], pair[0], pair[1]);
            mma<Element>(scores[0][n + 1], queries[k / 16], pair[2], pair[3]);
        }
    }
}

// Products of a warp's rows and the keys from `key` on become scores. A row has a head, and so a slope, of its own.
template <int kN>
__device__ void shape(float (&scores)[1][kN][4], const DecodeArguments& a, int keyHead, int firstRow, int key) {
    const flashring_step& step = a.step;
    bound(scores, a.shape);
    if (!step.alibi_slopes) {
        return;
    }
    const Ranges queries(step.q_positions), keys(step.kv_positions);
    const int own = firstRow + static_cast<int>(threadIdx.x) % 32 / 4;
    const auto rowAt = [&](int half) { return min(own + half * 8, a.rows - 1); };
    const float slopes[2] = {slopeOf(step, keyHead * a.group + rowAt(0) % a.group),
                             slopeOf(step, keyHead * a.group + rowAt(1) % a.group)};
    takeDistances(
        scores, [&](int, int half) { return queries.positionOf(rowAt(half) / a.group); },
        [&](int, int half) { return slopes[half]; },
        [&](int col) { return keys.positionOf(min(int64_t{key} + col, step.kv_len - 1)); });
}

// Hides the columns of a tile that this lane's two rows do not see.
template <int kN>
__device__ void hide(float (&tile)[1][kN][4], const DecodeSeen& seen, const DecodePlace& place, int firstRow,
                     float hidden) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const DecodeSpan own = seen.byPacked(place.batch, firstRow + half * 8 + static_cast<int>(threadIdx.x) % 32 / 4);
        forEachPair(tile, 0, half, [&](int col, float& x, float& y) {
            x = own.has(place.key + col) ? x : hidden;
            y = own.has(place.key + col + 1) ? y : hidden;
        });
    }
}

// What makes infinity of the marks of markNonFinite() for those who see them.
template <int kN>
__device__ void markSeen(float (&weights)[1][kN][4], const DecodeSeen& seen, const DecodePlace& place, int firstRow) {
#pragma unroll
    for (auto& pair : weights[0]) {
        pair[0] = pair[1] = pair[2] = pair[3] = FLT_MAX / 2;
    }
    hide(weights, seen, place, firstRow, 0);
}

// Scores of a tile become weights, which the rows' sums get. `decay` is what earlier weights are worth then.
template <int kN>
__device__ __forceinline__ void weigh(float (&scores)[1][kN][4], RowState (&state)[2], float (&decay)[2],
                                      ScoreScale scale) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float top = -INFINITY;
        forEachPair(scores, 0, half, [&](int, float x, float y) { top = fmaxf(top, fmaxf(x, y)); });
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = scale.score(fmaxf(top, __shfl_xor_sync(~0u, top, 2)));
        const float before = state[half].maximum;
        state[half].maximum = fmaxf(before, top);
        decay[half] = state[half].maximum == before ? 1 : expDifference(before, state[half].maximum);
        const FarWeight weight{scale, shiftOf(state[half].maximum)};
        float sum = 0;
        forEachPair(scores, 0, half, [&](int, float& x, float& y) {
            x = weight(x);
            y = weight(y);
            sum += x + y;
        });
        state[half].sum = state[half].sum * decay[half] + sum;
    }
}

template <int kN>
__device__ __forceinline__ void multiplyRows(float (&out)[1][kN][4], const float (&factors)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        forEachPair(out, 0, half, [&](int, float& x, float& y) {
            x *= factors[half];
            y *= factors[half];
        });
    }
}

// Leaves the state of this lane's two rows for the merge, the output times `factor`. kFours: columns lie as
// forEachFour() has them.
template <bool kFours, int kN>
__device__ __forceinline__ void leaveState(const DecodeArguments& a, float (&out)[1][kN][4], const RowState (&state)[2],
                                           int part, int batch, int keyHead, int firstRow, float factor = 1) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int r = firstRow + half * 8 + lane / 4;
        float sum = state[half].sum;
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if (r >= a.rows) {
            continue;
        }
        const float own = (sum == 0 ? 0 : 1 / sum) * factor;
        const int64_t place = a.state(part, batch, keyHead, r);
        float* const target = a.out + place * (kN * 8);
        if (lane % 4 == 0) {
            const Lse lse = sum == 0 ? Lse{-INFINITY, 0} : addLog(state[half].maximum, logf(sum));
            a.lse[place] = {lse.high, lse.low};
        }
        if constexpr (kFours) {
            forEachFour(out, half, [&](int col, const float4& x) {
                *reinterpret_cast<float4*>(target + col) = {x.x * own, x.y * own, x.z * own, x.w * own};
            });
        } else {
            forEachPair(out, 0, half, [&](int col, float x, float y) {
                *reinterpret_cast<float2*>(target + col) = {x * own, y * own};
            });
        }
    }
}

// What outputs of bytes are to be multiplied with.
__device__ inline float float8OutputFactor(const flashring_step& step, int keyHead) {
    return scaleOfHead(step.v_scales, keyHead) / kWeightFactor;
}

}  // namespace flashring

#endif
