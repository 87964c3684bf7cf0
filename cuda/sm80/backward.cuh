// One backward step on tensor cores: FlashAttention-2 (Dao 2023), algorithm 2. A block owns a tile of keys of one key
// head, keeps their dK and dV in registers, and walks over the queries of every head of the group that see them.
#ifndef FLASHRING_CUDA_SM80_BACKWARD_CUH
#define FLASHRING_CUDA_SM80_BACKWARD_CUH

#include <math.h>

#include <type_traits>

#include "common/scores.cuh"
#include "sm80/backward_config.cuh"
#include "sm80/block_search.cuh"
#include "sm80/gradients.cuh"
#include "sm80/mma.cuh"
#include "sm80/nonfinite.cuh"

namespace flashring {

// P and dS of a warp's queries, from firstQuery of the tile on, which begins with query tileQuery of `head`, and one
// strip of its keys: keyFrom among all keys. Lane l knows what query firstQuery + l sees. far: some of these queries
// are.
template <class Element, class Config>
__device__ void scoreStrip(const Arguments& a, const typename Config::Queries& queries,
                           const typename Config::Douts& douts, const typename Config::Keys& keys,
                           const typename Config::Values& values, const typename Config::Scores& weights,
                           const typename Config::Scores& gradients, const typename Config::Rows& rows, int head,
                           int tileQuery, int firstQuery, int strip, int keyFrom, int ownLo, int ownHi, bool far) {
    constexpr int kM = Config::kScoreQueries / 16, kN = Config::kStrip / 8;
    const int keyTo = keyFrom + Config::kStrip, lane = threadIdx.x % 32;
    const ScoreScale scale = scaleOf(a);
    float p[kM][kN][4], ds[kM][kN][4];
    clear(p);
    clear(ds);
    if (__any_sync(~0u, ownLo < keyTo && ownHi > keyFrom)) {
        const bool border = !__all_sync(~0u, ownLo <= keyFrom && ownHi >= keyTo);
        multiply<Element, Config::kDims.key, Stored::AlongDepth, Stored::AlongDepth>(p, queries, firstQuery, keys,
                                                                                     strip);
        multiply<Element, Config::kDims.value, Stored::AlongDepth, Stored::AlongDepth>(ds, douts, firstQuery, values,
                                                                                       strip);
        const auto toProbabilities = [&](auto anyFar) {
#pragma unroll
            for (int m = 0; m < kM; ++m) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int i = firstQuery + m * 16 + half * 8 + lane / 4;
                    const float lse = rows.lse[i], delta = rows.delta[i];
                    const std::conditional_t<decltype(anyFar)::value, FarProbability, NearWeight> probability{scale,
                                                                                                              lse};
#pragma unroll
                    for (int n = 0; n < kN; ++n) {
#pragma unroll
                        for (int e = half * 2; e < half * 2 + 2; ++e) {
                            p[m][n][e] = probability(p[m][n][e]);
                            ds[m][n][e] = p[m][n][e] * (ds[m][n][e] - delta);
                        }
                    }
                }
            }
        };
        if (a.shape.any) {
            if (a.shape.softcap != 0) {  // dP - delta, times what the softcap lets through of a change
                const Softcap softcap{a.shape.softcap, a.shape.exponent};
#pragma unroll
                for (int m = 0; m < kM; ++m) {
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const float delta = rows.delta[firstQuery + m * 16 + half * 8 + lane / 4];
#pragma unroll
                        for (int n = 0; n < kN; ++n) {
#pragma unroll
                            for (int e = half * 2; e < half * 2 + 2; ++e) {
                                const float rest = softcap.rest(p[m][n][e]);
                                p[m][n][e] = softcap.score(rest);
                                ds[m][n][e] = fmaf(ds[m][n][e] - delta, softcap.growth(rest), delta);
                            }
                        }
                    }
                }
            } else {
                bound(p, a.shape);
            }
            if (a.keyPositions) {
                takeDistances(p, a, head, tileQuery + firstQuery, keyFrom);
            }
        }
        if (far) {
            toProbabilities(std::true_type());
        } else {
            toProbabilities(std::false_type());
        }
        if (border) {
#pragma unroll
            for (int m = 0; m < kM; ++m) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int i = firstQuery + m * 16 + half * 8 + lane / 4;
                    const int lo = rows.lo[i] - keyFrom, hi = rows.hi[i] - keyFrom;
                    const auto hide = [&](int col, float& x, float& y) {
                        x = (col >= lo) & (col < hi) ? x : 0;
                        y = (col + 1 >= lo) & (col + 1 < hi) ? y : 0;
                    };
                    forEachPair(p, m, half, hide);
                    forEachPair(ds, m, half, hide);
                }
            }
        }
    }
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int i = firstQuery + m * 16 + half * 8 + lane / 4;
            forEachPair(p, m, half,
                        [&](int col, float x, float y) { weights.storePair(i, strip + col, pack<Element>(x, y)); });
            forEachPair(ds, m, half,
                        [&](int col, float x, float y) { gradients.storePair(i, strip + col, pack<Element>(x, y)); });
        }
    }
}

template <class Element, class Config>
__device__ void backward(const Arguments& a) {
    constexpr int kThreads = Config::kThreads, kQueries = Config::kTile.queries, kKeys = Config::kTile.keys;
    constexpr int kQueryStages = Config::kTile.queryStages, kDoutStages = Config::kTile.doutStages;
    const flashring_step& step = a.step;
    extern __shared__ __align__(16) char memory[];
    const typename Config::Keys keys{memory};
    const typename Config::Values values{keys.memory + Config::Keys::kBytes};
    const typename Config::Scores weights{values.memory + Config::Values::kBytes};     // P,
    const typename Config::Scores gradients{weights.memory + Config::Scores::kBytes};  // and dS
    char* const doutStages = gradients.memory + Config::Scores::kBytes;
    char* const stages = doutStages + kDoutStages * Config::Douts::kBytes;
    const auto doutsOf = [&](int stage) { return typename Config::Douts{doutStages + stage * Config::Douts::kBytes}; };
    const auto queriesOf = [&](int stage) { return typename Config::Queries{stages + stage * Config::kStageBytes}; };
    const auto rowsOf = [&](int stage) {
        return reinterpret_cast<typename Config::Rows*>(stages + stage * Config::kStageBytes + Config::Queries::kBytes);
    };

    // Early keys are seen most under a causal mask: they start first. A ticket makes that order certain where it
    // matters.
    const int length = static_cast<int>(step.q_len), keyLength = static_cast<int>(step.kv_len);
    const int tiles = ceilDiv(keyLength, kKeys), keyHeads = static_cast<int>(step.kv_heads);
    const int heads = static_cast<int>(step.q_heads), group = heads / keyHeads;
    int ticket = blockIdx.x;
    if (a.turns) {
        __shared__ int drawn;
        if (threadIdx.x == 0) {
            drawn = atomicAdd(a.turns, 1);
        }
        __syncthreads();
        ticket = drawn;
    }
    const int tile = ticket % tiles, keyHead = ticket / tiles % keyHeads, batch = ticket / tiles / keyHeads;
    const int firstKey = tile * kKeys;
    const int keyDim = static_cast<int>(step.head_dim), valueDim = static_cast<int>(step.value_dim);

    const auto loadKeys = [&] {
        load<kThreads>(keys, row<const Element>(step.k, batch, 0, keyHead), step.k.stride_seq, firstKey, 0, keyLength,
                       keyDim, a.vectorInputs);
    };
    loadKeys();
    load<kThreads>(values, row<const Element>(step.v, batch, 0, keyHead), step.v.stride_seq, firstKey, 0, keyLength,
                   valueDim, a.vectorInputs);

    // The queries that see any of these keys, and their tiles.
    const int firstQuery = prefixLength<kThreads>(length, [&](int i) { return a.hi[i] <= firstKey; });
    const int lastQuery = prefixLength<kThreads>(length, [&](int i) { return a.lo[i] < firstKey + kKeys; });
    const int firstTile = firstQuery / kQueries, lastTile = ceilDiv(lastQuery, kQueries);
    const int queryTiles = ceilDiv(length, kQueries);

    const auto loadQueries = [&](int stage, int head, int queryTile) {
        const int first = queryTile * kQueries;
        load<kThreads>(queriesOf(stage), row<const Element>(step.q, batch, 0, head), step.q.stride_seq, first,
                       firstQuery, lastQuery, keyDim, a.vectorInputs);
        const auto* const rows = rowsOf(stage);
        for (int n = threadIdx.x; n < 4 * kQueries; n += kThreads) {
            const int i = first + n % kQueries;
            const bool inside = i >= firstQuery && i < lastQuery;
            const void* source = n < kQueries ? static_cast<const void*>(a.lo + i)
                                 : n < 2 * kQueries
                                     ? static_cast<const void*>(a.hi + i)
                                     : row<const float>(n < 3 * kQueries ? step.lse : step.delta, batch, i, head);
            copy4(sharedAddress(rows->lo + n), source, inside);
        }
    };
    const auto loadDouts = [&](int stage, int head, int queryTile) {
        load<kThreads>(doutsOf(stage), row<const Element>(step.dout, batch, 0, head), step.dout.stride_seq,
                       queryTile * kQueries, firstQuery, lastQuery, valueDim, a.vectorInputs);
    };

    // Whether some query of the tile does not see all of these keys; lo and hi of its queries.
    const auto bordered = [&](int queryTile, const int32_t* lo, const int32_t* hi) {
        const int first = queryTile * kQueries;
        return first < firstQuery || first + kQueries > lastQuery || lo[kQueries - 1] > firstKey ||
               hi[0] < firstKey + kKeys;
    };

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int scoreQuery = warp % Config::kTile.scoreQueryWarps * Config::kScoreQueries;
    const int scoreKey = warp / Config::kTile.scoreQueryWarps * Config::kScoreKeys;
    const int gradientKey = warp % Config::kTile.gradientKeyWarps * Config::kGradientKeys;
    const int dimWarp = warp / Config::kTile.gradientKeyWarps;
    const int dqQuery = warp % Config::kTile.dqQueryWarps * Config::kDqQueries;
    const int dqDim = warp / Config::kTile.dqQueryWarps * Config::kDqDims;

    float dk[Config::kGradientKeys / 16][Config::kKeyDims / 8][4],
        dv[Config::kGradientKeys / 16][Config::kValueDims / 8][4];
    clear(dk);
    clear(dv);

    int head = keyHead * group, queryTile = firstTile, stage = 0;
    bool more = firstTile < lastTile;
    if (more) {
        loadQueries(0, head, queryTile);
        loadDouts(0, head, queryTile);
    }
    // Whether any key is not finite, and whether anything was in a bordered tile. Not in registers, which are scarce.
    __shared__ bool nonFiniteKeys, nonFinite;
    nonFinite = false;
    waitForCopies();
    nonFiniteKeys = __syncthreads_or(anyNonFinite<Element, kThreads>(keys));
    while (more) {
        int nextHead = head, nextTile = queryTile + 1;
        if (nextTile == lastTile) {
            nextTile = firstTile;
            ++nextHead;
        }
        more = nextHead < (keyHead + 1) * group;
        waitForCopies();
        __syncthreads();  // queries and dO are here, and nobody reads P and dS any more
        if (kQueryStages == 2 && more) {
            loadQueries(stage ^ 1, nextHead, nextTile);
        }
        if (kDoutStages == 2 && more) {
            loadDouts(stage ^ 1, nextHead, nextTile);
        }
        const auto queries = queriesOf(kQueryStages == 2 ? stage : 0);
        const auto douts = doutsOf(kDoutStages == 2 ? stage : 0);
        const auto& rows = *rowsOf(kQueryStages == 2 ? stage : 0);

        // P = exp(S - lse) and dS = P (dP - delta), each warp its own part, kStrip keys at a time, to shared memory.
        const int own = scoreQuery + lane % Config::kScoreQueries, ownLo = rows.lo[own], ownHi = rows.hi[own];
        const bool far = __any_sync(~0u, isFar(rows.lse[own]));
#pragma unroll
        for (int strip = scoreKey; strip < scoreKey + Config::kScoreKeys; strip += Config::kStrip) {
            if (Config::kAllScore || strip < kKeys) {
                scoreStrip<Element, Config>(a, queries, douts, keys, values, weights, gradients, rows, head,
                                            queryTile * kQueries, scoreQuery, strip, firstKey + strip, ownLo, ownHi,
                                            far);
            }
        }
        const bool found = bordered(queryTile, rows.lo, rows.hi) &&
                           __syncthreads_or(nonFiniteKeys || anyNonFinite<Element, kThreads>(queries) ||
                                            anyNonFinite<Element, kThreads>(douts));
        if (found) {
            clearNonFinite<Element, kThreads>(keys);
            clearNonFinite<Element, kThreads>(queries);
            clearNonFinite<Element, kThreads>(douts);
            nonFinite = true;
        }
        __syncthreads();  // P and dS are complete

        multiply<Element, kQueries, Stored::AcrossDepth, Stored::AcrossDepth>(dv, weights, gradientKey, douts,
                                                                              dimWarp * Config::kValueDims);
        if (kDoutStages == 1 && more) {
            __syncthreads();  // nobody reads dO any more
            loadDouts(0, nextHead, nextTile);
        }

        multiply<Element, kQueries, Stored::AcrossDepth, Stored::AcrossDepth>(dk, gradients, gradientKey, queries,
                                                                              dimWarp * Config::kKeyDims);
        if (kQueryStages == 1 && more) {
            __syncthreads();  // nobody reads the queries any more
            loadQueries(0, nextHead, nextTile);
        }

        float dq[Config::kDqQueries / 16][Config::kDqDims / 8][4];
        clear(dq);
        multiply<Element, kKeys, Stored::AlongDepth, Stored::AcrossDepth>(dq, gradients, dqQuery, keys, dqDim);
        if (found) {
            __syncthreads();  // nobody reads the keys any more
            loadKeys();
        }
        // The first tile of keys that meets this tile of queries has turn 0.
        int32_t* const turn =
            a.turns ? a.turns + 1 + (int64_t{batch} * heads + head) * queryTiles + queryTile : nullptr;
        const int32_t ownTurn = a.turns ? tile - a.lo[queryTile * kQueries] / kKeys : 0;
        if (a.turns) {
            awaitTurn(turn, ownTurn);
        }
        const int dqRow = queryTile * kQueries + dqQuery;
        addToDq(dq, row<float>(step.dq, batch, dqRow, head), step.dq.stride_seq, length - dqRow, dqDim, keyDim,
                static_cast<float>(step.softmax_scale), a.vectorOutputs);
        if (a.turns) {
            passTurn(turn, ownTurn);
        }
        stage ^= 1;
        head = nextHead;
        queryTile = nextTile;
    }

    const int keyRow = firstKey + gradientKey;
    const bool add = step.flags & FLASHRING_ADD_DKV;
    storeGradient(dk, row<float>(step.dk, batch, keyRow, keyHead), step.dk.stride_seq, keyLength - keyRow,
                  dimWarp * Config::kKeyDims, keyDim, static_cast<float>(step.softmax_scale), add, a.vectorOutputs);
    storeGradient(dv, row<float>(step.dv, batch, keyRow, keyHead), step.dv.stride_seq, keyLength - keyRow,
                  dimWarp * Config::kValueDims, valueDim, 1, add, a.vectorOutputs);
    waitForCopies();  // of keys, where they were read again

    if (nonFinite) {  // what the products of bordered tiles have left out
        __syncthreads();  // dk and dv are written
        for (head = keyHead * group; head < (keyHead + 1) * group; ++head) {
            for (queryTile = firstTile; queryTile < lastTile; ++queryTile) {
                const int first = queryTile * kQueries, queries = min(kQueries, length - first);
                if (!bordered(queryTile, a.lo + first, a.hi + first)) {
                    continue;
                }
                const auto seen = [&](int j, int i) { return sees(a, first + i, firstKey + j); };
                addNonFinite<kThreads>(row<const Element>(step.dout, batch, first, head), step.dout.stride_seq, kKeys,
                                       queries, valueDim, seen, [&](int j, int col, float sum) {
                                           row<float>(step.dv, batch, firstKey + j, keyHead)[col] += sum;
                                       });
                addNonFinite<kThreads>(
                    row<const Element>(step.q, batch, first, head), step.q.stride_seq, kKeys, queries, keyDim, seen,
                    [&](int j, int col, float sum) { row<float>(step.dk, batch, firstKey + j, keyHead)[col] += sum; });
                addNonFinite<kThreads>(
                    row<const Element>(step.k, batch, firstKey, keyHead), step.k.stride_seq, queries, kKeys, keyDim,
                    [&](int i, int j) { return seen(j, i); },
                    [&](int i, int col, float sum) {
                        atomicAdd(row<float>(step.dq, batch, first + i, head) + col, sum);
                    });
            }
        }
    }
}

template <class Element, int kIndex, SharedMemory kMemory>
__global__ void __launch_bounds__(BackwardConfig<kIndex, kMemory>::kThreads,
                                  BackwardConfig<kIndex, kMemory>::kTile.blocksPerSm)
    backwardKernel(const __grid_constant__ Arguments a) {
#ifdef __CUDA_ARCH__
    if constexpr (compiledFor(__CUDA_ARCH__ / 10, kMemory)) {
        backward<Element, BackwardConfig<kIndex, kMemory>>(a);
    } else {
        __trap();
    }
#endif
}

template <class Element>
void backwardStep(const Arguments& a) {
    const flashring_step& step = a.step;
    withSharedMemory(sharedMemory(step.device), [&](auto memory) {
        constexpr SharedMemory kMemory = decltype(memory)::value;
        withHeadDims(step, [&](auto index) {
            using Config = BackwardConfig<decltype(index)::value, kMemory>;
            launch(backwardKernel<Element, decltype(index)::value, kMemory>, "backward kernel",
                   ceilDiv(step.kv_len, Config::kTile.keys) * step.kv_heads * step.batch, Config::kThreads,
                   Config::kSharedBytes, step.stream, a);
        });
    });
}

}  // namespace flashring

#endif
