// The queries of a decode step and their products with keys.
#ifndef FLASHRING_CUDA_SM80_DECODE_PRODUCTS_CUH
#define FLASHRING_CUDA_SM80_DECODE_PRODUCTS_CUH

#include "common/scores.cuh"
#include "common/sight.cuh"
#include "sm80/decode.h"
#include "sm80/mma.cuh"
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

}  // namespace flashring

#endif
