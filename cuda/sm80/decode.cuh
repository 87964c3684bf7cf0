// Few queries against many keys: FlashAttention-2's forward with the query heads of a key head packed into one tile and
// the keys split over blocks, as in Flash-Decoding (Dao, Haziza, Massa, Sizov 2023). What sets the pace is reading the
// keys and values once.
#ifndef FLASHRING_CUDA_SM80_DECODE_CUH
#define FLASHRING_CUDA_SM80_DECODE_CUH

#include "common/early_start.cuh"
#include "sm80/decode.h"
#include "sm80/decode_merge.cuh"
#include "sm80/decode_pages.cuh"
#include "sm80/decode_products.cuh"
#include "sm80/nonfinite.cuh"

namespace flashring {

template <class Element, int kDim, int kIndex>
struct DecodeConfig {
    static constexpr int kTileDim = decodeTileDim(kDim, sizeof(Element) == 1);
    static constexpr DecodeTile kTile = decodeTile(kTileDim, kIndex);
    static constexpr int kKeys = kTile.keys, kStages = kTile.stages, kThreads = kTile.teamThreads();
    using Tile = SharedTile<kKeys, kTileDim>;
    static constexpr int kStageBytes = kTile.teamBytes(kTileDim) / kStages;
    static_assert(kKeys % 16 == 0 && 2 * Tile::kBytes <= kStageBytes, "whole products");
};

// A barrier of a team.
template <int kThreads>
__device__ void syncTeam(int team) {
    if constexpr (kThreads == 32) {
        __syncwarp();
    } else {
        asm volatile("barrier.sync %0, %1;" ::"r"(team + 1), "n"(kThreads) : "memory");
    }
}

// Which block of its key head this one is.
struct BlockPlace {
    int keyHead, number;
};

// Key heads side by side, as their rows lie; or head after head where the blocks of one are a cluster.
__device__ inline BlockPlace placeOfBlock(const DecodeArguments& a) {
    const int block = static_cast<int>(blockIdx.x), heads = static_cast<int>(a.step.kv_heads);
    return a.way == DecodeWay::Cluster ? BlockPlace{block / a.blocks, block % a.blocks}
                                       : BlockPlace{block % heads, block / heads};
}

// Part `part` of a step. kPlain: all batch rows see the same, nothing is in pages, and scores are products.
template <class Element, int kDim, int kIndex, bool kPlain>
__device__ __forceinline__ void decodePart(const DecodeArguments& a, const DecodeSight& sight, int4* places,
                                           const DecodeStart& start, int part) {
    using Config = DecodeConfig<Element, kDim, kIndex>;
    using Tile = typename Config::Tile;
    constexpr bool kFloat8 = sizeof(Element) == 1;
    constexpr int kKeys = Config::kKeys, kThreads = Config::kThreads, kStages = Config::kStages;
    constexpr int kPieces = kPlain ? 1 : kKeys / kLeastPage;  // of a tile, each of which lies in one page
    extern __shared__ __align__(16) char memory[];
    // A step over bytes has rows of its own, and so no ALiBi.
    const bool ownRows = kFloat8 || (!kPlain && a.ownRows), shaped = !kPlain && a.shape.any;
    const int pageSize = kPlain ? 0 : a.pageSize;
    const flashring_step& step = a.step;
    const int length = static_cast<int>(step.q_len);
    const int keyHead = placeOfBlock(a).keyHead, team = threadIdx.x / kThreads;
    const int lane = threadIdx.x % 32, firstRow = threadIdx.x % kThreads / 32 * 16;

    const int count = start.count;
    DecodePlace ahead = start.place;
    DecodePlace now = ahead;  // of the tile that is computed
    const Pages pages{step, pageSize, a.pageShift, keyHead};
    constexpr bool kAsksAhead = kDim <= 128;  // wider rows leave no registers for addresses
    const bool byRow = pageSize > 0 && a.pageShift == 0;
    PageEntry entry{};
    PageNumbers<kPieces> numbers{};
    const auto askAhead = [&] {
        if (!kPlain && a.pageShift > 0) {
            numbers = pages.numbers<kPieces>(ahead);
        } else if (kAsksAhead && byRow) {
            entry = pages.ask(ahead);
        }
    };
    askAhead();

    char* const buffers = memory + team * (kStages * Config::kStageBytes);
    const auto keysOf = [&](int stage) { return Tile{buffers + stage * Config::kStageBytes}; };
    const auto valuesOf = [&](int stage) {
        return Tile{buffers + stage * Config::kStageBytes + Config::kStageBytes / 2};
    };
    const auto load = [&](int stage) {
        if (!kPlain && ownRows && lane == 0) {
            places[threadIdx.x / 32 * kStages + stage] = {ahead.batch, ahead.key, ahead.keys.begin, ahead.keys.end};
        }
        const int keyDim = static_cast<int>(step.head_dim), valueDim = static_cast<int>(step.value_dim);
        if (!kPlain && byRow) {
            const CachedRow<Element> known = pages.find<Element>(ahead, kAsksAhead ? entry : pages.ask(ahead));
            loadRows<kThreads>(keysOf(stage), valuesOf(stage), known, keyDim, valueDim, a.vectorInputs, step.q.data);
        } else {
#pragma unroll
            for (int n = 0; n < kPieces; ++n) {
                constexpr int kRows = kKeys / kPieces;
                const int r = n * kRows, key = ahead.key + r;
                const CacheSlot slot =
                    !kPlain && a.pageShift > 0 ? pages.slot(numbers.of[n], key) : CacheSlot{ahead.batch, key};
                const int begin = ahead.keys.begin - key, end = ahead.keys.end - key;
#pragma unroll
                for (int operand = 0; operand < 2; ++operand) {
                    const flashring_tensor& tensor = operand == 0 ? step.k : step.v;
                    flashring::load<kThreads, true>(rowsOf<kRows>(operand == 0 ? keysOf(stage) : valuesOf(stage), r),
                                                    row<const Element>(tensor, slot.batch, slot.key, keyHead),
                                                    tensor.stride_seq, 0, begin, end, operand == 0 ? keyDim : valueDim,
                                                    a.vectorInputs);
                }
            }
        }
        ahead.advance(step, kKeys, ownRows);
        askAhead();
    };
    // On to the tile of a stage.
    const auto advance = [&](int stage) {
        if (!kPlain && ownRows && now.endsRow(kKeys)) {
            __syncwarp();
            const int4 place = places[threadIdx.x / 32 * kStages + stage];
            now = {place.x, place.y, {place.z, place.w}};
        } else {
            now.advance(step, kKeys, false);
        }
    };

    const DecodeSeen seen{a, sight, ownRows};
    DecodeSpan inner{};  // what all queries see
    const auto spanOfRow = [&](int half) { return seen.byPacked(now.batch, firstRow + half * 8 + lane / 4); };
    const ScoreScale scale{a.scale, a.scaleLog2};
    uint32_t queries[kDim / 16][4];
    float out[1][kDim / 8][4];
    RowState state[2];
    float2 factors{};  // of products of bytes
    for (int i = 1 - kStages, stage = 1; i < count; ++i, stage = stage + 1 == kStages ? 0 : stage + 1) {
        if (i > 0) {
            advance(stage);
        }
        if (i == 1 - kStages || (i > 0 && now.startsRow())) {
            inner = seen.byAll(now.batch);
            if constexpr (kFloat8) {
                factors = loadFloat8Queries<kDim>(queries, a, now.batch, keyHead, firstRow);
            } else {
                loadQueries<Element, kDim>(queries, a, now.batch, keyHead, firstRow);
            }
            clear(out);
            state[0] = state[1] = {-INFINITY, 0};
        }
        if (i >= 0) {
            waitForOlderCopies<kStages - 2>();
            syncTeam<kThreads>(team);  // this tile is here, and nobody reads the one before any more
        }
        if (i + kStages - 1 < count) {
            load(stage == 0 ? kStages - 1 : stage - 1);
        }
        commitCopies();
        if (i < 0) {
            continue;
        }
        const Tile keys = keysOf(stage), values = valuesOf(stage);
        const int key = now.key;
        const bool bordered = key < inner.begin || key + kKeys > inner.end;

        float scores[1][kKeys / 8][4];
        clear(scores);
        if constexpr (kFloat8) {
            multiplyFloat8Keys<kDim>(scores, queries, keys, factors);
        } else {
            multiplyKeys<Element, kDim>(scores, queries, keys);
        }
        if (shaped && kFloat8) {
            bound(scores, a.shape);
        } else if (shaped) {
            shape(scores, a, keyHead, firstRow, key);
        }
        if (bordered) {
            hide(scores, seen, now, firstRow, -INFINITY);
        }
        float decay[2];
        weigh(scores, state, decay, scale);
        if (__any_sync(~0u, decay[0] != 1 || decay[1] != 1)) {
            multiplyRows(out, decay);
        }
        // Keys outside the cut have come as zeros. Between the borders of several queries a value may be hidden from
        // some: what is not finite there becomes infinity for those who see it.
        if constexpr (kFloat8) {
            if (bordered && length > 1) {
                const bool finite = !__any_sync(~0u, anyNan<32>(values));
                syncTeam<kThreads>(team);
                if (!finite) {
                    spreadNan(out, values, [&](int half, int slot) { return spanOfRow(half).has(key + slot); });
                    syncTeam<kThreads>(team);
                    clearNan<kThreads>(values);
                    syncTeam<kThreads>(team);
                }
            }
        } else if (bordered && length > 1) {
            const bool finite = !__any_sync(~0u, anyNonFinite<Element, 32>(values));
            syncTeam<kThreads>(team);
            if (!finite) {  // as all warps of the team have found; the keys have served
                markNonFinite<Element, kThreads>(values, keys);
                syncTeam<kThreads>(team);
                float marked[1][kKeys / 8][4];
                markSeen(marked, seen, now, firstRow);
                multiply<__nv_bfloat16, kKeys>(out, marked, keys);  // to infinity for those who see it
            }
        }
        if constexpr (kFloat8) {
            multiplyFloat8Values<kKeys>(out, scores, values);
        } else {
            multiply<Element, kKeys>(out, scores, values);
        }

        if (i + 1 == count || now.endsRow(kKeys)) {
            leaveState<kFloat8>(a, out, state, part, now.batch, keyHead, firstRow,
                                kFloat8 ? float8OutputFactor(step, keyHead) : 1);
        }
    }
}

// Returns the cut.
template <class Element, int kDim, int kIndex, bool kPlain>
__device__ DecodeCut decode(const DecodeArguments& a) {
    using Config = DecodeConfig<Element, kDim, kIndex>;
    constexpr int kPlaces = kPlain ? 1 : kMaxDecodeThreads / 32 * Config::kStages;
    __shared__ DecodeSight sight;
    __shared__ int4 places[kPlaces];  // of the tiles in a warp's buffers
    static_assert(sizeof sight + sizeof places <= kDecodeStaticBytes);
    const bool ownRows = sizeof(Element) == 1 || (!kPlain && a.ownRows);
    if (!ownRows) {
        lookAt(a.step, sight);
    }
    // Parts go to different blocks before any block gets a second.
    const int team = threadIdx.x / Config::kThreads;
    for (int part = team * a.blocks + placeOfBlock(a).number;; part += a.blocks * a.teams) {
        const DecodeStart start = ownRows ? planRowsApart(a, part) : planAlike(a, sight, part);
        if (part >= start.cut.parts) {
            return start.cut;
        }
        decodePart<Element, kDim, kIndex, kPlain>(a, sight, places, start, part);
        if (a.stretch == 0) {
            return start.cut;
        }
        syncTeam<Config::kThreads>(team);  // nobody reads the buffers any more
    }
}

template <class Element, int kDim, int kIndex, bool kPlain>
__global__ void __launch_bounds__(kMaxDecodeThreads, 1) decodeKernel(const __grid_constant__ DecodeArguments a) {
#if __CUDA_ARCH__ >= 900
    waitForEarlierKernel();
    letNextKernelStart();
#endif
    decode<Element, kDim, kIndex, kPlain>(a);
}

template <class Element, int kDim, int kIndex, bool kPlain = false>
void launchDecode(const DecodeArguments& a) {
    using Config = DecodeConfig<Element, kDim, kIndex>;
    launch(decodeKernel<Element, kDim, kIndex, kPlain>, "decode kernel", startOf(a), a.blocks * a.step.kv_heads,
           a.teams * Config::kThreads, a.teams * Config::kStageBytes * Config::kStages, a.step.stream, a);
}

template <class Element, int kDim>
void launchDecode(const DecodeArguments& a) {
    switch (decodeTileIndex(a.rows, false)) {
        case 0:
            return launchDecode<Element, kDim, 0>(a);
        case 1:
            return launchDecode<Element, kDim, 1>(a);
        default:  // bound by its instructions: with those of rows, pages and scores it took a quarter longer
            return a.ownRows || a.shape.any ? launchDecode<Element, kDim, 2>(a)
                                            : launchDecode<Element, kDim, 2, true>(a);
    }
}

template <class Element>
void decodeStep(const DecodeArguments& a) {
    static_assert(kDecodeDims[0] == 64 && kDecodeDims[1] == 128 && kDecodeDims[2] == 256);
    if (a.blocks > 0 && a.way == DecodeWay::Cluster) {
        return clusterDecode<Element>(a);
    }
    if (a.blocks > 0 && a.way == DecodeWay::Warpgroups) {
        hopperDecode(a);
    } else if (a.blocks > 0 && a.step.kv_dtype == FLASHRING_KV_FLOAT8_E4M3) {
        launchFloat8(a);
    } else if (a.blocks > 0) {
        a.pitch == 64    ? launchDecode<Element, 64>(a)
        : a.pitch == 128 ? launchDecode<Element, 128>(a)
                         : launchDecode<Element, 256>(a);
    }
    mergeStates<Element>(a);
}

}  // namespace flashring

#endif
