// Forward: one task per tile of queries, which stay in the vector lanes. Scores S^T = K Q^T, so the softmax runs down the
// registers with no horizontal step, and the output O^T = V^T P^T; K and V are read where they lie.
#ifndef FLASHRING_SIMD_FORWARD_H
#define FLASHRING_SIMD_FORWARD_H

#include "simd_tiles.h"
#include "threads.h"

namespace flashring {
namespace {

template <class T, class Element>
class ForwardTile {
public:
    ForwardTile(const Problem& problem, int64_t b, int64_t h, int64_t tile, char* memory)
        : step_(problem.step), b_(b), h_(h), keyHead_(h / (step_.q_heads / step_.kv_heads)), first_(tile * kTile),
          count_(least(kTile, step_.q_len - first_)), lo_(problem.lo + first_), hi_(problem.hi + first_) {
        Scratch scratch(memory);
        const int64_t widest = most(step_.head_dim, step_.value_dim);
        queries_ = scratch.take<T>(step_.head_dim * kTile);
        output_ = scratch.take<T>(step_.value_dim * kTile);
        scores_ = scratch.take<T>(kTile * kTile);
        maximum_ = scratch.take<T>(kTile);
        sum_ = scratch.take<T>(kTile);
        rescale_ = scratch.take<T>(kTile);
        from_ = scratch.take<T>(kTile);
        to_ = scratch.take<T>(kTile);
        converted_ = {scratch.take<T>(kTile * wholeVectors<T>(widest)), wholeVectors<T>(widest)};
    }

    void run() {
        begin();
        const int64_t end = hi_[count_ - 1];
        for (int64_t key = lo_[0]; key < end; key += kTile) {
            attend(key, least(kTile, end - key));
        }
        finish();
    }

private:
    // The packed queries, scaled so that exp2 takes the place of exp, and the running state.
    void begin() {
        const Matrix<const T> rows = rowsOf<T, Element>(step_.q, b_, first_, count_, h_, step_.head_dim, converted_);
        transpose(rows, count_, step_.head_dim, static_cast<T>(step_.softmax_scale * kLog2E), queries_);
        for (int64_t i = 0; i < kTile * step_.value_dim; ++i) {
            output_[i] = 0;
        }
        for (int64_t i = 0; i < kTile; ++i) {
            maximum_[i] = -__builtin_inf();
            sum_[i] = 0;
        }
        if (!(step_.flags & FLASHRING_RESUME)) {
            return;
        }
        for (int64_t i = 0; i < count_; ++i) {
            const T lse = *row<const T>(step_.lse, b_, first_ + i, h_);
            if (lse == static_cast<T>(-__builtin_inf())) {
                continue;
            }
            maximum_[i] = lse * static_cast<T>(kLog2E);
            sum_[i] = 1;
            const T* const state = row<const T>(step_.acc, b_, first_ + i, h_);
            for (int64_t d = 0; d < step_.value_dim; ++d) {
                output_[d * kTile + i] = state[d];
            }
        }
    }

    void attend(int64_t key, int64_t keys) {
        const int64_t lanes = wholeVectors<T>(count_);
        const bool border = lo_[count_ - 1] > key || hi_[0] < key + keys;
        product<T, Layout::Rows>(keys, lanes, step_.head_dim,
                                 rowsOf<T, Element>(step_.k, b_, key, keys, keyHead_, step_.head_dim, converted_),
                                 {queries_, kTile}, {scores_, kTile}, Start::Zero);
        if (border) {
            mask(key, keys);
        }
        for (int64_t lane = 0; lane < lanes; lane += kLanes<T>) {
            softmax(keys, lane);
        }
        const Matrix<const T> values = rowsOf<T, Element>(step_.v, b_, key, keys, keyHead_, step_.value_dim, converted_);
        if (border && !allFinite(values, keys, step_.value_dim)) {
            accumulateVisible(values, keys);
        } else {
            product<T, Layout::Transposed>(step_.value_dim, lanes, keys, values, {scores_, kTile}, {output_, kTile}, Start::Scale,
                                           rescale_);
        }
    }

    void mask(int64_t key, int64_t keys) {
        for (int64_t i = 0; i < kTile; ++i) {
            from_[i] = i < count_ ? static_cast<T>(most(0, least(keys, lo_[i] - key))) : 0;
            to_[i] = i < count_ ? static_cast<T>(most(0, least(keys, hi_[i] - key))) : 0;
        }
        for (int64_t lane = 0; lane < wholeVectors<T>(count_); lane += kLanes<T>) {
            const Vec<T> from = load(from_ + lane), to = load(to_ + lane);
            for (int64_t j = 0; j < keys; ++j) {
                T* const at = scores_ + j * kTile + lane;
                const Vec<T> index = broadcast(static_cast<T>(j));
                const Vec<T> minusInfinity = broadcast(static_cast<T>(-__builtin_inf()));
                store<T>(at, index >= from ? (index < to ? load(at) : minusInfinity) : minusInfinity);
            }
        }
    }

    // Turns the scores of one vector of queries into P, and advances their maximum and sum.
    void softmax(int64_t keys, int64_t lane) {
        T* const scores = scores_ + lane;
        const Vec<T> before = load(maximum_ + lane);
        Vec<T> top = before;
        for (int64_t j = 0; j < keys; ++j) {
            top = maximum(load(scores + j * kTile), top);
        }
        // A query that has seen nothing yet keeps -inf as its maximum, and is never subtracted from itself.
        const Vec<T> shift = top == -__builtin_inf() ? Vec<T>{} : top;
        const Vec<T> rescale = exp2<T>(before - shift);
        Vec<T> sum = load(sum_ + lane) * rescale;
        for (int64_t j = 0; j < keys; ++j) {
            const Vec<T> p = exp2<T>(load(scores + j * kTile) - shift);
            store<T>(scores + j * kTile, p);
            sum += p;
        }
        store<T>(maximum_ + lane, top);
        store<T>(sum_ + lane, sum);
        store<T>(rescale_ + lane, rescale);
    }

    // The product for a border tile with a NaN or infinity among its values: 0 times it must not reach who cannot see it.
    void accumulateVisible(Matrix<const T> values, int64_t keys) {
        for (int64_t i = 0; i < count_; ++i) {
            for (int64_t d = 0; d < step_.value_dim; ++d) {
                T sum = output_[d * kTile + i] * rescale_[i];
                for (int64_t j = 0; j < keys; ++j) {
                    if (static_cast<T>(j) >= from_[i] && static_cast<T>(j) < to_[i]) {
                        sum += scores_[j * kTile + i] * values.data[j * values.stride + d];
                    }
                }
                output_[d * kTile + i] = sum;
            }
        }
    }

    void finish() {
        for (int64_t i = 0; i < count_; ++i) {
            const T inverse = sum_[i] == 0 ? 0 : 1 / sum_[i];
            T* const state = step_.acc.data ? row<T>(step_.acc, b_, first_ + i, h_) : nullptr;
            if (state) {
                for (int64_t d = 0; d < step_.value_dim; ++d) {
                    state[d] = output_[d * kTile + i] * inverse;
                }
            }
            if (step_.flags & FLASHRING_FINISH) {
                Element* const out = row<Element>(step_.out, b_, first_ + i, h_);
                for (int64_t d = 0; d < step_.value_dim; ++d) {
                    out[d] = Narrow<Element>::from(output_[d * kTile + i] * inverse);
                }
            }
            const double log2Sum = __builtin_log2(static_cast<double>(sum_[i]));  // -inf where nothing is visible
            *row<T>(step_.lse, b_, first_ + i, h_) = static_cast<T>(
                sum_[i] == 0 ? -__builtin_inf() : kLn2 * (static_cast<double>(maximum_[i]) + log2Sum));
        }
    }

    const flashring_step& step_;
    const int64_t b_, h_, keyHead_;
    const int64_t first_, count_;     // the queries of this tile
    const int64_t* const lo_;         // [count]
    const int64_t* const hi_;         // [count]
    T* queries_;                      // [head_dim][kTile] Q^T * scale * log2(e)
    T* output_;                       // [value_dim][kTile] O^T, not normalised
    T* scores_;                       // [kTile keys][kTile queries] S^T, then P^T
    T *maximum_, *sum_, *rescale_;    // [kTile] base-2 maximum, sum, and the factor of the last step
    T *from_, *to_;                   // [kTile] visible keys of a border tile
    Matrix<T> converted_;             // [kTile][widest dim] rows in T
};

template <class T, class Element>
void forwardAs(const Problem& problem) {
    const flashring_step& step = problem.step;
    const int64_t rows = step.batch * step.q_heads, last = tiles(step.q_len) - 1;
    // Late queries see most under a causal mask: longest first.
    parallelFor((last + 1) * rows, [&](int64_t index, char* scratch) {
        const int64_t line = index % rows;
        ForwardTile<T, Element>(problem, line / step.q_heads, line % step.q_heads, last - index / rows, scratch).run();
    });
}

void forward(const Problem& problem) {
    withElement(problem.step.dtype, [&](auto element) {
        using Element = decltype(element);
        forwardAs<typename Accumulator<Element>::type, Element>(problem);
    });
}

}  // namespace
}  // namespace flashring

#endif
