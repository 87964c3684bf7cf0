// Forward on AMX tiles. Scores are held transposed, S^T = K Q^T with queries in the vector lanes, so that the softmax
// needs no step across lanes; O^T += V^T P^T.
#include <math.h>

#include "amx/kernel.h"
#include "amx/nonfinite.h"
#include "amx/pack.h"
#include "state.h"
#include "threads.h"

namespace flashring {
namespace {

constexpr int64_t kStep = kTileDepth;           // keys per tile of the inner dimension of V^T P^T
constexpr int64_t kBlockSteps = 2;              // keys of a block, in steps
constexpr int64_t kSpanSteps = 32;              // keys that stay in the L2 cache for all groups of a task, in steps
constexpr int64_t kBlock = kBlockSteps * kStep;
constexpr int64_t kGroup = 2 * kTileRows;       // queries that take part in one product
constexpr int64_t kGroups = 4;                  // groups of a task: reuse of a block of keys while it is in the caches
constexpr int64_t kQueryTile = kGroups * kGroup;
constexpr int64_t kPackKeys = 8 * kStep;        // keys that one packing task packs
constexpr float kLargestSum = 0x1p32f;           // of a block's weights: far from overflow, and never met by chance

// Keys and values of one (batch, head), packed: K as rows [steps][2][keyDepth], V as pairColumns [steps][valueTiles].
struct Shape {
    int64_t keyDepth, valueTiles, steps;

    explicit Shape(const flashring_step& step)
        : keyDepth(ceilDiv(step.head_dim, kTileDepth)),
          valueTiles(2 * ceilDiv(step.value_dim, kTileDepth)),
          steps(ceilDiv(step.kv_len, kStep)) {}

    int64_t keyTiles() const { return steps * 2 * keyDepth; }
    int64_t headTiles() const { return keyTiles() + steps * valueTiles; }
};

// The running state of 32 queries: the weights are relative to e^maximum, and O^T and sum with them.
struct Group {
    alignas(64) float maximum[2][16];
    alignas(64) float sum[2][16];
    Tile query[2][kCommonHeadDim / kTileDepth];      // columns of Q
    Tile output[kCommonHeadDim / kTileRows][2];      // O^T
    int64_t first, count;                         // queries of this group
    int64_t lo, hi;                               // keys that any of them sees, in steps
    int64_t fullLo, fullHi;                       // keys that all of them see
};

struct Scratch {
    alignas(64) float scores[2][kBlock][16];      // S^T
    Tile weights[2][kBlockSteps];                 // P^T as pairs
    Group groups[kGroups];
};
static_assert(sizeof(Scratch) <= kScratchBytes, "the forward scratch fits");

class Forward {
public:
    explicit Forward(const Problem& problem)
        : problem_(problem),
          step_(problem.step),
          shape_(problem.step),
          scale_(static_cast<float>(problem.step.softmax_scale)) {}

    void pack(int64_t index) const {
        const int64_t chunks = ceilDiv(step_.kv_len, kPackKeys);
        const int64_t b = index / chunks / step_.kv_heads, g = index / chunks % step_.kv_heads;
        const Rows keys{row<const uint16_t>(step_.k, b, 0, g), step_.k.stride_seq, step_.kv_len, step_.head_dim};
        const Rows values{row<const uint16_t>(step_.v, b, 0, g), step_.v.stride_seq, step_.kv_len, step_.value_dim};
        Tile* const packed = head(b, g);
        const int64_t begin = index % chunks * kPackKeys / kStep, end = begin + kPackKeys / kStep;
        for (int64_t s = begin; s < end && s < shape_.steps; ++s) {
            packRows(packed + 2 * s * shape_.keyDepth, keys, s * kStep);
            packRows(packed + (2 * s + 1) * shape_.keyDepth, keys, s * kStep + kTileRows);
            packPairs(nullptr, packed + shape_.keyTiles() + s * shape_.valueTiles, values, s * kStep);
        }
    }

    void attend(int64_t b, int64_t h, int64_t tile, Scratch& scratch) const {
        const TileScope scope;
        const Tile* const packed = head(b, h / (step_.q_heads / step_.kv_heads));
        int64_t groups = 0, lo = shape_.steps, hi = 0;
        for (int64_t i = tile * kQueryTile; groups < kGroups && i < step_.q_len; i += kGroup, ++groups) {
            Group& group = scratch.groups[groups];
            begin(group, b, h, i);
            lo = group.lo < lo ? group.lo : lo;
            hi = group.hi > hi ? group.hi : hi;
        }
        for (int64_t span = lo; span < hi; span += kSpanSteps) {
            for (int64_t i = 0; i < groups; ++i) {
                Group& group = scratch.groups[i];
                const int64_t from = group.lo > span ? group.lo : span;
                const int64_t to = group.hi < span + kSpanSteps ? group.hi : span + kSpanSteps;
                for (int64_t s = from; s < to; s += kBlockSteps) {
                    advance(group, packed, s, to - s < kBlockSteps ? to - s : kBlockSteps, scratch);
                }
            }
        }
        for (int64_t i = 0; i < groups; ++i) {
            finish(scratch.groups[i], b, h);
        }
    }

private:
    Tile* head(int64_t b, int64_t g) const {
        return reinterpret_cast<Tile*>(problem_.workspace) + (b * step_.kv_heads + g) * shape_.headTiles();
    }

    // Queries in lanes [0, lanes) of half j of the group.
    static int64_t lanes(const Group& group, int64_t j) { return group.count - j * kTileRows; }

    void begin(Group& group, int64_t b, int64_t h, int64_t first) const {
        group.first = first;
        group.count = step_.q_len - first < kGroup ? step_.q_len - first : kGroup;
        const int64_t last = first + group.count - 1;
        group.lo = problem_.lo[first] / kStep;
        group.hi = problem_.lo[first] < problem_.hi[last] ? ceilDiv(problem_.hi[last], kStep) : group.lo;
        group.fullLo = problem_.lo[last];
        group.fullHi = problem_.hi[first];
        const Rows queries{row<const uint16_t>(step_.q, b, 0, h), step_.q.stride_seq, step_.q_len, step_.head_dim};
        for (int64_t j = 0; j < 2; ++j) {
            packColumns(group.query[j], queries, first + j * kTileRows);
            const float sink = sinkOf<float>(step_, h);
            __m512 maximum = _mm512_set1_ps(sink), sum = _mm512_set1_ps(sink == -INFINITY ? 0 : 1);
            if (step_.flags & FLASHRING_RESUME) {
                alignas(64) float lse[16], sums[16] = {};
                for (int64_t i = 0; i < 16; ++i) {
                    const int64_t query = first + j * kTileRows + i;
                    lse[i] = i < lanes(group, j) ? *row<const float>(step_.lse, b, query, h) : -INFINITY;
                    if (lse[i] != -INFINITY) {
                        sums[i] = earlierSum<float>(step_, b, query, h);
                    }
                }
                maximum = _mm512_load_ps(lse);
                sum = _mm512_load_ps(sums);
            }
            _mm512_store_ps(group.maximum[j], maximum);
            _mm512_store_ps(group.sum[j], sum);
            for (int64_t t = 0; t < shape_.valueTiles; ++t) {
                beginOutput(group, b, h, j, t);
            }
        }
    }

    // Tile t of O^T: the state where it was begun before (lanes where sum is not 0), else 0.
    void beginOutput(Group& group, int64_t b, int64_t h, int64_t j, int64_t t) const {
        const __mmask16 columns = firstLanes16(step_.value_dim - t * kTileRows);
        __m512i words[16];
        for (int64_t i = 0; i < 16; ++i) {
            words[i] = _mm512_setzero_si512();
            const float sum = group.sum[j][i];
            if (sum != 0 && step_.flags & FLASHRING_RESUME) {
                const float* const state = row<const float>(step_.acc, b, group.first + j * kTileRows + i, h);
                const __m512 values = _mm512_maskz_loadu_ps(columns, state + t * kTileRows);
                words[i] = _mm512_castps_si512(_mm512_mul_ps(values, _mm512_set1_ps(sum)));
            }
        }
        transpose(words);
        storeTile(&group.output[t][j], words);
    }

    // One block of keys, `steps` steps from step `first`.
    void advance(Group& group, const Tile* packed, int64_t first, int64_t steps, Scratch& scratch) const {
        score(group, packed + 2 * first * shape_.keyDepth, steps, scratch);
        const bool border = group.fullLo > first * kStep || group.fullHi < (first + steps) * kStep;
        for (int64_t j = 0; j < 2; ++j) {
            if (border) {
                hide(group, j, first * kStep, steps * kStep, scratch.scores[j]);
            }
            weigh(group, j, steps * kStep, scratch);
        }
        const Tile* const values = packed + shape_.keyTiles() + first * shape_.valueTiles;
        if (border && anyNonFinite(values, steps * shape_.valueTiles)) {
            for (int64_t t = 0; t < shape_.valueTiles; ++t) {
                for (int64_t j = 0; j < 2; ++j) {
                    multiplyNonZero<Weights::B>(&group.output[t][j], {values + t, shape_.valueTiles},
                                                {scratch.weights[j], 1}, steps);
                }
            }
            return;
        }
        Products products;
        for (int64_t t = 0; t < shape_.valueTiles; t += 2) {
            Tile(&upper)[2] = group.output[t], (&lower)[2] = group.output[t + 1];
            products.multiply({{upper, upper + 1, lower, lower + 1},
                               {values + t, shape_.valueTiles},
                               {values + t + 1, shape_.valueTiles},
                               {scratch.weights[0], 1},
                               {scratch.weights[1], 1},
                               steps,
                               TileStart::Load});
        }
    }

    // S^T of a block of keys.
    void score(const Group& group, const Tile* keys, int64_t steps, Scratch& scratch) const {
        Products products;
        for (int64_t s = 0; s < steps; ++s) {
            const auto tile = [&](int64_t j, int64_t key) { return reinterpret_cast<Tile*>(scratch.scores[j][key]); };
            const int64_t upper = s * kStep, lower = upper + kTileRows;
            products.multiply({{tile(0, upper), tile(1, upper), tile(0, lower), tile(1, lower)},
                               {keys + 2 * s * shape_.keyDepth, 1},
                               {keys + (2 * s + 1) * shape_.keyDepth, 1},
                               {group.query[0], 1},
                               {group.query[1], 1},
                               shape_.keyDepth,
                               TileStart::Zero});
        }
    }

    // Scores of pairs that the mask hides become -infinity.
    void hide(const Group& group, int64_t j, int64_t firstKey, int64_t keys, float (*scores)[16]) const {
        const int64_t i = group.first + j * kTileRows;
        const __m512i lo = localBounds(problem_.lo + i, lanes(group, j), firstKey, keys);
        const __m512i hi = localBounds(problem_.hi + i, lanes(group, j), firstKey, keys);
        for (int64_t key = 0; key < keys; ++key) {
            const __m512i k = _mm512_set1_epi32(static_cast<int32_t>(key));
            const __mmask16 seen = _mm512_mask_cmplt_epi32_mask(_mm512_cmple_epi32_mask(lo, k), k, hi);
            _mm512_store_ps(scores[key],
                            _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), seen, _mm512_load_ps(scores[key])));
        }
    }

    // Scores of half j of the group to weights e^(s - maximum), and the state with them. Any maximum will do that keeps
    // the weights in range, so it is looked up only for lanes that have none yet, and where the weights turn out too
    // large.
    void weigh(Group& group, int64_t j, int64_t keys, Scratch& scratch) const {
        const __m512 nothing = _mm512_set1_ps(-INFINITY);
        bool raised = _mm512_cmp_ps_mask(_mm512_load_ps(group.maximum[j]), nothing, _CMP_EQ_OQ) != 0;
        for (;;) {
            if (raised) {
                raise(group, j, keys, scratch.scores[j]);
            }
            const __m512 maximum = _mm512_load_ps(group.maximum[j]);
            const __mmask16 any = _mm512_cmp_ps_mask(maximum, nothing, _CMP_NEQ_UQ);
            const __m512 reference = _mm512_maskz_mov_ps(any, maximum);
            const __m512 sum = allNear(reference)
                                   ? exponentiate<true>(scratch.scores[j], keys, reference, scratch.weights[j])
                                   : exponentiate<false>(scratch.scores[j], keys, reference, scratch.weights[j]);
            if (raised || _mm512_cmp_ps_mask(sum, _mm512_set1_ps(kLargestSum), _CMP_GT_OQ) == 0) {
                _mm512_store_ps(group.sum[j], _mm512_add_ps(_mm512_load_ps(group.sum[j]), sum));
                return;
            }
            raised = true;
        }
    }

    // Weights of a block of keys; returns their sum.
    template <bool near>
    __m512 exponentiate(const float (*scores)[16], int64_t keys, __m512 reference, Tile* weights) const {
        const __m512 log2e = _mm512_set1_ps(kLog2E), scale = _mm512_set1_ps(scale_),
                     scale2 = _mm512_mul_ps(scale, log2e);
        const __m512 reference2 = _mm512_mul_ps(reference, log2e);
        const auto weigh = [&](const float* scores) {
            const __m512 raw = _mm512_load_ps(scores);
            return exp2Vector(near ? _mm512_fmsub_ps(raw, scale2, reference2)
                                   : _mm512_mul_ps(_mm512_sub_ps(scaledScore(raw, scale), reference), log2e));
        };
        __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int64_t s = 0; s < keys; s += kStep, ++weights) {
            for (int64_t w = 0; w < kTileRows; ++w) {
                const __m512 first = weigh(scores[s + w]), second = weigh(scores[s + w + kTileRows]);
                sum[0] = _mm512_add_ps(sum[0], first);
                sum[1] = _mm512_add_ps(sum[1], second);
                _mm512_store_si512(weights->bytes + 64 * w, pairWords(roundUp(first), roundUp(second)));
            }
        }
        return _mm512_add_ps(sum[0], sum[1]);
    }

    // Moves the state to the largest score so far.
    void raise(Group& group, int64_t j, int64_t keys, const float (*scores)[16]) const {
        __m512 top = _mm512_load_ps(scores[0]);
        for (int64_t key = 1; key < keys; ++key) {
            top = _mm512_max_ps(top, _mm512_load_ps(scores[key]));
        }
        const __m512 old = _mm512_load_ps(group.maximum[j]);
        const __m512 maximum = _mm512_max_ps(scaledScore(top, _mm512_set1_ps(scale_)), old);
        const __mmask16 begun = _mm512_cmp_ps_mask(old, _mm512_set1_ps(-INFINITY), _CMP_NEQ_UQ);
        const __m512 factor =
            _mm512_maskz_mov_ps(begun, exp2Vector(_mm512_mul_ps(_mm512_sub_ps(old, maximum), _mm512_set1_ps(kLog2E))));
        _mm512_store_ps(group.maximum[j], maximum);
        _mm512_store_ps(group.sum[j], _mm512_mul_ps(factor, _mm512_load_ps(group.sum[j])));
        for (int64_t t = 0; t < shape_.valueTiles; ++t) {
            float* const output = reinterpret_cast<float*>(group.output[t][j].bytes);
            for (int64_t i = 0; i < 16; ++i) {
                _mm512_store_ps(output + 16 * i, _mm512_mul_ps(factor, _mm512_load_ps(output + 16 * i)));
            }
        }
    }

    void finish(const Group& group, int64_t b, int64_t h) const {
        for (int64_t j = 0; j < 2; ++j) {
            const __m512 sum = _mm512_load_ps(group.sum[j]);
            const __mmask16 any = _mm512_cmp_ps_mask(sum, _mm512_setzero_ps(), _CMP_NEQ_UQ);
            const __m512 factor = _mm512_maskz_div_ps(any, _mm512_set1_ps(1), sum);
            for (int64_t t = 0; t < shape_.valueTiles; ++t) {
                finishOutput(group, b, h, j, t, factor);
            }
            for (int64_t i = 0; i < 16 && i < lanes(group, j); ++i) {
                storeLse<float>(step_, b, group.first + j * kTileRows + i, h, static_cast<double>(group.maximum[j][i]),
                                static_cast<double>(group.sum[j][i]));
            }
        }
    }

    // Tile t of O^T to `acc` and `out`.
    void finishOutput(const Group& group, int64_t b, int64_t h, int64_t j, int64_t t, __m512 factor) const {
        const __mmask16 columns = firstLanes16(step_.value_dim - t * kTileRows);
        __m512i words[16];
        loadTile(words, &group.output[t][j]);
        for (__m512i& word : words) {
            word = _mm512_castps_si512(_mm512_mul_ps(factor, _mm512_castsi512_ps(word)));
        }
        transpose(words);
        for (int64_t i = 0; i < 16 && i < lanes(group, j); ++i) {
            const int64_t query = group.first + j * kTileRows + i;
            if (step_.acc.data) {
                _mm512_mask_storeu_epi32(row<float>(step_.acc, b, query, h) + t * kTileRows, columns, words[i]);
            }
            if (step_.flags & FLASHRING_FINISH) {
                const __m256bh narrow = _mm512_cvtneps_pbh(_mm512_castsi512_ps(words[i]));
                uint16_t* const out = row<uint16_t>(step_.out, b, query, h);
                _mm256_mask_storeu_epi16(out + t * kTileRows, columns, reinterpret_cast<const __m256i&>(narrow));
            }
        }
    }

    const Problem& problem_;
    const flashring_step& step_;
    const Shape shape_;
    const float scale_;
};

}  // namespace

int64_t amxForwardWorkspace(const flashring_step& step) {
    return step.batch * step.kv_heads * Shape(step).headTiles() * static_cast<int64_t>(sizeof(Tile));
}

void amxForward(const Problem& problem) {
    const Forward forward(problem);
    const flashring_step& step = problem.step;
    parallelFor(step.batch * step.kv_heads * ceilDiv(step.kv_len, kPackKeys),
                [&](int64_t index, char*) { forward.pack(index); });
    // One head after the other, since its keys and values fit into the caches; the last queries first, since under a
    // causal mask they see the most keys.
    const int64_t tiles = ceilDiv(step.q_len, kQueryTile), heads = step.batch * step.q_heads;
    parallelFor(tiles * heads, [&](int64_t index, char* scratch) {
        const int64_t head = index / tiles;
        forward.attend(head / step.q_heads, head % step.q_heads, tiles - 1 - index % tiles,
                       *reinterpret_cast<Scratch*>(scratch));
    });
}

}  // namespace flashring
