// The query side of the backward pass on AMX tiles: operands that every tile of keys reads, packed once, and the sum of
// dQ.
#ifndef FLASHRING_AMX_QUERIES_H
#define FLASHRING_AMX_QUERIES_H

#include "amx/pack.h"
#include "kernels.h"

namespace flashring {
namespace {

constexpr int64_t kStep = kTileDepth;
constexpr int64_t kKeySteps = 4;                       // a tile of keys: 128
constexpr int64_t kKeyTile = kKeySteps * kStep;
constexpr int64_t kQuerySteps = 4;                     // a tile of queries: 128
constexpr int64_t kQueryTile = kQuerySteps * kStep;
constexpr int64_t kMaxDepth = kCommonHeadDim / kTileDepth;

// Steps that `rows` rows take, at most `most`.
static inline int64_t stepsOf(int64_t rows, int64_t most) { return rows < most * kStep ? ceilDiv(rows, kStep) : most; }

// target = factor values, or += it, for the first `count` lanes.
static inline void writeRow(float* target, int64_t count, __m512 values, float factor, bool add) {
    const __mmask16 lanes = firstLanes16(count);
    __m512 result = _mm512_mul_ps(values, _mm512_set1_ps(factor));
    if (add) {
        result = _mm512_add_ps(result, _mm512_maskz_loadu_ps(lanes, target));
    }
    _mm512_mask_storeu_ps(target, lanes, result);
}

// One tile of queries of one head, in the workspace.
struct QueryTile {
    Tile* queryColumns;    // [2 kQuerySteps][keyDepth]
    Tile* doutColumns;     // [2 kQuerySteps][valueDepth]
    Tile* queryPairs;      // [kQuerySteps][2 keyDepth]
    Tile* doutPairs;       // [kQuerySteps][2 valueDepth]
    Tile* gradient;        // dQ^T float32 [2 keyDepth][2 steps in use]
    struct Statistics {
        alignas(64) float lse[kQueryTile];     // +infinity where the query sees nothing
        alignas(64) float delta[kQueryTile];
        int32_t turn;                          // the tile of keys that adds to `gradient` next
    }* statistics;
};

class Queries {
public:
    struct Range {
        int64_t begin, end;
    };

    const int64_t keyDepth, valueDepth;  // tiles of head_dim and value_dim
    const int64_t tiles;                 // of queries, per head

    Queries(const flashring_step& step, const Problem* problem)
        : keyDepth(ceilDiv(step.head_dim, kTileDepth)),
          valueDepth(ceilDiv(step.value_dim, kTileDepth)),
          tiles(ceilDiv(step.q_len, kQueryTile)),
          step_(step),
          problem_(problem) {}

    int64_t bytes() const { return step_.batch * step_.q_heads * tiles * tileBytes(); }

    // The tiles of keys that a tile of queries sees.
    Range keyTiles(int64_t tile) const {
        const int64_t first = tile * kQueryTile,
                      end = first + kQueryTile < step_.q_len ? first + kQueryTile : step_.q_len;
        const int64_t lo = problem_->lo[first], hi = problem_->hi[end - 1];
        return lo < hi ? Range{lo / kKeyTile, ceilDiv(hi, kKeyTile)} : Range{0, 0};
    }

    QueryTile tile(int64_t b, int64_t h, int64_t index) const {
        char* const base = problem_->workspace + ((b * step_.q_heads + h) * tiles + index) * tileBytes();
        Tile* const queryColumns = reinterpret_cast<Tile*>(base);
        Tile* const doutColumns = queryColumns + 2 * kQuerySteps * keyDepth;
        Tile* const queryPairs = doutColumns + 2 * kQuerySteps * valueDepth;
        Tile* const doutPairs = queryPairs + 2 * kQuerySteps * keyDepth;
        Tile* const gradient = doutPairs + 2 * kQuerySteps * valueDepth;
        Tile* const end = gradient + 4 * kQuerySteps * keyDepth;
        return {queryColumns, doutColumns, queryPairs,
                doutPairs,    gradient,    reinterpret_cast<QueryTile::Statistics*>(end)};
    }

    void pack(int64_t b, int64_t h, int64_t index) const {
        const QueryTile packed = tile(b, h, index);
        const Rows queries{row<const uint16_t>(step_.q, b, 0, h), step_.q.stride_seq, step_.q_len, step_.head_dim};
        const Rows douts{row<const uint16_t>(step_.dout, b, 0, h), step_.dout.stride_seq, step_.q_len, step_.value_dim};
        const int64_t first = index * kQueryTile;
        const int64_t steps = stepsOf(step_.q_len - first, kQuerySteps);
        for (int64_t i = 0; i < 2 * steps; ++i) {
            packColumns(packed.queryColumns + i * keyDepth, queries, first + i * kTileRows);
            packColumns(packed.doutColumns + i * valueDepth, douts, first + i * kTileRows);
        }
        for (int64_t s = 0; s < steps; ++s) {
            packPairs(packed.queryPairs + s * 2 * keyDepth, nullptr, queries, first + s * kStep);
            packPairs(packed.doutPairs + s * 2 * valueDepth, nullptr, douts, first + s * kStep);
        }
        QueryTile::Statistics& statistics = *packed.statistics;
        for (int64_t i = 0; i < kQueryTile; ++i) {
            const bool real = first + i < step_.q_len;
            const float lse = real ? *row<const float>(step_.lse, b, first + i, h) : -INFINITY;
            statistics.lse[i] = lse == -INFINITY ? INFINITY : lse;
            statistics.delta[i] = real ? *row<const float>(step_.delta, b, first + i, h) : 0;
        }
        statistics.turn = static_cast<int32_t>(keyTiles(index).begin);
    }

    // dQ of one tile from its sum.
    void finish(int64_t b, int64_t h, int64_t index) const {
        const QueryTile packed = tile(b, h, index);
        const float scale = static_cast<float>(step_.softmax_scale);
        const Range sees = keyTiles(index);
        const bool add = step_.flags & FLASHRING_ADD_DQ;
        const int64_t columns = 2 * stepsOf(step_.q_len - index * kQueryTile, kQuerySteps);
        for (int64_t d = 0; d < 2 * keyDepth; ++d) {
            for (int64_t j = 0; j < columns; ++j) {
                __m512i words[16] = {};
                if (sees.begin < sees.end) {
                    loadTile(words, packed.gradient + d * columns + j);
                    transpose(words);
                }
                const int64_t first = index * kQueryTile + j * kTileRows;
                for (int64_t i = 0; i < kTileRows && first + i < step_.q_len; ++i) {
                    writeRow(row<float>(step_.dq, b, first + i, h) + d * kTileRows, step_.head_dim - d * kTileRows,
                             _mm512_castsi512_ps(words[i]), scale, add);
                }
            }
        }
    }

private:
    int64_t tileBytes() const {
        return kQuerySteps * (8 * keyDepth + 4 * valueDepth) * static_cast<int64_t>(sizeof(Tile)) +
               static_cast<int64_t>(sizeof(QueryTile::Statistics));
    }

    const flashring_step& step_;
    const Problem* const problem_;  // null where only bytes() is asked
};

}  // namespace
}  // namespace flashring

#endif
