// Backward on AMX tiles: one task per tile of keys, scores and their gradients transposed (keys in rows, queries in
// lanes):
//
//     S^T = K Q^T    dP^T = V dO^T    P = e^(scale S - lse)    dS = P (dP - delta)
//     dV += P^T dO    dK += dS^T Q    dQ^T += K^T dS^T
//
// Tasks that share queries add to dQ in the order of their keys, whatever the threads do: the sum has the same bits
// always.
#include <sched.h>

#include "amx/kernel.h"
#include "amx/nonfinite.h"
#include "amx/queries.h"
#include "threads.h"

namespace flashring {
namespace {

struct Scratch {
    Tile keyRows[2 * kKeySteps][kMaxDepth];
    Tile valueRows[2 * kKeySteps][kMaxDepth];
    Tile keyPairColumns[kKeySteps][2 * kMaxDepth];
    Tile scores[2][2], weightGradients[2][2];                 // S^T and dP^T of 32 keys and 32 queries
    Tile weights[2 * kKeySteps][kQuerySteps];                 // P^T as A operand
    Tile scoreGradientRows[2 * kKeySteps][kQuerySteps];       // dS^T as A operand
    Tile scoreGradientPairs[2 * kQuerySteps][kKeySteps];      // dS^T as B operand
    Tile dk[2 * kKeySteps][2 * kMaxDepth], dv[2 * kKeySteps][2 * kMaxDepth];
    bool keysNonFinite;
};
static_assert(sizeof(Scratch) <= kScratchBytes, "the backward scratch fits");

class Backward {
public:
    Backward(const Problem& problem, const Queries& queries)
        : problem_(problem),
          step_(problem.step),
          queries_(queries),
          scale_(static_cast<float>(problem.step.softmax_scale)) {}

    // dK and dV of one tile of keys, and its share of dQ.
    void attend(int64_t b, int64_t g, int64_t tile, Scratch& scratch) const {
        const TileScope scope;
        packKeys(b, g, tile, scratch);
        const int64_t keySteps = stepsOf(step_.kv_len - tile * kKeyTile, kKeySteps);
        for (int64_t i = 0; i < 2 * keySteps; ++i) {
            clear(scratch.dk[i], 2 * queries_.keyDepth);
            clear(scratch.dv[i], 2 * queries_.valueDepth);
        }
        const int64_t group = step_.q_heads / step_.kv_heads;
        for (int64_t h = g * group; h < (g + 1) * group; ++h) {
            for (int64_t t = 0; t < queries_.tiles; ++t) {
                const Queries::Range sees = queries_.keyTiles(t);
                if (sees.begin <= tile && tile < sees.end) {
                    advance(pairOf(b, h, t, tile), tile, tile == sees.begin, scratch);
                }
            }
        }
        const bool add = step_.flags & FLASHRING_ADD_DKV;
        for (int64_t i = 0; i < 2 * keySteps; ++i) {
            writeRows(step_.dk, b, g, tile * kKeyTile + i * kTileRows, step_.head_dim, scratch.dk[i], scale_, add);
            writeRows(step_.dv, b, g, tile * kKeyTile + i * kTileRows, step_.value_dim, scratch.dv[i], 1, add);
        }
    }

private:
    void packKeys(int64_t b, int64_t g, int64_t tile, Scratch& scratch) const {
        const Rows keys{row<const uint16_t>(step_.k, b, 0, g), step_.k.stride_seq, step_.kv_len, step_.head_dim};
        const Rows values{row<const uint16_t>(step_.v, b, 0, g), step_.v.stride_seq, step_.kv_len, step_.value_dim};
        scratch.keysNonFinite = false;
        for (int64_t s = 0; s < stepsOf(step_.kv_len - tile * kKeyTile, kKeySteps); ++s) {
            const int64_t first = tile * kKeyTile + s * kStep;
            for (int64_t i = 0; i < 2; ++i) {
                packRows(scratch.keyRows[2 * s + i], keys, first + i * kTileRows);
                packRows(scratch.valueRows[2 * s + i], values, first + i * kTileRows);
            }
            packPairs(nullptr, scratch.keyPairColumns[s], keys, first);
            scratch.keysNonFinite =
                scratch.keysNonFinite || anyNonFinite(scratch.keyPairColumns[s], 2 * queries_.keyDepth);
        }
    }

    static void clear(Tile* tiles, int64_t count) {
        const __m512i zeros[16] = {};
        for (int64_t i = 0; i < count; ++i) {
            storeTile(tiles + i, zeros);
        }
    }

    // A tile of queries and a tile of keys that meet.
    struct Pair {
        QueryTile queries;
        int64_t firstQuery, count, querySteps;
        int64_t firstKey, begin, end;  // steps [begin, end) of the keys are seen
        bool border;                   // not every query sees all of them
    };

    Pair pairOf(int64_t b, int64_t h, int64_t queryTile, int64_t keyTile) const {
        const int64_t firstQuery = queryTile * kQueryTile, firstKey = keyTile * kKeyTile;
        const int64_t count = step_.q_len - firstQuery < kQueryTile ? step_.q_len - firstQuery : kQueryTile;
        const int64_t last = firstQuery + count - 1;
        const int64_t lo = problem_.lo[firstQuery] - firstKey, hi = problem_.hi[last] - firstKey;
        const int64_t begin = lo > 0 ? lo / kStep : 0, end = stepsOf(hi, kKeySteps);
        const bool border =
            problem_.lo[last] > firstKey + begin * kStep || problem_.hi[firstQuery] < firstKey + end * kStep;
        return {queries_.tile(b, h, queryTile),
                firstQuery,
                count,
                stepsOf(count, kQuerySteps),
                firstKey,
                begin,
                end,
                border};
    }

    void advance(const Pair& pair, int64_t keyTile, bool first, Scratch& scratch) const {
        for (int64_t u = 0; u < pair.querySteps; ++u) {
            gradeQueries(pair, u, scratch);
        }
        for (int64_t s = pair.begin; s < pair.end; ++s) {
            accumulate(&scratch.dv[2 * s], &scratch.weights[2 * s], pair, pair.queries.doutPairs,
                       2 * queries_.valueDepth);
            accumulate(&scratch.dk[2 * s], &scratch.scoreGradientRows[2 * s], pair, pair.queries.queryPairs,
                       2 * queries_.keyDepth);
        }
        int32_t* const turn = &pair.queries.statistics->turn;
        await(turn, static_cast<int32_t>(keyTile));
        addQueryGradient(pair, first, scratch);
        __atomic_store_n(turn, static_cast<int32_t>(keyTile + 1), __ATOMIC_RELEASE);
    }

    // What the 16 queries of a vector need.
    struct Lanes {
        __m512 lse, delta;
        __m512i lo, hi;  // keys of the tile that each sees
    };

    // P^T and dS^T of step u of the queries.
    void gradeQueries(const Pair& pair, int64_t u, Scratch& scratch) const {
        const int64_t first = pair.firstQuery + u * kStep, count = pair.count - u * kStep;
        Lanes lanes[2];
        for (int64_t j = 0; j < 2; ++j) {
            const int64_t i = j * kTileRows;
            lanes[j].lse = _mm512_load_ps(pair.queries.statistics->lse + u * kStep + i);
            lanes[j].delta = _mm512_load_ps(pair.queries.statistics->delta + u * kStep + i);
            if (pair.border) {
                lanes[j].lo = localBounds(problem_.lo + first + i, count - i, pair.firstKey, kKeyTile);
                lanes[j].hi = localBounds(problem_.hi + first + i, count - i, pair.firstKey, kKeyTile);
            }
        }
        const bool near = allNear(lanes[0].lse) && allNear(lanes[1].lse);
        const int64_t last = first + (count < kStep ? count : kStep) - 1;
        for (int64_t s = pair.begin; s < pair.end; ++s) {
            const int64_t key = pair.firstKey + s * kStep;
            if (problem_.lo[first] >= key + kStep || problem_.hi[last] <= key) {
                hide(u, s, scratch);
                continue;
            }
            score(pair.queries, u, s, scratch);
            const bool border = problem_.lo[last] > key || problem_.hi[first] < key + kStep;
            if (near) {
                border ? grade<true, true>(lanes, u, s, scratch) : grade<false, true>(lanes, u, s, scratch);
            } else {
                border ? grade<true, false>(lanes, u, s, scratch) : grade<false, false>(lanes, u, s, scratch);
            }
        }
    }

    // Operands of a block in which no query sees a key.
    static void hide(int64_t u, int64_t s, Scratch& scratch) {
        for (int64_t i = 0; i < 2; ++i) {
            clear(&scratch.weights[2 * s + i][u], 1);
            clear(&scratch.scoreGradientRows[2 * s + i][u], 1);
            clear(&scratch.scoreGradientPairs[2 * u + i][s], 1);
        }
    }

    // S^T and dP^T of step s of the keys and step u of the queries.
    void score(const QueryTile& queries, int64_t u, int64_t s, Scratch& scratch) const {
        const auto block = [](Tile (&c)[2][2]) { return Block{&c[0][0], &c[0][1], &c[1][0], &c[1][1]}; };
        const Tile* const query = queries.queryColumns + 2 * u * queries_.keyDepth;
        const Tile* const dout = queries.doutColumns + 2 * u * queries_.valueDepth;
        Products products;
        products.multiply({block(scratch.scores),
                           {scratch.keyRows[2 * s], 1},
                           {scratch.keyRows[2 * s + 1], 1},
                           {query, 1},
                           {query + queries_.keyDepth, 1},
                           queries_.keyDepth,
                           TileStart::Zero});
        products.multiply({block(scratch.weightGradients),
                           {scratch.valueRows[2 * s], 1},
                           {scratch.valueRows[2 * s + 1], 1},
                           {dout, 1},
                           {dout + queries_.valueDepth, 1},
                           queries_.valueDepth,
                           TileStart::Zero});
    }

    // From S^T and dP^T to the operands P^T and dS^T.
    template <bool border, bool near>
    void grade(const Lanes (&lanes)[2], int64_t u, int64_t s, Scratch& scratch) const {
        const __m512 log2e = _mm512_set1_ps(kLog2E), scale = _mm512_set1_ps(scale_),
                     scale2 = _mm512_mul_ps(scale, log2e);
        const __m512 lse2[2] = {_mm512_mul_ps(lanes[0].lse, log2e), _mm512_mul_ps(lanes[1].lse, log2e)};
        const auto weigh = [&](__m512 raw, int64_t j) {
            if (near) {
                // above 1 by less than bfloat16 resolves, if at all
                return exp2Vector(_mm512_fmsub_ps(raw, scale2, lse2[j]));
            }
            const __m512 x = _mm512_sub_ps(scaledScore(raw, scale), lanes[j].lse);
            // min: the second where that is NaN
            return exp2Vector(_mm512_mul_ps(_mm512_min_ps(_mm512_setzero_ps(), x), log2e));
        };
        for (int64_t w = 0; w < kTileRows; ++w) {
            __m512i p[2][2], ds[2][2];
            for (int64_t i = 0; i < 2; ++i) {
                for (int64_t j = 0; j < 2; ++j) {
                    const __m512 score = _mm512_load_ps(scratch.scores[i][j].bytes + 64 * w);
                    const __m512 dp = _mm512_load_ps(scratch.weightGradients[i][j].bytes + 64 * w);
                    __m512 weight = weigh(score, j);
                    __m512 gradient = _mm512_mul_ps(weight, _mm512_sub_ps(dp, lanes[j].delta));
                    if (border) {
                        const __m512i key = _mm512_set1_epi32(static_cast<int32_t>(s * kStep + i * kTileRows + w));
                        const __mmask16 begun = _mm512_cmple_epi32_mask(lanes[j].lo, key);
                        const __mmask16 seen = _mm512_mask_cmplt_epi32_mask(begun, key, lanes[j].hi);
                        weight = _mm512_maskz_mov_ps(seen, weight);
                        gradient = _mm512_maskz_mov_ps(seen, gradient);
                    }
                    p[i][j] = roundUp(weight);
                    ds[i][j] = roundUp(gradient);
                }
                _mm512_store_si512(scratch.weights[2 * s + i][u].bytes + 64 * w, pairWords(p[i][0], p[i][1]));
                _mm512_store_si512(scratch.scoreGradientRows[2 * s + i][u].bytes + 64 * w,
                                   pairWords(ds[i][0], ds[i][1]));
            }
            for (int64_t j = 0; j < 2; ++j) {
                _mm512_store_si512(scratch.scoreGradientPairs[2 * u + j][s].bytes + 64 * w,
                                   pairWords(ds[0][j], ds[1][j]));
            }
        }
    }

    // 32 rows of dV or dK [2][count] += P^T or dS^T times dO or Q as pairs [querySteps][count].
    static void accumulate(Tile (*c)[2 * kMaxDepth], const Tile (*a)[kQuerySteps], const Pair& pair, const Tile* b,
                           int64_t count) {
        const int64_t steps = pair.querySteps;
        if (pair.border && anyNonFinite(b, steps * count)) {
            for (int64_t i = 0; i < 2; ++i) {
                for (int64_t t = 0; t < count; ++t) {
                    multiplyNonZero<Weights::A>(&c[i][t], {a[i], 1}, {b + t, count}, steps);
                }
            }
            return;
        }
        Products products;
        for (int64_t t = 0; t < count; t += 2) {
            products.multiply({{&c[0][t], &c[0][t + 1], &c[1][t], &c[1][t + 1]}, {a[0], 1}, {a[1], 1}, {b + t, count},
                               {b + t + 1, count}, steps, TileStart::Load});
        }
    }

    static void await(const int32_t* turn, int32_t mine) {
        for (int spins = 0; __atomic_load_n(turn, __ATOMIC_ACQUIRE) != mine; ++spins) {
            if (spins < 1000) {
                _mm_pause();
            } else {
                sched_yield();
            }
        }
    }

    // dQ^T += K^T dS^T, or = for the first tile of keys.
    void addQueryGradient(const Pair& pair, bool first, const Scratch& scratch) const {
        constexpr int64_t keyStride = 2 * kMaxDepth;
        const int64_t columns = 2 * pair.querySteps, begin = pair.begin, depth = pair.end - pair.begin;
        Tile* const gradient = pair.queries.gradient;
        const Tile* const keys = scratch.keyPairColumns[begin];
        if (pair.border && scratch.keysNonFinite) {
            if (first) {
                clear(gradient, 2 * queries_.keyDepth * columns);
            }
            for (int64_t i = 0; i < 2 * queries_.keyDepth * columns; ++i) {
                multiplyNonZero<Weights::B>(gradient + i, {keys + i / columns, keyStride},
                                            {scratch.scoreGradientPairs[i % columns] + begin, 1}, depth);
            }
            return;
        }
        Products products;
        for (int64_t d = 0; d < 2 * queries_.keyDepth; d += 2) {
            for (int64_t j = 0; j < columns; j += 2) {
                Tile *const upper = gradient + d * columns + j, *const lower = upper + columns;
                products.multiply({{upper, upper + 1, lower, lower + 1},
                                   {keys + d, keyStride},
                                   {keys + d + 1, keyStride},
                                   {scratch.scoreGradientPairs[j] + begin, 1},
                                   {scratch.scoreGradientPairs[j + 1] + begin, 1},
                                   depth,
                                   first ? TileStart::Zero : TileStart::Load});
            }
        }
    }

    // 16 rows of dK or dV from tiles[dim / 16].
    void writeRows(const flashring_tensor& target, int64_t b, int64_t g, int64_t first, int64_t dim, const Tile* tiles,
                   float factor, bool add) const {
        for (int64_t i = 0; i < kTileRows && first + i < step_.kv_len; ++i) {
            float* const values = row<float>(target, b, first + i, g);
            for (int64_t d = 0; d < dim; d += kTileRows) {
                writeRow(values + d, dim - d, _mm512_load_ps(tiles[d / kTileRows].bytes + 64 * i), factor, add);
            }
        }
    }

    const Problem& problem_;
    const flashring_step& step_;
    const Queries& queries_;
    const float scale_;
};

}  // namespace

int64_t amxBackwardWorkspace(const flashring_step& step) { return Queries(step, nullptr).bytes(); }

void amxBackward(const Problem& problem) {
    const flashring_step& step = problem.step;
    const Queries queries(step, &problem);
    const Backward backward(problem, queries);
    const auto forEachQueryTile = [&](const auto& body) {
        parallelFor(step.batch * step.q_heads * queries.tiles, [&](int64_t index, char*) {
            const int64_t head = index / queries.tiles;
            body(head / step.q_heads, head % step.q_heads, index % queries.tiles);
        });
    };
    forEachQueryTile([&](int64_t b, int64_t h, int64_t tile) { queries.pack(b, h, tile); });
    // Ascending tiles of keys: a task waits only for lower ones, which are done or running.
    const int64_t heads = step.batch * step.kv_heads;
    parallelFor(heads * ceilDiv(step.kv_len, kKeyTile), [&](int64_t index, char* scratch) {
        const int64_t head = index % heads;
        backward.attend(head / step.kv_heads, head % step.kv_heads, index / heads,
                        *reinterpret_cast<Scratch*>(scratch));
    });
    forEachQueryTile([&](int64_t b, int64_t h, int64_t tile) { queries.finish(b, h, tile); });
}

}  // namespace flashring
