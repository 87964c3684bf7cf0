// One forward step on tensor cores: FlashAttention-2 (Dao 2023), algorithm 1, with the state (acc, lse) of earlier
// steps read as (O, m = lse, l = 1).
#ifndef FLASHRING_CUDA_SM80_FORWARD_CUH
#define FLASHRING_CUDA_SM80_FORWARD_CUH

#include <math.h>

#include <algorithm>

#include "common/gap.cuh"
#include "common/outputs.cuh"
#include "common/scores.cuh"
#include "sm80/mma.cuh"
#include "sm80/nonfinite.cuh"
#include "sm80/row_state.cuh"
#include "sm80/shape.cuh"
#include "sm80/tiles.h"

namespace flashring {

template <int kIndex, SharedMemory kSet>
struct ForwardTiles {
    static constexpr SharedMemory kMemory = kSet;
    static constexpr HeadDims kDims = kHeadDims[kIndex];
    static constexpr ForwardTile kTile = forwardTile(kDims, kMemory);
};

struct WideForwardTiles {
    static constexpr SharedMemory kMemory = SharedMemory::KB99;
    static constexpr HeadDims kDims = kWideHeadDims;
    static constexpr ForwardTile kTile = kWideForwardTile;
};

template <class Tiles>
struct ForwardConfig : Tiles {
    using Tiles::kDims, Tiles::kTile, Tiles::kMemory;
    static constexpr int kThreads = kTile.warps * 32;
    static constexpr int kWarpQueries = kTile.queries / kTile.warps;
    static constexpr int kM = kWarpQueries / 16;       // fragments of a warp along the queries,
    static constexpr int kScoreN = kTile.keys / 8;     // along the keys,
    static constexpr int kOutN = kDims.value / 8;      // and along the output's columns
    using Queries = SharedTile<kTile.queries, kDims.key>;
    using Keys = SharedTile<kTile.keys, kDims.key>;
    using Values = SharedTile<kTile.keys, kDims.value>;
    static constexpr int kSharedBytes = Queries::kBytes + Keys::kBytes + Values::kBytes;
    static_assert(kSharedBytes + kStaticSharedBytes <= static_cast<int>(kMemory), "what a block gets");
    static_assert(kM * 16 * kTile.warps == kTile.queries && kScoreN % 2 == 0 && kOutN % 2 == 0, "whole fragments");
};

struct BorderedSpan : KeySpan {
    const int* inner;  // in shared memory, for registers are scarce: every query sees [inner[0], inner[1])

    // Whether some query does not see all of these keys.
    __device__ bool bordered(int key, int keys) const { return key < inner[0] || key + keys > inner[1]; }
};

// Run by the whole block.
template <int kThreads>
__device__ BorderedSpan keySpan(const Arguments& a, int first, int last, int narrowest) {
    __shared__ WidestGap widest;
    __shared__ int inner[2];
    if (threadIdx.x == 0) {
        widest = 0;
        inner[0] = a.lo[last];
        inner[1] = a.hi[first];
    }
    __syncthreads();
    for (int row = first + threadIdx.x; row < last; row += kThreads) {
        offerGap(widest, a.hi[row], a.lo[row + 1], narrowest);
    }
    __syncthreads();
    const int begin = a.lo[first], end = a.hi[last];
    const Gap gap = gapOf(widest, end);
    return {{begin, gap.begin, gap.end, end}, inner};
}

constexpr float kSlack = 5.5f;  // e^5.5 keeps weights and their sums far inside float16 and float32

// Whether any row of the warp needs FarWeight.
template <int kM>
__device__ bool anyFar(const RowState (&state)[kM][2]) {
    bool far = false;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
        far |= isFar(shiftOf(state[m][0].maximum)) | isFar(shiftOf(state[m][1].maximum));
    }
    return __any_sync(~0u, far);
}

// Turns products into weights, and adds them to the sums of their rows.
template <class Weight, int kM, int kN>
__device__ void weigh(float (&scores)[kM][kN][4], RowState (&state)[kM][2], ScoreScale scale) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const Weight weight{scale, shiftOf(state[m][half].maximum)};
            float sum = 0;
            forEachPair(scores, m, half, [&](int, float& x, float& y) {
                x = weight(x);
                y = weight(y);
                sum += x + y;
            });
            state[m][half].sum += sum;
        }
    }
}

template <class Element, class Config>
__device__ void forward(const Arguments& a) {
    constexpr int kM = Config::kM, kKeys = Config::kTile.keys;
    const flashring_step& step = a.step;
    extern __shared__ __align__(16) char memory[];
    const typename Config::Queries queries{memory};
    const typename Config::Keys keys{memory + Config::Queries::kBytes};
    const typename Config::Values values{keys.memory + Config::Keys::kBytes};

    // Later queries see more keys under a causal mask: they start first.
    const int length = static_cast<int>(step.q_len), heads = static_cast<int>(step.q_heads);
    const int tiles = ceilDiv(length, Config::kTile.queries);
    const int first = (tiles - 1 - static_cast<int>(blockIdx.x % tiles)) * Config::kTile.queries;
    const int head = blockIdx.x / tiles % heads, batch = blockIdx.x / tiles / heads;
    const int keyHead = head / (heads / static_cast<int>(step.kv_heads));
    const Element* const q = row<const Element>(step.q, batch, 0, head);
    const Element* const k = row<const Element>(step.k, batch, 0, keyHead);
    const Element* const v = row<const Element>(step.v, batch, 0, keyHead);
    const int keyDim = static_cast<int>(step.head_dim), valueDim = static_cast<int>(step.value_dim);

    load<Config::kThreads>(queries, q, step.q.stride_seq, first, 0, length, keyDim, a.vectorInputs);
    const BorderedSpan span =
        keySpan<Config::kThreads>(a, first, min(first + Config::kTile.queries, length) - 1, kKeys);
    if (span.begin < span.end) {
        load<Config::kThreads>(keys, k, step.k.stride_seq, span.begin, 0, span.limit(span.begin), keyDim,
                               a.vectorInputs);
    }

    // Lane l knows what query warpFirst + l of its warp sees; rows past the end repeat the last one.
    const int lane = threadIdx.x % 32, warpRow = threadIdx.x / 32 * Config::kWarpQueries, warpFirst = first + warpRow;
    const int ownRow = min(warpFirst + lane % Config::kWarpQueries, length - 1);
    const int lo = a.lo[ownRow], hi = a.hi[ownRow];

    float out[kM][Config::kOutN][4];
    RowState state[kM][2];
    clear(out);
    const bool resume = step.flags & FLASHRING_RESUME;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int i = warpFirst + m * 16 + half * 8 + lane / 4;
            state[m][half] = {-INFINITY, 0};
            const Lse lse = i < length ? startLse(step, batch, i, head) : Lse{-INFINITY, 0};
            const float weight = exp2Fast(lse.low * static_cast<float>(M_LOG2E));
            if (lse.high != -INFINITY) {
                state[m][half] = {lse.high, lane % 4 == 0 ? weight : 0.0f};
            }
            if (resume && lse.high != -INFINITY) {
                const float* const acc = row<const float>(step.acc, batch, i, head);
                forEachPair(out, m, half, [&](int col, float& x, float& y) {
                    const float2 pair = loadPair(acc, col, valueDim, a.vectorOutputs);
                    x = pair.x * weight;
                    y = pair.y * weight;
                });
            }
        }
    }

    bool far = anyFar(state);
    bool nonFinite = false;  // whether any value of a bordered tile was
    for (int key = span.begin; key < span.end;) {
        const int next = span.next(key, kKeys);
        const bool seen = __any_sync(~0u, lo < key + kKeys && hi > key);
        waitForCopies();
        __syncthreads();  // the keys are here, and nobody reads the previous values any more
        load<Config::kThreads>(values, v, step.v.stride_seq, key, 0, span.limit(key), valueDim, a.vectorInputs);
        float scores[kM][Config::kScoreN][4];
        if (seen) {
            clear(scores);
            multiply<Element, Config::kDims.key, Stored::AlongDepth, Stored::AlongDepth>(scores, queries, warpRow, keys,
                                                                                         0);
        }
        waitForCopies();
        if (span.bordered(key, kKeys) && __syncthreads_or(anyNonFinite<Element, Config::kThreads>(values))) {
            clearNonFinite<Element, Config::kThreads>(values);
            nonFinite = true;
        }
        __syncthreads();  // the values are here, and nobody reads the keys any more
        if (next < span.end) {
            load<Config::kThreads>(keys, k, step.k.stride_seq, next, 0, span.limit(next), keyDim, a.vectorInputs);
        }
        if (seen) {
            if (a.shape.any) {
                bound(scores, a.shape);
                if (a.keyPositions) {
                    takeDistances(scores, a, head, warpFirst, key);
                }
            }
            if (!__all_sync(~0u, lo <= key && hi >= key + kKeys)) {
#pragma unroll
                for (int m = 0; m < kM; ++m) {
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const int rowLo = __shfl_sync(~0u, lo, m * 16 + half * 8 + lane / 4) - key;
                        const int rowHi = __shfl_sync(~0u, hi, m * 16 + half * 8 + lane / 4) - key;
                        forEachPair(scores, m, half, [&](int col, float& x, float& y) {
                            x = col >= rowLo && col < rowHi ? x : -INFINITY;
                            y = col + 1 >= rowLo && col + 1 < rowHi ? y : -INFINITY;
                        });
                    }
                }
            }
            // The maximum only follows the scores once they are far above it: until then weights up to e^kSlack do no
            // harm, and the output need not be scaled down. The sum repairs it exactly.
            bool behind = false;
            float before[kM][2];
            const ScoreScale scale = scaleOf(a);
#pragma unroll
            for (int m = 0; m < kM; ++m) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    float top = -INFINITY;
                    forEachPair(scores, m, half, [&](int, float x, float y) { top = fmaxf(top, fmaxf(x, y)); });
                    top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
                    top = scale.score(fmaxf(top, __shfl_xor_sync(~0u, top, 2)));
                    RowState& row = state[m][half];
                    before[m][half] = row.maximum;
                    row.maximum = top > row.maximum + kSlack ? top : row.maximum;
                    behind |= before[m][half] != row.maximum;
                }
            }
            if (__any_sync(~0u, behind)) {
#pragma unroll
                for (int m = 0; m < kM; ++m) {
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const float decay = expDifference(before[m][half], shiftOf(state[m][half].maximum));
                        state[m][half].sum *= decay;
                        forEachPair(out, m, half, [&](int, float& x, float& y) {
                            x *= decay;
                            y *= decay;
                        });
                    }
                }
                far = anyFar(state);
            }
            // Twice, products included: the compiler lets them run beside the exponentials of one branch, not of two.
            if (far) {
                weigh<FarWeight>(scores, state, scale);
                multiply<Element, kKeys>(out, scores, values);
            } else {
                weigh<NearWeight>(scores, state, scale);
                multiply<Element, kKeys>(out, scores, values);
            }
        }
        key = next;
    }

#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int i = warpFirst + m * 16 + half * 8 + lane / 4;
            float sum = state[m][half].sum;
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            if (i >= length) {
                continue;
            }
            const float inverse = sum == 0 ? 0 : 1 / sum;
            if (lane % 4 == 0 && !a.keepsLse) {
                storeLse(step, batch, i, head,
                         sum == 0 ? Lse{-INFINITY, 0} : addLog(state[m][half].maximum, logf(sum)));
            }
            float* const acc = step.acc.data ? row<float>(step.acc, batch, i, head) : nullptr;
            Element* const finished = step.flags & FLASHRING_FINISH ? row<Element>(step.out, batch, i, head) : nullptr;
            forEachPair(out, m, half, [&](int col, float x, float y) {
                if (acc) {
                    storePair(acc, col, valueDim, a.vectorOutputs, x * inverse, y * inverse);
                }
                if (finished) {
                    storePair(finished, col, valueDim, a.vectorOutputs, x * inverse, y * inverse);
                }
            });
        }
    }
    waitForCopies();  // of queries, where no key was seen
    if (nonFinite) {  // what the products of bordered tiles have left out; found again, for registers are scarce
        const BorderedSpan again =
            keySpan<Config::kThreads>(a, first, min(first + Config::kTile.queries, length) - 1, kKeys);
        for (int key = again.begin; key < again.end; key = again.next(key, kKeys)) {
            if (again.bordered(key, kKeys)) {
                addNonFinite<Config::kThreads>(
                    v + key * step.v.stride_seq, step.v.stride_seq, Config::kTile.queries, kKeys, valueDim,
                    [&](int i, int j) { return sees(a, first + i, key + j); },
                    [&](int i, int col, float sum) {
                        if (step.acc.data) {
                            row<float>(step.acc, batch, first + i, head)[col] += sum;
                        }
                        if (step.flags & FLASHRING_FINISH) {
                            Element& x = row<Element>(step.out, batch, first + i, head)[col];
                            x = Element(static_cast<float>(x) + sum);
                        }
                    });
            }
        }
    }
}

template <class Element, int kIndex, SharedMemory kMemory>
__global__ void __launch_bounds__(ForwardConfig<ForwardTiles<kIndex, kMemory>>::kThreads,
                                  ForwardConfig<ForwardTiles<kIndex, kMemory>>::kTile.blocksPerSm)
    forwardKernel(const __grid_constant__ Arguments a) {
#ifdef __CUDA_ARCH__
    if constexpr (forwardCompiledFor(__CUDA_ARCH__ / 10, kMemory)) {
        forward<Element, ForwardConfig<ForwardTiles<kIndex, kMemory>>>(a);
    } else {
        __trap();
    }
#endif
}

template <class Element>
void forwardStep(const Arguments& a) {
    const flashring_step& step = a.step;
    withSharedMemory(sharedMemory(step.device), [&](auto memory) {
        constexpr SharedMemory kMemory = forwardSet(decltype(memory)::value);
        withHeadDims(step, [&](auto index) {
            using Config = ForwardConfig<ForwardTiles<decltype(index)::value, kMemory>>;
            launch(forwardKernel<Element, decltype(index)::value, kMemory>, "forward kernel",
                   ceilDiv(step.q_len, Config::kTile.queries) * step.q_heads * step.batch, Config::kThreads,
                   Config::kSharedBytes, step.stream, a);
        });
    });
}

// kMemory is there for the name, which says that nothing may spill.
template <class Element, SharedMemory kMemory>
__global__ void __launch_bounds__(ForwardConfig<WideForwardTiles>::kThreads, WideForwardTiles::kTile.blocksPerSm)
    wideForwardKernel(const __grid_constant__ Arguments a) {
    forward<Element, ForwardConfig<WideForwardTiles>>(a);
}

// Values of more columns than a warp's registers hold of the output go in two launches, columns and all, scores being
// computed for each. Both begin with the lse that earlier steps left: the last one writes it.
template <class Element>
void wideForwardStep(const Arguments& whole) {
    using Config = ForwardConfig<WideForwardTiles>;
    constexpr int64_t kColumns = Config::kDims.value;
    const flashring_step& step = whole.step;
    const auto from = [](flashring_tensor& tensor, int64_t bytes) {
        tensor.data = tensor.data ? static_cast<char*>(tensor.data) + bytes : nullptr;
    };
    for (int64_t first = (step.value_dim - 1) / kColumns * kColumns; first >= 0; first -= kColumns) {
        Arguments a = whole;
        from(a.step.v, first * static_cast<int64_t>(sizeof(Element)));
        from(a.step.out, first * static_cast<int64_t>(sizeof(Element)));
        from(a.step.acc, first * static_cast<int64_t>(sizeof(float)));
        a.step.value_dim = std::min(step.value_dim - first, kColumns);
        a.keepsLse = first > 0;
        launch(wideForwardKernel<Element, Config::kMemory>, "forward kernel of wide heads",
               ceilDiv(step.q_len, Config::kTile.queries) * step.q_heads * step.batch, Config::kThreads,
               Config::kSharedBytes, step.stream, a);
    }
}

}  // namespace flashring

#endif
