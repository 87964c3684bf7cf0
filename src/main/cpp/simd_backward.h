// Backward: one task per tile of keys, which stay in the vector lanes. From S = Q K^T and dP = dO V^T come P and dS, and
// from these dV += P^T dO and dK += dS^T Q, which belong to the task, and dQ += dS K, which tasks share.
//
// dQ is summed in one order whatever the thread count: each tile of queries has a turn counter, and a task adds to it
// when the tile of keys before has. Tasks start in that order too, so the one that is waited for is running.
#ifndef FLASHRING_SIMD_BACKWARD_H
#define FLASHRING_SIMD_BACKWARD_H

#include <sched.h>

#include "simd_tiles.h"
#include "threads.h"

namespace flashring {
namespace {

inline void awaitTurn(const int64_t* turn, int64_t mine) {
    for (int spins = 0; __atomic_load_n(turn, __ATOMIC_ACQUIRE) != mine; ++spins) {
        if (spins < 2000) {
            __builtin_ia32_pause();
        } else {
            sched_yield();
        }
    }
}

template <class T, class Element>
class BackwardTile {
public:
    BackwardTile(const Problem& problem, int64_t b, int64_t keyHead, int64_t tile, char* memory)
        : problem_(problem), step_(problem.step), b_(b), keyHead_(keyHead), tile_(tile), first_(tile * kTile),
          count_(least(kTile, step_.kv_len - first_)), width_(wholeVectors<T>(step_.head_dim)),
          valueWidth_(wholeVectors<T>(step_.value_dim)) {
        Scratch scratch(memory);
        const auto matrix = [&](int64_t rows, int64_t columns) { return Matrix<T>{scratch.take<T>(rows * columns), columns}; };
        keys_ = matrix(kTile, width_);
        keysAcross_ = matrix(step_.head_dim, kTile);
        valuesAcross_ = matrix(step_.value_dim, kTile);
        dk_ = matrix(kTile, width_);
        dv_ = matrix(kTile, valueWidth_);
        queries_ = matrix(kTile, width_);
        dout_ = matrix(kTile, valueWidth_);
        dq_ = matrix(kTile, width_);
        p_ = matrix(kTile, kTile);
        ds_ = matrix(kTile, kTile);
    }

    void run() {
        begin();
        const int64_t group = step_.q_heads / step_.kv_heads;
        for (int64_t h = keyHead_ * group; h < (keyHead_ + 1) * group; ++h) {
            for (int64_t tile = 0; tile < tiles(step_.q_len); ++tile) {
                const int64_t query = tile * kTile, queries = least(kTile, step_.q_len - query);
                if (problem_.lo[query] < first_ + count_ && problem_.hi[query + queries - 1] > first_) {
                    attend(h, query, queries);
                }
            }
        }
        add(dk_, step_.dk, step_.head_dim);
        add(dv_, step_.dv, step_.value_dim);
    }

private:
    void begin() {
        copyRows<T, Element>(step_.v, b_, first_, count_, keyHead_, step_.value_dim, dv_);
        transpose<T>({dv_.data, dv_.stride}, count_, step_.value_dim, 1, valuesAcross_.data);
        copyRows<T, Element>(step_.k, b_, first_, count_, keyHead_, step_.head_dim, keys_);
        transpose<T>({keys_.data, keys_.stride}, count_, step_.head_dim, 1, keysAcross_.data);
        finiteKeys_ = allFinite<T>({keys_.data, keys_.stride}, count_, step_.head_dim);
        clear(dk_);
        clear(dv_);
    }

    void clear(Matrix<T> matrix) {
        for (int64_t i = 0; i < count_ * matrix.stride; ++i) {
            matrix.data[i] = 0;
        }
    }

    // One tile of queries of one head.
    void attend(int64_t h, int64_t query, int64_t queries) {
        const int64_t lanes = wholeVectors<T>(count_);
        const int64_t* const lo = problem_.lo + query;
        const int64_t* const hi = problem_.hi + query;
        // A tile of keys with lanes to spare counts as border: its spare lanes are masked too.
        const bool border = lo[queries - 1] > first_ || hi[0] < first_ + lanes;
        copyRows<T, Element>(step_.q, b_, query, queries, h, step_.head_dim, queries_);
        copyRows<T, Element>(step_.dout, b_, query, queries, h, step_.value_dim, dout_);
        product<T, Layout::Rows>(queries, lanes, step_.head_dim, read(queries_), read(keysAcross_), p_, Start::Zero);
        product<T, Layout::Rows>(queries, lanes, step_.value_dim, read(dout_), read(valuesAcross_), ds_, Start::Zero);
        for (int64_t i = 0; i < queries; ++i) {
            const T lse = *row<const T>(step_.lse, b_, query + i, h), delta = *row<const T>(step_.delta, b_, query + i, h);
            if (border) {
                const bool seesNothing = lse == static_cast<T>(-__builtin_inf());
                softmaxGradient<true>(i, lanes, lse, delta, static_cast<T>(most(0, lo[i] - first_)),
                                      static_cast<T>(seesNothing ? 0 : least(count_, hi[i] - first_)));
            } else {
                softmaxGradient<false>(i, lanes, lse, delta, 0, 0);
            }
        }
        if (border && !(finiteKeys_ && allFinite(read(queries_), queries, step_.head_dim) &&
                        allFinite(read(dout_), queries, step_.value_dim))) {
            accumulateVisible(lo, hi, queries);
        } else {
            product<T, Layout::Transposed>(count_, valueWidth_, queries, read(p_), read(dout_), dv_, Start::Keep);
            product<T, Layout::Transposed>(count_, width_, queries, read(ds_), read(queries_), dk_, Start::Keep);
            product<T, Layout::Rows>(queries, width_, count_, read(ds_), read(keys_), dq_, Start::Zero);
        }
        addToQueries(h, query, queries);
    }

    // Row i of S and dP becomes row i of P and dS; lanes outside [from, to) become 0.
    template <bool masked>
    void softmaxGradient(int64_t i, int64_t lanes, T lse, T delta, T from, T to) {
        const T slope = static_cast<T>(step_.softmax_scale * kLog2E), offset = lse * static_cast<T>(kLog2E);
        const T scale = static_cast<T>(step_.softmax_scale);
        for (int64_t lane = 0; lane < lanes; lane += kLanes<T>) {
            T* const pAt = p_.data + i * kTile + lane;
            T* const dsAt = ds_.data + i * kTile + lane;
            Vec<T> p = exp2<T>(load(pAt) * slope - offset);
            Vec<T> ds = p * (load(dsAt) - delta) * scale;
            if (masked) {
                const Vec<T> index = laneIndices<T>() + static_cast<T>(lane);
                p = index >= from ? (index < to ? p : Vec<T>{}) : Vec<T>{};
                ds = index >= from ? (index < to ? ds : Vec<T>{}) : Vec<T>{};
            }
            store<T>(pAt, p);
            store<T>(dsAt, ds);
        }
    }

    // The three products for a border tile with a NaN or infinity among its operands, over visible pairs only: 0 times it
    // must not reach who cannot see it.
    void accumulateVisible(const int64_t* lo, const int64_t* hi, int64_t queries) {
        for (int64_t i = 0; i < queries; ++i) {
            const int64_t from = most(0, lo[i] - first_), visible = most(0, least(count_, hi[i] - first_) - from);
            const auto at = [&](Matrix<T> matrix, int64_t r, int64_t c) { return Matrix<T>{matrix.data + r * matrix.stride + c, matrix.stride}; };
            product<T, Layout::Transposed>(visible, valueWidth_, 1, read(at(p_, i, from)), read(at(dout_, i, 0)), at(dv_, from, 0), Start::Keep);
            product<T, Layout::Transposed>(visible, width_, 1, read(at(ds_, i, from)), read(at(queries_, i, 0)), at(dk_, from, 0), Start::Keep);
            product<T, Layout::Rows>(1, width_, visible, read(at(ds_, i, from)), read(at(keys_, from, 0)), at(dq_, i, 0), Start::Zero);
        }
    }

    void addToQueries(int64_t h, int64_t query, int64_t queries) {
        int64_t* const turn = reinterpret_cast<int64_t*>(problem_.workspace) + (b_ * step_.q_heads + h) * tiles(step_.q_len) + query / kTile;
        const int64_t mine = tile_ - problem_.lo[query] / kTile;
        awaitTurn(turn, mine);
        const bool overwrite = mine == 0 && !(step_.flags & FLASHRING_ADD_DQ);
        for (int64_t i = 0; i < queries; ++i) {
            addRow(dq_.data + i * dq_.stride, row<T>(step_.dq, b_, query + i, h), step_.head_dim, overwrite);
        }
        __atomic_store_n(turn, mine + 1, __ATOMIC_RELEASE);
    }

    static void addRow(const T* from, T* to, int64_t dim, bool overwrite) {
        for (int64_t d = 0; d < dim; ++d) {
            to[d] = overwrite ? from[d] : to[d] + from[d];
        }
    }

    void add(Matrix<T> sum, const flashring_tensor& tensor, int64_t dim) {
        for (int64_t j = 0; j < count_; ++j) {
            addRow(sum.data + j * sum.stride, row<T>(tensor, b_, first_ + j, keyHead_), dim, !(step_.flags & FLASHRING_ADD_DKV));
        }
    }

    static Matrix<const T> read(Matrix<T> matrix) { return {matrix.data, matrix.stride}; }

    const Problem& problem_;
    const flashring_step& step_;
    const int64_t b_, keyHead_, tile_;
    const int64_t first_, count_;            // the keys of this tile
    const int64_t width_, valueWidth_;       // head_dim and value_dim in whole vectors
    bool finiteKeys_ = true;
    Matrix<T> keys_;                         // [kTile keys][width]
    Matrix<T> keysAcross_, valuesAcross_;    // [dim][kTile keys] K^T, V^T
    Matrix<T> dk_, dv_;                      // [kTile keys][width]
    Matrix<T> queries_, dout_, dq_;          // [kTile queries][width]
    Matrix<T> p_, ds_;                       // [kTile queries][kTile keys] S then P, dP then dS
};

template <class T, class Element>
void backwardAs(const Problem& problem) {
    const flashring_step& step = problem.step;
    const int64_t queryTiles = tiles(step.q_len), keyTiles = tiles(step.kv_len), rows = step.batch * step.kv_heads;
    // Fresh turn counters; queries that no task will reach get their zeros here.
    parallelFor(step.batch * step.q_heads * queryTiles, [&](int64_t index, char*) {
        reinterpret_cast<int64_t*>(problem.workspace)[index] = 0;
        const int64_t line = index / queryTiles, query = index % queryTiles * kTile, end = least(step.q_len, query + kTile);
        if (step.flags & FLASHRING_ADD_DQ || problem.lo[query] < problem.hi[end - 1]) {
            return;
        }
        for (int64_t i = query; i < end; ++i) {
            T* const dq = row<T>(step.dq, line / step.q_heads, i, line % step.q_heads);
            for (int64_t d = 0; d < step.head_dim; ++d) {
                dq[d] = 0;
            }
        }
    });
    // Early keys are seen most under a causal mask: longest first.
    parallelFor(keyTiles * rows, [&](int64_t index, char* scratch) {
        const int64_t line = index % rows;
        BackwardTile<T, Element>(problem, line / step.kv_heads, line % step.kv_heads, index / rows, scratch).run();
    });
}

void backward(const Problem& problem) {
    withElement(problem.step.dtype, [&](auto element) {
        using Element = decltype(element);
        backwardAs<typename Accumulator<Element>::type, Element>(problem);
    });
}

int64_t workspaceBytes(const flashring_step& step, flashring_direction direction) {
    return direction == FLASHRING_FORWARD ? 0 : step.batch * step.q_heads * tiles(step.q_len) * static_cast<int64_t>(sizeof(int64_t));
}

}  // namespace
}  // namespace flashring

#endif
