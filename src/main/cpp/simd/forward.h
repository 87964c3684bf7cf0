// Forward: a task holds up to kPanels tiles of queries in the vector lanes and streams keys and values past them.
// Scores S^T = K Q^T, so the softmax runs down the registers with no horizontal step, then O^T += V^T P^T.
#ifndef FLASHRING_SIMD_FORWARD_H
#define FLASHRING_SIMD_FORWARD_H

#include "simd/schedule.h"
#include "simd/score.h"
#include "state.h"

namespace flashring {
namespace {

template <class T, class Element>
class ForwardTask {
public:
    ForwardTask(const Problem& problem, int64_t b, int64_t h, int64_t first, int64_t count, char* memory)
        : problem_(problem),
          step_(problem.step),
          b_(b),
          h_(h),
          keyHead_(h / (step_.q_heads / step_.kv_heads)),
          panels_(tiles(count)),
          shaping_(step_, h) {
        Scratch scratch(memory);
        keys_ = scratch.take<T>(kTile, wholeVectors<T>(step_.head_dim));
        values_ = scratch.take<T>(kTile, wholeVectors<T>(step_.value_dim));
        scores_ = scratch.take<T>(kTile, kTile);
        rescale_ = scratch.take<T>(kTile);
        from_ = scratch.take<T>(kTile);
        to_ = scratch.take<T>(kTile);
        for (int64_t n = 0; n < panels_; ++n) {
            const int64_t query = first + n * kTile;
            panel_[n] = {query,
                         least(kTile, first + count - query),
                         problem.lo + query,
                         problem.hi + query,
                         scratch.take<T>(step_.head_dim, kTile),
                         scratch.take<T>(step_.value_dim, kTile),
                         scratch.take<T>(kTile),
                         scratch.take<T>(kTile)};
        }
    }

    // Panels that a thread's scratch has room for.
    static int64_t panelsThatFit(const flashring_step& step) {
        const int64_t each = kTile * (step.head_dim + step.value_dim + 2),
                      shared = kTile * (wholeVectors<T>(step.head_dim) + wholeVectors<T>(step.value_dim) + kTile + 3);
        return least(kPanels, (kScratchBytes / static_cast<int64_t>(sizeof(T)) - shared) / each);
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
        int64_t first, count;  // its queries
        const int64_t *lo, *hi;  // [count]
        Matrix<T> queries;     // [head_dim][kTile] scale * Q^T
        Matrix<T> output;      // [value_dim][kTile] O^T, not normalised
        T *maximum, *sum;      // [kTile] of e^score

        int64_t lastKey() const { return hi[count - 1]; }
        int64_t lanes() const { return wholeVectors<T>(count); }
        bool sees(int64_t key, int64_t keys) const { return lo[0] < key + keys && lastKey() > key; }
        bool seesAll(int64_t key, int64_t keys) const { return lo[count - 1] <= key && hi[0] >= key + keys; }
    };

    // The packed queries, scaled as the backward pass scales them, and the running state.
    void begin(const Panel& panel) {
        copyRows<T, Element>(step_.q, b_, panel.first, panel.count, h_, step_.head_dim, keys_,
                             static_cast<T>(step_.softmax_scale));
        transpose<T>(keys_, panel.count, step_.head_dim, panel.queries);
        for (int64_t i = 0; i < kTile * step_.value_dim; ++i) {
            panel.output.data[i] = 0;
        }
        const T sink = step_.flags & FLASHRING_RESUME ? -kInfinity<T> : sinkOf<T>(step_, h_);
        for (int64_t i = 0; i < kTile; ++i) {
            panel.maximum[i] = sink;
            panel.sum[i] = sink == -kInfinity<T> ? 0 : 1;
        }
        if (!(step_.flags & FLASHRING_RESUME)) {
            return;
        }
        for (int64_t i = 0; i < panel.count; ++i) {
            const T lse = *row<const T>(step_.lse, b_, panel.first + i, h_);
            if (lse == -kInfinity<T>) {
                continue;
            }
            panel.maximum[i] = lse;
            panel.sum[i] = earlierSum<T>(step_, b_, panel.first + i, h_);
            const T* const state = row<const T>(step_.acc, b_, panel.first + i, h_);
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
                copyRows<T, Element>(step_.k, b_, key, keys, keyHead_, step_.head_dim, keys_);
                copyRows<T, Element>(step_.v, b_, key, keys, keyHead_, step_.value_dim, values_);
                copied = true;
            }
            prefetch(key + kTile + n * kTile / panels_, key + kTile + (n + 1) * kTile / panels_);
            const bool border = !panel.seesAll(key, keys);
            scores<T>(keys, panel.lanes(), step_.head_dim, keys_, panel.queries, scores_);
            if (shaping_.any()) {
                shape(panel, key, keys);
            }
            if (border) {
                mask(panel, key, keys);
            }
            for (int64_t lane = 0; lane < panel.lanes(); lane += kLanes<T>) {
                softmax(panel, keys, lane);
            }
            if (border && !allFinite<T>(values_, keys, step_.value_dim)) {
                accumulateVisible(panel, keys);
            } else {
                product<T, Layout::Transposed>(step_.value_dim, panel.lanes(), keys, values_, scores_, panel.output,
                                               Initial::Itself, rescale_);
            }
        }
    }

    void prefetch(int64_t key, int64_t end) {
        end = least(end, step_.kv_len);
        prefetchRows<Element>(step_.k, b_, key, end, keyHead_, step_.head_dim);
        prefetchRows<Element>(step_.v, b_, key, end, keyHead_, step_.value_dim);
    }

    void shape(const Panel& panel, int64_t key, int64_t keys) {
        Distances<T> queries(problem_.qPositions, panel.first, panel.count);
        for (int64_t j = 0; j < keys; ++j) {
            shaping_.row(scores_.from(j, 0).data, panel.lanes(), queries.from(problem_.kvPositions, key + j));
        }
    }

    void mask(const Panel& panel, int64_t key, int64_t keys) {
        for (int64_t i = 0; i < kTile; ++i) {
            from_[i] = i < panel.count ? static_cast<T>(most(0, least(keys, panel.lo[i] - key))) : 0;
            to_[i] = i < panel.count ? static_cast<T>(most(0, least(keys, panel.hi[i] - key))) : 0;
        }
        const Vec<T> hidden = broadcast(-kInfinity<T>);
        for (int64_t lane = 0; lane < panel.lanes(); lane += kLanes<T>) {
            const Vec<T> from = load(from_ + lane), to = load(to_ + lane);
            for (int64_t j = 0; j < keys; ++j) {
                T* const at = scores_.from(j, lane).data;
                const Vec<T> index = broadcast(static_cast<T>(j));
                store<T>(at, index >= from ? (index < to ? load(at) : hidden) : hidden);
            }
        }
    }

    // Turns the scores of one vector of queries into P, and advances their maximum and sum.
    void softmax(const Panel& panel, int64_t keys, int64_t lane) {
        T* const scores = scores_.data + lane;
        const Vec<T> before = load(panel.maximum + lane);
        Vec<T> top = before;
        for (int64_t j = 0; j < keys; ++j) {
            top = maximum(load(scores + j * kTile), top);
        }
        // A query that has seen nothing yet keeps -inf as its maximum, and is never subtracted from itself.
        const Vec<T> shift = top == -kInfinity<T> ? Vec<T>{} : top;
        const Vec<T> rescale = exp<T>(before - shift);
        Vec<T> sum = load(panel.sum + lane) * rescale;
        for (int64_t j = 0; j < keys; ++j) {
            const Vec<T> p = exp<T>(load(scores + j * kTile) - shift);
            store<T>(scores + j * kTile, p);
            sum += p;
        }
        store<T>(panel.maximum + lane, top);
        store<T>(panel.sum + lane, sum);
        store<T>(rescale_ + lane, rescale);
    }

    // The product for a border tile with a NaN or infinity among its values: 0 times it must not reach who cannot see
    // it.
    void accumulateVisible(const Panel& panel, int64_t keys) {
        for (int64_t i = 0; i < panel.count; ++i) {
            for (int64_t d = 0; d < step_.value_dim; ++d) {
                T& output = *panel.output.from(d, i).data;
                output *= rescale_[i];
                for (int64_t j = 0; j < keys; ++j) {
                    if (static_cast<T>(j) >= from_[i] && static_cast<T>(j) < to_[i]) {
                        output += *scores_.from(j, i).data * *values_.from(j, d).data;
                    }
                }
            }
        }
    }

    void finish(const Panel& panel) {
        for (int64_t i = 0; i < panel.count; ++i) {
            const T sum = panel.sum[i], inverse = sum == 0 ? 0 : 1 / sum;
            const T* const output = panel.output.data + i;
            if (step_.acc.data) {
                T* const state = row<T>(step_.acc, b_, panel.first + i, h_);
                for (int64_t d = 0; d < step_.value_dim; ++d) {
                    state[d] = output[d * kTile] * inverse;
                }
            }
            if (step_.flags & FLASHRING_FINISH) {
                Element* const out = row<Element>(step_.out, b_, panel.first + i, h_);
                for (int64_t d = 0; d < step_.value_dim; ++d) {
                    out[d] = Narrow<Element>::from(output[d * kTile] * inverse);
                }
            }
            storeLse<T>(step_, b_, panel.first + i, h_, panel.maximum[i], sum);
        }
    }

    const Problem& problem_;
    const flashring_step& step_;
    const int64_t b_, h_, keyHead_, panels_;
    const Shaping<T> shaping_;
    Matrix<T> keys_, values_;  // [kTile keys][dim] of the tile at hand
    Matrix<T> scores_;         // [kTile keys][kTile queries] S^T, then P^T
    T* rescale_;               // [kTile] what the last softmax made of the sum before it
    T *from_, *to_;            // [kTile] visible keys of a border tile
    Panel panel_[kPanels];
};

void forward(const Problem& problem) {
    withElement(problem.step.dtype, [&](auto element) {
        using Element = decltype(element);
        using Task = ForwardTask<typename Accumulator<Element>::type, Element>;
        runForward<Task>(problem, Task::panelsThatFit(problem.step));
    });
}

}  // namespace
}  // namespace flashring

#endif
