// Backward: a task holds up to kPanels tiles of keys in the vector lanes and streams queries past them. From S = (scale
// Q) K^T, summed and rounded as forward does it, and dP = dO V^T come P and dS, and from these dV += P^T dO and dK +=
// dS^T (scale Q), which belong to the task, and dQ += scale dS K, which tasks share.
#ifndef FLASHRING_SIMD_BACKWARD_H
#define FLASHRING_SIMD_BACKWARD_H

#include "simd/schedule.h"
#include "simd/score.h"

namespace flashring {
namespace {

template <class T, class Element>
class BackwardTask {
public:
    // The keys [index * size, (index + 1) * size) of one key head.
    BackwardTask(const Problem& problem, int64_t b, int64_t keyHead, int64_t index, int64_t size, char* memory)
        : problem_(problem),
          step_(problem.step),
          b_(b),
          keyHead_(keyHead),
          index_(index),
          size_(size),
          first_(index * size),
          count_(least(size, step_.kv_len - first_)),
          panels_(tiles(count_)) {
        const int64_t width = wholeVectors<T>(step_.head_dim), valueWidth = wholeVectors<T>(step_.value_dim);
        Scratch scratch(memory);
        queries_ = scratch.take<T>(kTile, width);
        dq_ = scratch.take<T>(kTile, width);
        dout_ = scratch.take<T>(kTile, valueWidth);
        p_ = scratch.take<T>(kTile, kTile);
        ds_ = scratch.take<T>(kTile, kTile);
        for (int64_t n = 0; n < panels_; ++n) {
            const int64_t key = first_ + n * kTile;
            panel_[n] = {key,
                         least(kTile, first_ + count_ - key),
                         false,
                         scratch.take<T>(kTile, width),
                         scratch.take<T>(step_.head_dim, kTile),
                         scratch.take<T>(step_.value_dim, kTile),
                         scratch.take<T>(kTile, width),
                         scratch.take<T>(kTile, valueWidth)};
        }
    }

    // Panels whose scratch fits the second-level cache of the time.
    static int64_t panelsThatFit(const flashring_step& step) {
        const int64_t width = wholeVectors<T>(step.head_dim), valueWidth = wholeVectors<T>(step.value_dim);
        const int64_t each = kTile * (3 * width + 2 * valueWidth),
                      shared = kTile * (2 * width + valueWidth + 2 * kTile);
        constexpr int64_t cache = (5 << 18) / static_cast<int64_t>(sizeof(T));
        return most(1, least(kPanels, (cache - shared) / each));
    }

    void run() {
        for (int64_t n = 0; n < panels_; ++n) {
            begin(panel_[n]);
        }
        const int64_t group = step_.q_heads / step_.kv_heads;
        for (int64_t h = keyHead_ * group; h < (keyHead_ + 1) * group; ++h) {
            for (int64_t query = 0; query < step_.q_len; query += kTile) {
                const int64_t queries = least(kTile, step_.q_len - query);
                if (meet(problem_, query, queries, first_, count_)) {
                    attend(h, query, queries);
                }
            }
        }
        for (int64_t n = 0; n < panels_; ++n) {
            write(panel_[n], panel_[n].dk, step_.dk, step_.head_dim);
            write(panel_[n], panel_[n].dv, step_.dv, step_.value_dim);
        }
    }

private:
    struct Panel {
        int64_t first, count;                 // its keys
        bool finite;                          // no NaN or infinity among them
        Matrix<T> keys;                       // [kTile keys][dim]
        Matrix<T> keysAcross, valuesAcross;   // [dim][kTile keys] K^T, V^T
        Matrix<T> dk, dv;                     // [kTile keys][dim]

        int64_t lanes() const { return wholeVectors<T>(count); }
    };

    void begin(Panel& panel) {
        copyRows<T, Element>(step_.v, b_, panel.first, panel.count, keyHead_, step_.value_dim, panel.dv);
        transpose<T>(panel.dv, panel.count, step_.value_dim, panel.valuesAcross);
        copyRows<T, Element>(step_.k, b_, panel.first, panel.count, keyHead_, step_.head_dim, panel.keys);
        transpose<T>(panel.keys, panel.count, step_.head_dim, panel.keysAcross);
        panel.finite = allFinite<T>(panel.keys, panel.count, step_.head_dim);
        clear(panel.dk);
        clear(panel.dv);
    }

    static void clear(Matrix<T> matrix) {
        for (int64_t i = 0; i < kTile * matrix.stride; ++i) {
            matrix.data[i] = 0;
        }
    }

    // One tile of queries of one head, against every panel that it sees some of.
    void attend(int64_t h, int64_t query, int64_t queries) {
        const int64_t* const lo = problem_.lo + query;
        const int64_t* const hi = problem_.hi + query;
        copyRows<T, Element>(step_.q, b_, query, queries, h, step_.head_dim, queries_,
                             static_cast<T>(step_.softmax_scale));
        copyRows<T, Element>(step_.dout, b_, query, queries, h, step_.value_dim, dout_);
        Initial initial = Initial::Zero;
        for (int64_t n = 0; n < panels_; ++n) {
            const Panel& panel = panel_[n];
            prefetch(h, query + kTile + n * kTile / panels_, query + kTile + (n + 1) * kTile / panels_);
            if (lo[0] >= panel.first + panel.count || hi[queries - 1] <= panel.first) {
                continue;
            }
            // A panel with lanes to spare counts as border: the spare lanes are masked too.
            const bool border = lo[queries - 1] > panel.first || hi[0] < panel.first + panel.lanes();
            scores<T>(queries, panel.lanes(), step_.head_dim, queries_, panel.keysAcross, p_);
            product<T, Layout::Rows>(queries, panel.lanes(), step_.value_dim, dout_, panel.valuesAcross, ds_,
                                     Initial::Zero);
            softmaxGradient(panel, h, query, queries, border);
            if (border && !(panel.finite && allFinite<T>(queries_, queries, step_.head_dim) &&
                            allFinite<T>(dout_, queries, step_.value_dim))) {
                accumulateVisible(panel, lo, hi, queries, initial);
            } else {
                product<T, Layout::Transposed>(panel.count, dout_.stride, queries, p_, dout_, panel.dv,
                                               Initial::Itself);
                product<T, Layout::Transposed>(panel.count, queries_.stride, queries, ds_, queries_, panel.dk,
                                               Initial::Itself);
                product<T, Layout::Rows>(queries, queries_.stride, panel.count, ds_, panel.keys, dq_, initial);
            }
            initial = Initial::Itself;
        }
        addToQueries(h, query, queries);
    }

    void prefetch(int64_t h, int64_t query, int64_t end) {
        end = least(end, step_.q_len);
        prefetchRows<Element>(step_.q, b_, query, end, h, step_.head_dim);
        prefetchRows<Element>(step_.dout, b_, query, end, h, step_.value_dim);
    }

    void softmaxGradient(const Panel& panel, int64_t h, int64_t query, int64_t queries, bool border) {
        const Shaping<T> shaping(step_, h);
        Distances<T> keys(problem_.kvPositions, panel.first, panel.count);
        alignas(kVectorBytes) T growths[kTile];
        const T* const growth = shaping.softcap != 0 ? growths : nullptr;
        for (int64_t i = 0; i < queries; ++i) {
            if (shaping.any()) {
                shaping.row(p_.from(i, 0).data, panel.lanes(), keys.from(problem_.qPositions, query + i), growths);
            }
            const T lse = *row<const T>(step_.lse, b_, query + i, h),
                    delta = *row<const T>(step_.delta, b_, query + i, h);
            if (border) {
                const bool seesNothing = lse == -kInfinity<T>;
                softmaxGradientRow<true>(
                    i, panel.lanes(), lse, delta, growth, static_cast<T>(most(0, problem_.lo[query + i] - panel.first)),
                    static_cast<T>(seesNothing ? 0
                                               : most(0, least(panel.count, problem_.hi[query + i] - panel.first))));
            } else {
                softmaxGradientRow<false>(i, panel.lanes(), lse, delta, growth, 0, 0);
            }
        }
    }

    // Row i of S and dP becomes row i of P and dS, times `growth` where it is given; lanes outside [from, to) become 0.
    template <bool masked>
    void softmaxGradientRow(int64_t i, int64_t lanes, T lse, T delta, const T* growth, T from, T to) {
        for (int64_t lane = 0; lane < lanes; lane += kLanes<T>) {
            T* const pAt = p_.from(i, lane).data;
            T* const dsAt = ds_.from(i, lane).data;
            Vec<T> p = exp<T>(minimum(opaque(Vec<T>{}), load(pAt) - lse));
            Vec<T> ds = p * (load(dsAt) - delta);
            if (growth) {
                ds *= load(growth + lane);
            }
            if (masked) {
                const Vec<T> index = laneIndices<T>() + static_cast<T>(lane);
                p = index >= from ? (index < to ? p : Vec<T>{}) : Vec<T>{};
                ds = index >= from ? (index < to ? ds : Vec<T>{}) : Vec<T>{};
            }
            store<T>(pAt, p);
            store<T>(dsAt, ds);
        }
    }

    // The three products for a border tile with a NaN or infinity among its operands, over visible pairs only: 0 times
    // it must not reach who cannot see it.
    void accumulateVisible(const Panel& panel, const int64_t* lo, const int64_t* hi, int64_t queries, Initial initial) {
        for (int64_t i = 0; i < queries; ++i) {
            const int64_t from = most(0, lo[i] - panel.first);
            const int64_t visible = most(0, least(panel.count, hi[i] - panel.first) - from);
            product<T, Layout::Transposed>(visible, dout_.stride, 1, p_.from(i, from), dout_.from(i, 0),
                                           panel.dv.from(from, 0), Initial::Itself);
            product<T, Layout::Transposed>(visible, queries_.stride, 1, ds_.from(i, from), queries_.from(i, 0),
                                           panel.dk.from(from, 0), Initial::Itself);
            product<T, Layout::Rows>(1, queries_.stride, visible, ds_.from(i, from), panel.keys.from(from, 0),
                                     dq_.from(i, 0), initial);
        }
    }

    void addToQueries(int64_t h, int64_t query, int64_t queries) {
        const Turn turn(problem_, b_, h, query);
        const int64_t mine = index_ - problem_.lo[query] / size_;
        turn.await(mine);
        const bool add = mine > 0 || step_.flags & FLASHRING_ADD_DQ;
        for (int64_t i = 0; i < queries; ++i) {
            writeRow(dq_.from(i, 0).data, static_cast<T>(step_.softmax_scale), row<T>(step_.dq, b_, query + i, h),
                     step_.head_dim, add);
        }
        turn.pass(mine);
    }

    void write(const Panel& panel, Matrix<T> sum, const flashring_tensor& tensor, int64_t dim) {
        for (int64_t j = 0; j < panel.count; ++j) {
            writeRow(sum.from(j, 0).data, 1, row<T>(tensor, b_, panel.first + j, keyHead_), dim,
                     step_.flags & FLASHRING_ADD_DKV);
        }
    }

    static void writeRow(const T* from, T factor, T* to, int64_t dim, bool add) {
        for (int64_t d = 0; d < dim; ++d) {
            to[d] = add ? to[d] + factor * from[d] : factor * from[d];
        }
    }

    const Problem& problem_;
    const flashring_step& step_;
    const int64_t b_, keyHead_, index_, size_;
    const int64_t first_, count_, panels_;  // the keys of this task
    Matrix<T> queries_, dout_, dq_;         // [kTile queries][dim] of the tile at hand
    Matrix<T> p_, ds_;                      // [kTile queries][kTile keys] S then P, dP then dS
    Panel panel_[kPanels];
};

void backward(const Problem& problem) {
    withElement(problem.step.dtype, [&](auto element) {
        using Element = decltype(element);
        using T = typename Accumulator<Element>::type;
        using Task = BackwardTask<T, Element>;
        runBackward<T, Task>(problem, Task::panelsThatFit(problem.step));
    });
}

int64_t workspaceBytes(const flashring_step& step, flashring_direction direction) {
    return direction == FLASHRING_FORWARD ? 0 : turnBytes(step);
}

}  // namespace
}  // namespace flashring

#endif
