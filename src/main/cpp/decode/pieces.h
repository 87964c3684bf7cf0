// Few queries against many keys, as Flash-Decoding (Dao, Haziza, Massa, Sizov 2023) has it: the query heads of a key
// head are packed, so that each key is read once for all of them, and the keys are cut at multiples of kPiece. A piece
// leaves its state; the states are merged in the order of the keys. So the bits depend neither on threads nor on other
// batch rows.
#ifndef FLASHRING_DECODE_PIECES_H
#define FLASHRING_DECODE_PIECES_H

#include "decode/products.h"
#include "simd/score.h"
#include "simd/tiles.h"
#include "state.h"

namespace flashring {
namespace {

constexpr int64_t kPiece = 1024;
static_assert(kPiece % kKeys == 0, "whole tiles");

// What a step's pieces leave in the workspace: of each batch row, key head and piece the rows' maxima, sums and
// outputs.
template <class T>
struct States {
    const flashring_step& step;
    const int64_t group = step.q_heads / step.kv_heads, rows = step.q_len * group,
                  pieces = ceilDiv(step.kv_len, kPiece);
    const int64_t lanes = wholeVectors<T>(rows), pitch = wholeVectors<T>(step.value_dim),
                  size = roundUp(2 * lanes + rows * pitch, int64_t{16});

    T* at(char* workspace, int64_t b, int64_t g, int64_t piece) const {
        return reinterpret_cast<T*>(workspace) + ((b * step.kv_heads + g) * pieces + piece) * size;
    }
    int64_t bytes() const { return step.batch * step.kv_heads * pieces * size * static_cast<int64_t>(sizeof(T)); }
};

// The keys that any query of a batch row sees: [first, last).
struct Span {
    int64_t first, last;

    Span(const Problem& problem, int64_t b) : first(problem.step.kv_len), last(0) {
        for (int64_t i = 0; i < problem.step.q_len; ++i) {
            const int64_t lo = problem.lo[b * problem.ofRow + i], hi = problem.hi[b * problem.ofRow + i];
            if (lo < hi) {
                first = least(first, lo);
                last = most(last, hi);
            }
        }
    }
    bool meets(int64_t piece) const { return first < (piece + 1) * kPiece && last > piece * kPiece; }
};

// Where the rows of a tile of keys or values lie.
template <class Element>
struct Lines {
    const Element* of[kKeys];

    // Asks for some of them: each may lie on a page of its own, which no hardware prefetcher foresees.
    void prefetch(int64_t first, int64_t last, int64_t dim) const {
        for (int64_t j = first; j < last; ++j) {
            for (int64_t d = 0; d < dim; d += 64 / static_cast<int64_t>(sizeof(Element))) {
                __builtin_prefetch(of[j] + d, 0, 2);
            }
        }
    }
};

// Cached is what the cache holds.
template <class T, class Element, class Cached>
class Piece {
public:
    Piece(const Problem& problem, const States<T>& states, int64_t b, int64_t g, int64_t piece, char* memory)
        : problem_(problem),
          step_(problem.step),
          b_(b),
          g_(g),
          rows_(states.rows),
          group_(states.group),
          lanes_(states.lanes),
          pitch_(states.pitch),
          shaping_(step_, g * group_),
          maximum_(states.at(problem.workspace, b, g, piece)),
          sum_(maximum_ + lanes_),
          out_(sum_ + lanes_) {
        Scratch scratch(memory);
        queries_ = scratch.take<T>(step_.head_dim, lanes_);
        scores_ = scratch.take<T>(kKeys, lanes_);
        decay_ = scratch.take<T>(lanes_);
        from_ = scratch.take<int64_t>(rows_);
        to_ = scratch.take<int64_t>(rows_);
        copy_ = scratch.take<T>(kKeys * most(wholeVectors<T>(step_.head_dim), pitch_));
    }

    // Over the keys [begin, end), which lie in the piece.
    void run(int64_t begin, int64_t end) {
        start();
        const int64_t first = begin / kKeys * kKeys;
        Lines<Cached> keys = find(step_.k, step_.k_pages, first, begin, end);
        keys.prefetch(begin - first, least(kKeys, end - first), step_.head_dim);
        for (int64_t tile = first; tile < end; tile += kKeys) {
            const int64_t next = tile + kKeys, last = least(end, next) - tile,
                          ahead = most(0, least(kKeys, end - next));
            const Lines<Cached> values = find(step_.v, step_.v_pages, tile, begin, end);
            const Lines<Cached> nextKeys = find(step_.k, step_.k_pages, next, begin, end);
            const bool bordered = see(tile, most(begin, tile) - tile, last);
            score(keys, values, most(begin, tile) - tile, last);
            if (shaping_.any()) {
                shape(most(begin, tile) - tile, last);
            }
            if (bordered) {
                hide(most(begin, tile) - tile, last);
            }
            for (int64_t lane = 0; lane < lanes_; lane += kLanes<T>) {
                softmax(most(begin, tile) - tile, last, lane);
            }
            weigh(values, nextKeys, most(begin, tile) - tile, last, ahead, bordered);
            keys = nextKeys;
        }
    }

private:
    // The packed queries, scaled as the backward pass scales them, and the empty state.
    void start() {
        for (int64_t r = 0; r < lanes_; ++r) {
            const Element* const from =
                r < rows_ ? row<const Element>(step_.q, b_, r / group_, g_ * group_ + r % group_) : nullptr;
            for (int64_t d = 0; d < step_.head_dim; ++d) {
                *queries_.from(d, r).data = from ? widen(from[d]) * static_cast<T>(step_.softmax_scale) : 0;
            }
            maximum_[r] = -kInfinity<T>;
            sum_[r] = 0;
        }
        for (int64_t n = 0; n < rows_ * pitch_; ++n) {
            out_[n] = 0;
        }
    }

    Lines<Cached> find(const flashring_tensor& tensor, const void* const* pages, int64_t tile, int64_t begin,
                        int64_t end) const {
        Lines<Cached> lines{};
        for (int64_t key = most(tile, begin); key < least(tile + kKeys, end); ++key) {
            lines.of[key - tile] = cached<const Cached>(step_, tensor, pages, b_, key, g_);
        }
        return lines;
    }

    // What each row sees of the keys [first, last) of a tile. Returns whether some row does not see them all.
    bool see(int64_t tile, int64_t first, int64_t last) {
        bool bordered = false;
        for (int64_t r = 0; r < rows_; ++r) {
            const int64_t query = b_ * problem_.ofRow + r / group_;
            from_[r] = most(first, least(last, problem_.lo[query] - tile));
            to_[r] = most(from_[r], least(last, problem_.hi[query] - tile));
            bordered |= from_[r] != first || to_[r] != last;
        }
        return bordered;
    }

    // Whether values are read where they lie: by few enough rows to read them once, in whole vectors.
    bool direct(int64_t dim) const {
        return sizeof(Cached) > 1 && rows_ <= kRowBlock && dim % kLanes<T> == 0;
    }

    // Rows as T, each byte times the scale of their head, followed by zeros up to `pitch`.
    Lines<T> copied(const Lines<Cached>& lines, const float* scales, int64_t first, int64_t last, int64_t dim,
                    int64_t pitch) {
        const T scale = sizeof(Cached) > 1 ? 1 : static_cast<T>(scaleOfHead(scales, g_));
        Lines<T> result{};
        for (int64_t j = first; j < last; ++j) {
            T* const line = copy_ + j * pitch;
            const int64_t whole = dim / kLanes<T> * kLanes<T>;
            for (int64_t d = 0; d < whole; d += kLanes<T>) {
                const Vec<T> wide = widenVector(lines.of[j] + d);
                store<T>(line + d, sizeof(Cached) > 1 ? wide : wide * scale);
            }
            for (int64_t d = whole; d < pitch; ++d) {
                line[d] = d < dim ? widen(lines.of[j][d]) * scale : 0;
            }
            result.of[j] = line;
        }
        return result;
    }

    // S^T = K Q^T, by the product of the SIMD kernels: backward finds the same scores to the last bit, and with them
    // weights that agree with lse whatever the scores' size. Asks for the values meanwhile, which come next.
    void score(const Lines<Cached>& keys, const Lines<Cached>& values, int64_t first, int64_t last) {
        const int64_t pitch = wholeVectors<T>(step_.head_dim);
        copied(keys, step_.k_scales, first, last, step_.head_dim, pitch);
        for (int64_t j = first; j < last; j += kBlockRows) {
            const int64_t count = least(kBlockRows, last - j);
            values.prefetch(j, j + count, step_.value_dim);
            scores<T>(count, lanes_, step_.head_dim, Matrix<const T>{copy_ + j * pitch, pitch}, queries_,
                      scores_.from(j, 0));
        }
    }

    // Without slopes the heads of all rows are shaped alike.
    void shape(int64_t first, int64_t last) {
        for (int64_t j = first; j < last; ++j) {
            shaping_.row(scores_.from(j, 0).data, lanes_, nullptr);
        }
    }

    void hide(int64_t first, int64_t last) {
        for (int64_t r = 0; r < rows_; ++r) {
            for (int64_t j = first; j < last; ++j) {
                if (j < from_[r] || j >= to_[r]) {
                    *scores_.from(j, r).data = -kInfinity<T>;
                }
            }
        }
    }

    // Turns the scores of one vector of rows into weights, and advances their maximum and sum.
    void softmax(int64_t first, int64_t last, int64_t lane) {
        const Vec<T> before = load(maximum_ + lane);
        Vec<T> top = before;
        for (int64_t j = first; j < last; ++j) {
            top = maximum(load(scores_.from(j, lane).data), top);
        }
        // A row that has seen nothing yet keeps -inf as its maximum, and is never subtracted from itself.
        const Vec<T> shift = top == -kInfinity<T> ? Vec<T>{} : top;
        const Vec<T> decay = exp<T>(before - shift);
        Vec<T> sum = load(sum_ + lane) * decay;
        for (int64_t j = first; j < last; ++j) {
            T* const at = scores_.from(j, lane).data;
            const Vec<T> p = exp<T>(load(at) - shift);
            store<T>(at, p);
            sum += p;
        }
        store<T>(maximum_ + lane, top);
        store<T>(sum_ + lane, sum);
        store<T>(decay_ + lane, decay);
    }

    void weigh(const Lines<Cached>& values, const Lines<Cached>& nextKeys, int64_t first, int64_t last, int64_t ahead,
               bool bordered) {
        if (direct(step_.value_dim)) {
            return weigh(values.of, nextKeys, first, last, ahead, bordered);
        }
        weigh(copied(values, step_.v_scales, first, last, step_.value_dim, pitch_).of, nextKeys, first, last, ahead,
              bordered);
    }

    // Asks for the next keys meanwhile. In a tile that some rows see in part each takes what it sees, for a weight of 0
    // would not keep NaN from it.
    template <class Value>
    void weigh(const Value* const* values, const Lines<Cached>& nextKeys, int64_t first, int64_t last, int64_t ahead,
               bool bordered) {
        const int64_t share = ceilDiv(kKeys * kValueVectors * kLanes<T>, pitch_);
        const auto meanwhile = [&](int64_t r, int64_t column) {
            if (r == 0) {
                const int64_t j = column / (kValueVectors * kLanes<T>) * share;
                nextKeys.prefetch(least(j, ahead), least(j + share, ahead), step_.head_dim);
            }
        };
        if (bordered) {
            for (int64_t r = 0; r < rows_; ++r) {
                weighValues<1>(scores_.data + r, lanes_, values, from_[r], to_[r], decay_ + r, out_ + r * pitch_,
                               pitch_, [&](int64_t column) { meanwhile(r, column); });
            }
            return;
        }
        forEachBlock(rows_, [&](auto block, int64_t r) {
            weighValues<decltype(block)::value>(scores_.data + r, lanes_, values, first, last, decay_ + r,
                                                out_ + r * pitch_, pitch_,
                                                [&](int64_t column) { meanwhile(r, column); });
        });
    }

    const Problem& problem_;
    const flashring_step& step_;
    const int64_t b_, g_, rows_, group_, lanes_, pitch_;
    const Shaping<T> shaping_;
    T *const maximum_, *const sum_, *const out_;  // the state that the piece leaves: [lanes], [lanes], [rows][pitch]
    Matrix<T> queries_;                           // [head_dim][lanes] scale * Q^T
    Matrix<T> scores_;                            // [kKeys][lanes] scores, then weights
    T* decay_;                                    // [lanes] what the last softmax made of the sum before it
    int64_t *from_, *to_;                         // [rows] keys of a tile that each row sees
    T* copy_;                                     // [kKeys][whole vectors] a tile's keys, then its values
};

// The states of a row's pieces, and that of earlier steps or its head's sink, become its result.
template <class T, class Element>
void mergePieces(const Problem& problem, const States<T>& states, const Span& span, int64_t b, int64_t g, int64_t r,
                 T* out) {
    const flashring_step& step = problem.step;
    const int64_t i = r / states.group, h = g * states.group + r % states.group;
    const bool resumes = step.flags & FLASHRING_RESUME;
    const T before = resumes ? *row<const T>(step.lse, b, i, h) : sinkOf<T>(step, h);
    const int64_t begin = most(0, span.first / kPiece), end = ceilDiv(span.last, kPiece);
    T top = before;
    for (int64_t piece = begin; piece < end; ++piece) {
        const T maximum = states.at(problem.workspace, b, g, piece)[r];
        top = maximum > top ? maximum : top;
    }
    const double shift = top == -kInfinity<T> ? 0 : static_cast<double>(top);
    double sum = 0;
    for (int64_t d = 0; d < step.value_dim; ++d) {
        out[d] = 0;
    }
    const auto add = [&](const T* from, double weight, double weighs) {
        sum += weight * weighs;
        for (int64_t d = 0; d < step.value_dim; ++d) {
            out[d] += static_cast<T>(weight) * from[d];
        }
    };
    if (before != -kInfinity<T>) {
        const double weight = __builtin_exp(static_cast<double>(before) - shift);
        if (resumes) {
            add(row<const T>(step.acc, b, i, h), weight * static_cast<double>(earlierSum<T>(step, b, i, h)), 1);
        } else {
            sum = weight;
        }
    }
    for (int64_t piece = begin; piece < end; ++piece) {
        const T* const state = states.at(problem.workspace, b, g, piece);
        add(state + 2 * states.lanes + r * states.pitch, __builtin_exp(static_cast<double>(state[r]) - shift),
            static_cast<double>(state[states.lanes + r]));
    }
    const T inverse = static_cast<T>(sum == 0 ? 0 : 1 / sum);
    for (int64_t d = 0; d < step.value_dim; ++d) {
        const T result = out[d] * inverse;
        if (step.acc.data) {
            row<T>(step.acc, b, i, h)[d] = result;
        }
        if (step.flags & FLASHRING_FINISH) {
            row<Element>(step.out, b, i, h)[d] = Narrow<Element>::from(result);
        }
    }
    storeLse<T>(step, b, i, h, shift, sum);
}

}  // namespace
}  // namespace flashring

#endif
