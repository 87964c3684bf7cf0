// Forward on pairs of bfloat16: a task holds up to kPanels tiles of queries in the vector lanes and streams keys and
// values past them. S^T = K Q^T is paired along head_dim, O^T += V^T P^T along the keys.
#ifndef FLASHRING_AVX512BF16_FORWARD_H
#define FLASHRING_AVX512BF16_FORWARD_H

#include "avx512bf16/product.h"
#include "simd/schedule.h"
#include "state.h"

namespace flashring {
namespace {

template <class Unit>
class Bf16ForwardTask {
public:
    Bf16ForwardTask(const Problem& problem, int64_t b, int64_t h, int64_t first, int64_t count, char* memory)
        : step_(problem.step),
          b_(b),
          h_(h),
          keyHead_(h / (step_.q_heads / step_.kv_heads)),
          panels_(tiles(count)),
          depth_(pairsOf(step_.head_dim)),
          scale_(static_cast<float>(step_.softmax_scale)) {
        Scratch scratch(memory);
        rows_ = scratch.take<Word>(kTile, wholeVectors<float>(depth_));
        valuePairs_ = scratch.take<Word>(kTile / 2, wholeVectors<float>(step_.value_dim));
        scores_ = scratch.take<float>(kTile, kTile);
        rescale_ = scratch.take<float>(kTile);
        from_ = scratch.take<float>(kTile);
        to_ = scratch.take<float>(kTile);
        for (int64_t n = 0; n < panels_; ++n) {
            const int64_t query = first + n * kTile;
            panel_[n] = {query,
                         least(kTile, first + count - query),
                         problem.lo + query,
                         problem.hi + query,
                         scratch.take<Word>(depth_, kTile),
                         scratch.take<float>(step_.value_dim, kTile),
                         scratch.take<float>(kTile),
                         scratch.take<float>(kTile)};
        }
    }

    void run() {
        for (int64_t n = 0; n < panels_; ++n) {
            begin(panel_[n]);
        }
        const int64_t end = panel_[panels_ - 1].lastKey();
        // Tiles of keys lie at multiples of kTile, so that results do not depend on how queries are grouped.
        for (int64_t key = panel_[0].lo[0] / kTile * kTile; key < end; key += kTile) {
            attend(key, least(kTile, step_.kv_len - key));
        }
        for (int64_t n = 0; n < panels_; ++n) {
            finish(panel_[n]);
        }
    }

private:
    struct Panel {
        int64_t first, count;    // its queries
        const int64_t *lo, *hi;  // [count]
        Matrix<Word> queries;    // [head_dim pairs][kTile] Q^T
        Matrix<float> output;    // [value_dim][kTile] O^T, not normalised
        float *maximum, *sum;    // [kTile] of the scores, of e^(score - maximum)

        int64_t lastKey() const { return hi[count - 1]; }
        int64_t lanes() const { return wholeVectors<float>(count); }
        bool sees(int64_t key, int64_t keys) const { return lo[0] < key + keys && lastKey() > key; }
        bool seesAll(int64_t key, int64_t keys) const { return lo[count - 1] <= key && hi[0] >= key + keys; }
    };

    // The packed queries and the running state.
    void begin(const Panel& panel) {
        copyPairs(step_.q, b_, panel.first, panel.count, h_, step_.head_dim, rows_);
        transposeWords(rows_, panel.count, depth_, panel.queries);
        for (int64_t i = 0; i < kTile * step_.value_dim; ++i) {
            panel.output.data[i] = 0;
        }
        const float sink = step_.flags & FLASHRING_RESUME ? -kInfinity<float> : sinkOf<float>(step_, h_);
        for (int64_t i = 0; i < kTile; ++i) {
            panel.maximum[i] = sink;
            panel.sum[i] = sink == -kInfinity<float> ? 0 : 1;
        }
        if (!(step_.flags & FLASHRING_RESUME)) {
            return;
        }
        for (int64_t i = 0; i < panel.count; ++i) {
            const float lse = *row<const float>(step_.lse, b_, panel.first + i, h_);
            if (lse == -kInfinity<float>) {
                continue;
            }
            panel.maximum[i] = lse;
            panel.sum[i] = earlierSum<float>(step_, b_, panel.first + i, h_);
            const float* const state = row<const float>(step_.acc, b_, panel.first + i, h_);
            for (int64_t d = 0; d < step_.value_dim; ++d) {
                panel.output.from(d, i).data[0] = panel.sum[i] * state[d];
            }
        }
    }

    // One tile of keys for every panel that sees some of it.
    void attend(int64_t key, int64_t keys) {
        bool copied = false;
        for (int64_t n = 0; n < panels_; ++n) {
            const Panel& panel = panel_[n];
            if (!panel.sees(key, keys)) {
                continue;
            }
            if (!copied) {
                copyPairs(step_.k, b_, key, keys, keyHead_, step_.head_dim, rows_);
                interleavePairs(step_.v, b_, key, keys, keyHead_, step_.value_dim, valuePairs_);
                copied = true;
            }
            prefetch(key + kTile + n * kTile / panels_, key + kTile + (n + 1) * kTile / panels_);
            const bool border = !panel.seesAll(key, keys);
            pairProduct<Unit, Layout::Rows>(keys, panel.lanes(), depth_, rows_, panel.queries, scores_, Initial::Zero);
            if (border) {
                mask(panel, key, keys);
            }
            bool raised = false;
            for (int64_t lane = 0; lane < panel.lanes(); lane += kLanes<float>) {
                raised |= softmax(panel, keys, lane);
            }
            if (border && !allFinitePairs(valuePairs_, pairsOf(keys))) {
                accumulateVisible(panel, keys);
            } else {
                pairProduct<Unit, Layout::Transposed>(step_.value_dim, panel.lanes(), pairsOf(keys), valuePairs_,
                                                      weights(), panel.output, Initial::Itself,
                                                      raised ? rescale_ : nullptr);
            }
        }
    }

    void prefetch(int64_t key, int64_t end) {
        end = least(end, step_.kv_len);
        prefetchRows<bfloat16>(step_.k, b_, key, end, keyHead_, step_.head_dim);
        prefetchRows<bfloat16>(step_.v, b_, key, end, keyHead_, step_.value_dim);
    }

    void mask(const Panel& panel, int64_t key, int64_t keys) {
        for (int64_t i = 0; i < kTile; ++i) {
            from_[i] = i < panel.count ? static_cast<float>(most(0, least(keys, panel.lo[i] - key))) : 0;
            to_[i] = i < panel.count ? static_cast<float>(most(0, least(keys, panel.hi[i] - key))) : 0;
        }
        const Vec<float> hidden = broadcast(-kInfinity<float>);
        for (int64_t lane = 0; lane < panel.lanes(); lane += kLanes<float>) {
            const Vec<float> from = load<float>(from_ + lane), to = load<float>(to_ + lane);
            for (int64_t j = 0; j < keys; ++j) {
                float* const at = scores_.from(j, lane).data;
                const Vec<float> index = broadcast(static_cast<float>(j));
                store<float>(at, index >= from ? (index < to ? load<float>(at) : hidden) : hidden);
            }
        }
    }

    // P^T as pairs, [keys / 2][kTile], where the scores were.
    Matrix<Word> weights() const { return {reinterpret_cast<Word*>(scores_.data), scores_.stride}; }

    // The largest product of a query and a key; NaN counts as none.
    static Vec<float> largest(const float* scores, int64_t keys) {
        constexpr int chains = 4;
        Vec<float> top[chains];
        for (Vec<float>& chain : top) {
            chain = broadcast(-kInfinity<float>);
        }
        int64_t j = 0;
        for (; j + chains <= keys; j += chains) {
#pragma GCC unroll 4
            for (int n = 0; n < chains; ++n) {
                top[n] = maximum(load<float>(scores + (j + n) * kTile), top[n]);
            }
        }
        for (; j < keys; ++j) {
            top[0] = maximum(load<float>(scores + j * kTile), top[0]);
        }
        return maximum(maximum(top[0], top[1]), maximum(top[2], top[3]));
    }

    // Turns the products of one vector of queries into P, and advances their maximum and sum. Returns whether a maximum
    // rose: only then has the output to be rescaled.
    bool softmax(const Panel& panel, int64_t keys, int64_t lane) {
        const float* const scores = scores_.data + lane;
        const Vec<float> scale = broadcast(scale_), before = load<float>(panel.maximum + lane);
        const Vec<float> top = maximum(largest(scores, keys) * scale, before);
        // A query that has seen nothing yet keeps -inf as its maximum, and is never subtracted from itself.
        const Vec<float> shift = top == -kInfinity<float> ? Vec<float>{} : top;
        const Vec<float> rescale = expOfNegative<Unit>(before - shift);
        Vec<float> sum[2] = {load<float>(panel.sum + lane) * rescale, Vec<float>{}};
        Word* to = weights().data + lane;
        for (int64_t j = 0; j < keys; j += 2, to += kTile) {
            const Vec<float> first = expOfNegative<Unit>(load<float>(scores + j * kTile) * scale - shift);
            Vec<float> second{};
            if (j + 1 < keys) {
                second = expOfNegative<Unit>(load<float>(scores + (j + 1) * kTile) * scale - shift);
            }
            sum[0] += first;
            sum[1] += second;
            store(to, Unit::pairs(first, second));
        }
        store<float>(panel.maximum + lane, top);
        store<float>(panel.sum + lane, sum[0] + sum[1]);
        store<float>(rescale_ + lane, rescale);
        return Unit::anyGreater(top, before);
    }

    // The product for a border tile with a NaN or infinity among its values: 0 times it must not reach who cannot see
    // it.
    void accumulateVisible(const Panel& panel, int64_t keys) {
        for (int64_t i = 0; i < panel.count; ++i) {
            for (int64_t d = 0; d < step_.value_dim; ++d) {
                float& output = *panel.output.from(d, i).data;
                output *= rescale_[i];
                for (int64_t j = 0; j < keys; ++j) {
                    if (static_cast<float>(j) >= from_[i] && static_cast<float>(j) < to_[i]) {
                        output += inPairs(weights(), j, i) * inPairs(valuePairs_, j, d);
                    }
                }
            }
        }
    }

    void finish(const Panel& panel) {
        for (int64_t i = 0; i < panel.count; ++i) {
            const float sum = panel.sum[i], inverse = sum == 0 ? 0 : 1 / sum;
            const float* const output = panel.output.data + i;
            if (step_.acc.data) {
                float* const state = row<float>(step_.acc, b_, panel.first + i, h_);
                for (int64_t d = 0; d < step_.value_dim; ++d) {
                    state[d] = output[d * kTile] * inverse;
                }
            }
            if (step_.flags & FLASHRING_FINISH) {
                bfloat16* const out = row<bfloat16>(step_.out, b_, panel.first + i, h_);
                for (int64_t d = 0; d < step_.value_dim; ++d) {
                    out[d] = Narrow<bfloat16>::from(output[d * kTile] * inverse);
                }
            }
            storeLse<float>(step_, b_, panel.first + i, h_, panel.maximum[i], sum);
        }
    }

    const flashring_step& step_;
    const int64_t b_, h_, keyHead_, panels_;
    const int64_t depth_;       // pairs of head_dim
    const float scale_;
    Matrix<Word> rows_;         // [kTile keys][head_dim pairs] of the tile at hand
    Matrix<Word> valuePairs_;   // [kTile / 2 pairs of keys][value_dim] of the tile at hand
    Matrix<float> scores_;      // [kTile keys][kTile queries] K Q^T
    float* rescale_;            // [kTile] what the last softmax made of the sum before it
    float *from_, *to_;         // [kTile] visible keys of a border tile
    Panel panel_[kPanels];
};

}  // namespace
}  // namespace flashring

#endif
