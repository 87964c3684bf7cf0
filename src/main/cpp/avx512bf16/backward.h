// Backward on pairs of bfloat16: a task holds up to kPanels tiles of keys in the vector lanes and streams queries past
// them. S = Q K^T and dP = dO V^T are paired along the dims, dV += P^T dO and dK += dS^T Q along the queries,
// dQ += dS K along the keys. dV and dK belong to the task, dQ is shared.
#ifndef FLASHRING_AVX512BF16_BACKWARD_H
#define FLASHRING_AVX512BF16_BACKWARD_H

#include "avx512bf16/product.h"
#include "simd/schedule.h"

namespace flashring {
namespace {

template <class Unit>
class Bf16BackwardTask {
public:
    // The keys [index * size, (index + 1) * size) of one key head.
    Bf16BackwardTask(const Problem& problem, int64_t b, int64_t keyHead, int64_t index, int64_t size, char* memory)
        : problem_(problem),
          step_(problem.step),
          b_(b),
          keyHead_(keyHead),
          index_(index),
          size_(size),
          first_(index * size),
          count_(least(size, step_.kv_len - first_)),
          panels_(tiles(count_)),
          depth_(pairsOf(step_.head_dim)),
          valueDepth_(pairsOf(step_.value_dim)),
          scale_(static_cast<float>(step_.softmax_scale)) {
        const int64_t width = wholeVectors<float>(step_.head_dim), valueWidth = wholeVectors<float>(step_.value_dim);
        Scratch scratch(memory);
        queryRows_ = scratch.take<Word>(kTile, wholeVectors<float>(depth_));
        doutRows_ = scratch.take<Word>(kTile, wholeVectors<float>(valueDepth_));
        queryPairs_ = scratch.take<Word>(kTile / 2, width);
        doutPairs_ = scratch.take<Word>(kTile / 2, valueWidth);
        dq_ = scratch.take<float>(kTile, width);
        scores_ = scratch.take<float>(kTile, kTile);
        weightGradients_ = scratch.take<float>(kTile, kTile);
        dsRows_ = scratch.take<Word>(kTile, kTile / 2);
        for (int64_t n = 0; n < panels_; ++n) {
            const int64_t key = first_ + n * kTile;
            panel_[n] = {key,
                         least(kTile, first_ + count_ - key),
                         false,
                         scratch.take<Word>(kTile / 2, width),
                         scratch.take<Word>(depth_, kTile),
                         scratch.take<Word>(valueDepth_, kTile),
                         scratch.take<float>(kTile, width),
                         scratch.take<float>(kTile, valueWidth)};
        }
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
            write(panel_[n], panel_[n].dk, step_.dk, step_.head_dim, scale_);
            write(panel_[n], panel_[n].dv, step_.dv, step_.value_dim, 1);
        }
    }

private:
    static constexpr int64_t kLaneStep = 2 * kLanes<float>;

    struct Panel {
        int64_t first, count;                     // its keys
        bool finite;                              // no NaN or infinity among them
        Matrix<Word> keyPairs;                    // [kTile / 2 pairs of keys][head_dim]
        Matrix<Word> keysAcross, valuesAcross;    // [dim pairs][kTile keys] K^T, V^T
        Matrix<float> dk, dv;                     // [kTile keys][dim]

        int64_t lanes() const { return roundUp(count, kLaneStep); }
    };

    void begin(Panel& panel) {
        // The rows of queries and dO are not in use yet.
        copyPairs(step_.k, b_, panel.first, panel.count, keyHead_, step_.head_dim, queryRows_);
        transposeWords(queryRows_, panel.count, depth_, panel.keysAcross);
        copyPairs(step_.v, b_, panel.first, panel.count, keyHead_, step_.value_dim, doutRows_);
        transposeWords(doutRows_, panel.count, valueDepth_, panel.valuesAcross);
        interleavePairs(step_.k, b_, panel.first, panel.count, keyHead_, step_.head_dim, panel.keyPairs);
        panel.finite = allFinitePairs(panel.keyPairs, pairsOf(panel.count));
        clear(panel.dk);
        clear(panel.dv);
    }

    static void clear(Matrix<float> matrix) {
        for (int64_t i = 0; i < kTile * matrix.stride; ++i) {
            matrix.data[i] = 0;
        }
    }

    // One tile of queries of one head, against every panel that it sees some of.
    void attend(int64_t h, int64_t query, int64_t queries) {
        const int64_t* const lo = problem_.lo + query;
        const int64_t* const hi = problem_.hi + query;
        copyPairs(step_.q, b_, query, queries, h, step_.head_dim, queryRows_);
        copyPairs(step_.dout, b_, query, queries, h, step_.value_dim, doutRows_);
        interleavePairs(step_.q, b_, query, queries, h, step_.head_dim, queryPairs_);
        interleavePairs(step_.dout, b_, query, queries, h, step_.value_dim, doutPairs_);
        Initial initial = Initial::Zero;
        for (int64_t n = 0; n < panels_; ++n) {
            const Panel& panel = panel_[n];
            prefetch(h, query + kTile + n * kTile / panels_, query + kTile + (n + 1) * kTile / panels_);
            if (lo[0] >= panel.first + panel.count || hi[queries - 1] <= panel.first) {
                continue;
            }
            // A panel with lanes to spare counts as border: the spare lanes are masked too.
            const bool border = lo[queries - 1] > panel.first || hi[0] < panel.first + panel.lanes();
            pairProduct<Unit, Layout::Rows>(queries, panel.lanes(), depth_, queryRows_, panel.keysAcross, scores_,
                                            Initial::Zero);
            pairProduct<Unit, Layout::Rows>(queries, panel.lanes(), valueDepth_, doutRows_, panel.valuesAcross,
                                            weightGradients_, Initial::Zero);
            softmaxGradient(panel, h, query, queries, border);
            if (border && !(panel.finite && allFinitePairs(queryPairs_, pairsOf(queries)) &&
                            allFinitePairs(doutPairs_, pairsOf(queries)))) {
                accumulateVisible(panel, lo, hi, queries, initial);
            } else {
                accumulate(panel, queries, initial);
            }
            initial = Initial::Itself;
        }
        addToQueries(h, query, queries);
    }

    void accumulate(const Panel& panel, int64_t queries, Initial initial) {
        const int64_t depth = pairsOf(queries);
        pairProduct<Unit, Layout::Transposed>(panel.count, doutPairs_.stride, depth, pPairs(), doutPairs_, panel.dv,
                                              Initial::Itself);
        pairProduct<Unit, Layout::Transposed>(panel.count, queryPairs_.stride, depth, dsPairs(), queryPairs_, panel.dk,
                                              Initial::Itself);
        pairProduct<Unit, Layout::Rows>(queries, panel.keyPairs.stride, pairsOf(panel.count), dsRows_, panel.keyPairs,
                                        dq_, initial);
    }

    void prefetch(int64_t h, int64_t query, int64_t end) {
        end = least(end, step_.q_len);
        prefetchRows<bfloat16>(step_.q, b_, query, end, h, step_.head_dim);
        prefetchRows<bfloat16>(step_.dout, b_, query, end, h, step_.value_dim);
    }

    // P and dS as pairs of queries [kTile / 2][kTile keys], where the scores and dP were.
    Matrix<Word> pPairs() const { return {reinterpret_cast<Word*>(scores_.data), scores_.stride}; }
    Matrix<Word> dsPairs() const { return {reinterpret_cast<Word*>(weightGradients_.data), weightGradients_.stride}; }

    // What one row of S and dP needs to become one of P and dS; outside the keys [from, to) both are 0.
    struct Query {
        float lse, delta, from, to;  // lse: +infinity where the query sees nothing, so that its P is 0
    };

    Query queryOf(const Panel& panel, int64_t h, int64_t query, bool border) const {
        const float lse = *row<const float>(step_.lse, b_, query, h);
        Query result{lse == -kInfinity<float> ? kInfinity<float> : lse, *row<const float>(step_.delta, b_, query, h), 0,
                     0};
        if (border) {
            result.from = static_cast<float>(most(0, problem_.lo[query] - panel.first));
            result.to = static_cast<float>(most(0, least(panel.count, problem_.hi[query] - panel.first)));
        }
        return result;
    }

    void softmaxGradient(const Panel& panel, int64_t h, int64_t query, int64_t queries, bool border) {
        for (int64_t i = 0; i < queries; i += 2) {
            const bool single = i + 1 == queries;
            const Query first = queryOf(panel, h, query + i, border || single);
            const Query second = single ? Query{0, 0, 0, 0} : queryOf(panel, h, query + i + 1, border);
            if (border || single) {
                softmaxGradientRows<true>(i, panel.lanes(), first, second);
            } else {
                softmaxGradientRows<false>(i, panel.lanes(), first, second);
            }
        }
    }

    // Rows i and i + 1 of S and dP become pairs i / 2 of P and dS, and rows i and i + 1 of dS.
    template <bool masked>
    void softmaxGradientRows(int64_t i, int64_t lanes, Query first, Query second) {
        for (int64_t lane = 0; lane < lanes; lane += kLaneStep) {
            Vec<float> ds[2][2];
#pragma GCC unroll 2
            for (int v = 0; v < 2; ++v) {
                const int64_t at = lane + v * kLanes<float>;
                Vec<float> p[2];
                p[0] = gradient<masked>(i, at, first, ds[0][v]);
                p[1] = gradient<masked>(i + 1, at, second, ds[1][v]);
                store(pPairs().from(i / 2, at).data, Unit::pairs(p[0], p[1]));
                store(dsPairs().from(i / 2, at).data, Unit::pairs(ds[0][v], ds[1][v]));
            }
            store(dsRows_.from(i, lane / 2).data, Unit::row(ds[0][0], ds[0][1]));
            store(dsRows_.from(i + 1, lane / 2).data, Unit::row(ds[1][0], ds[1][1]));
        }
    }

    // One vector of P, and of dS.
    template <bool masked>
    Vec<float> gradient(int64_t i, int64_t lane, Query query, Vec<float>& ds) const {
        const Vec<float> above = load<float>(scores_.from(i, lane).data) * broadcast(scale_) - query.lse;
        Vec<float> p = expOfNegative<Unit>(above > 0.0f ? Vec<float>{} : above);
        ds = p * (load<float>(weightGradients_.from(i, lane).data) - query.delta);
        if (masked) {
            const Vec<float> index = laneIndices<float>() + static_cast<float>(lane);
            p = index >= query.from ? (index < query.to ? p : Vec<float>{}) : Vec<float>{};
            ds = index >= query.from ? (index < query.to ? ds : Vec<float>{}) : Vec<float>{};
        }
        return p;
    }

    // The three products for a border tile with a NaN or infinity among its operands, over visible pairs only: 0 times
    // it must not reach who cannot see it.
    void accumulateVisible(const Panel& panel, const int64_t* lo, const int64_t* hi, int64_t queries, Initial initial) {
        if (initial == Initial::Zero) {
            clear(dq_);
        }
        for (int64_t i = 0; i < queries; ++i) {
            const int64_t end = least(panel.count, hi[i] - panel.first);
            for (int64_t j = most(0, lo[i] - panel.first); j < end; ++j) {
                const float p = inPairs(pPairs(), i, j), ds = inPairs(dsPairs(), i, j);
                for (int64_t d = 0; d < step_.value_dim; ++d) {
                    *panel.dv.from(j, d).data += p * inPairs(doutPairs_, i, d);
                }
                for (int64_t d = 0; d < step_.head_dim; ++d) {
                    *panel.dk.from(j, d).data += ds * inPairs(queryPairs_, i, d);
                    *dq_.from(i, d).data += ds * inPairs(panel.keyPairs, j, d);
                }
            }
        }
    }

    void addToQueries(int64_t h, int64_t query, int64_t queries) {
        const Turn turn(problem_, b_, h, query);
        const int64_t mine = index_ - problem_.lo[query] / size_;
        turn.await(mine);
        const bool add = mine > 0 || step_.flags & FLASHRING_ADD_DQ;
        for (int64_t i = 0; i < queries; ++i) {
            writeRow(dq_.from(i, 0).data, row<float>(step_.dq, b_, query + i, h), step_.head_dim, scale_, add);
        }
        turn.pass(mine);
    }

    void write(const Panel& panel, Matrix<float> sum, const flashring_tensor& tensor, int64_t dim, float factor) {
        for (int64_t j = 0; j < panel.count; ++j) {
            writeRow(sum.from(j, 0).data, row<float>(tensor, b_, panel.first + j, keyHead_), dim, factor,
                     step_.flags & FLASHRING_ADD_DKV);
        }
    }

    static void writeRow(const float* from, float* to, int64_t dim, float factor, bool add) {
        for (int64_t d = 0; d < dim; ++d) {
            to[d] = add ? to[d] + factor * from[d] : factor * from[d];
        }
    }

    const Problem& problem_;
    const flashring_step& step_;
    const int64_t b_, keyHead_, index_, size_;
    const int64_t first_, count_, panels_;          // the keys of this task
    const int64_t depth_, valueDepth_;              // pairs of head_dim and value_dim
    const float scale_;
    Matrix<Word> queryRows_, doutRows_;             // [kTile queries][dim pairs] of the tile at hand
    Matrix<Word> queryPairs_, doutPairs_;           // [kTile / 2 pairs of queries][dim]
    Matrix<float> dq_;                              // [kTile queries][head_dim]
    Matrix<float> scores_, weightGradients_;        // [kTile queries][kTile keys] Q K^T and dP
    Matrix<Word> dsRows_;                           // [kTile queries][kTile / 2 pairs of keys] dS
    Panel panel_[kPanels];
};

// The scratch of kPanels panels of the largest dims, and what they share.
static_assert(4 * kTile * (kPanels * 7 * kCommonHeadDim / 2 + 3 * kCommonHeadDim + 5 * kTile / 2) <= kScratchBytes,
              "the backward scratch fits");

}  // namespace
}  // namespace flashring

#endif
