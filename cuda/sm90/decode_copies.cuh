// The producers of Hopper's decode kernel: a block's shared memory, and the warps that copy keys and values.
#ifndef FLASHRING_CUDA_SM90_DECODE_COPIES_CUH
#define FLASHRING_CUDA_SM90_DECODE_COPIES_CUH

#include <type_traits>

#include "sm80/decode_pages.cuh"
#include "sm90/decode.h"
#include "sm90/ptx.cuh"

namespace flashring {

template <class Element_, int kWidth>
struct HopperDecodeConfig {
    using Element = Element_;
    static constexpr bool kFloat8 = sizeof(Element) == 1;
    using Factor = std::conditional_t<kFloat8, __half, Element>;  // of products
    static constexpr int kDim = kWidth, kKeys = kHopperDecodeKeys;
    static constexpr int kTileBytes = panels(kDim) * panelBytes(kKeys);  // as products read it
    static constexpr int kSlotBytes = kTileBytes / 2 * static_cast<int>(sizeof(Element));
    static constexpr int kSlots = kDim == 64 ? 12 : 6;
    static constexpr int kTiles = kFloat8 ? 4 : kSlots;
};

// What a team shares: a warpgroup that computes, and a warp that copies for it. Keys and values of a tile take the
// slots of a ring in turn. What arrives there as bytes becomes float16 in tiles beside it, keys and values of two
// steps.
template <class Config>
struct HopperDecodeTeam {
    char tiles[Config::kTiles][Config::kTileBytes];  // start on 1,024 bytes, as slots do
    char bytes[Config::kFloat8 ? Config::kSlots : 1][Config::kFloat8 ? Config::kSlotBytes : 1024];

    __device__ char* slot(uint32_t index) { return Config::kFloat8 ? bytes[index] : tiles[index]; }

    struct Signs {
        uint64_t full[Config::kSlots], empty[Config::kSlots];
        int4 places[Config::kSlots];  // of the tiles whose keys are there

        __device__ void init() {
            for (int i = 0; i < Config::kSlots; ++i) {
                initBarrier(sharedAddress(full + i), 1);
                initBarrier(sharedAddress(empty + i), 4);  // each warp says for itself that it is done
            }
        }
    };
};

template <class Config>
struct HopperDecodeShared {
    HopperDecodeTeam<Config> teams[kHopperDecodeTeams];
    typename HopperDecodeTeam<Config>::Signs signs[kHopperDecodeTeams];
    DecodeSight sight;
};

// copyBox() of what is read once: the L2 cache lets it go before all else.
__device__ inline void copyBoxOnce(uint32_t target, const CUtensorMap& map, int column, int row, int head, int batch,
                                   uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, "
        "%3, %4, %5}], [%6], %7;" ::"r"(target),
        "l"(&map), "r"(column), "r"(row), "r"(head), "r"(batch), "r"(barrier), "l"(kEvictFirst)
        : "memory");
}

// Copies the tiles of a part by the copy engine. Run by a whole warp, whose lanes each copy a piece of a tile: a page,
// or all.
template <class Config>
__device__ __forceinline__ void copyBoxes(const HopperDecodeArguments& h, HopperDecodeTeam<Config>& team,
                                          typename HopperDecodeTeam<Config>::Signs& signs,
                                          RingIndex<Config::kSlots>& slot, const DecodeStart& start, int keyHead) {
    constexpr int kKeys = Config::kKeys;
    const flashring_step& step = h.a.step;
    const Pages pages{step, h.a.pageSize, h.a.pageShift, keyHead};
    const int first = static_cast<int>(threadIdx.x) % 32 * h.boxKeys;  // key of this lane's piece
    const bool copies = first < kKeys;
    const auto numberOf = [&](const DecodePlace& tile) {
        const int key = tile.key + first;
        const bool seen = copies && key + h.boxKeys > tile.keys.begin && key < tile.keys.end;
        return h.a.pageShift > 0 && seen ? pages.number(tile.batch, key) : 0;
    };
    DecodePlace place = start.place;
    int number = numberOf(place);
    for (int i = 0; i < start.count; ++i) {
        const DecodePlace tile = place;
        const int key = tile.key + first;
        const CacheSlot from = h.a.pageShift > 0 ? pages.slot(number, key) : CacheSlot{tile.batch, key};
        if (i + 1 < start.count) {
            place.advance(step, kKeys, h.a.ownRows);
            number = numberOf(place);  // a tile ahead: nobody waits for it
        }
#pragma unroll
        for (int operand = 0; operand < 2; ++operand) {
            const uint32_t full = sharedAddress(signs.full + slot.stage);
            wait(sharedAddress(signs.empty + slot.stage), slot.parity ^ 1);
            if (first == 0) {
                signs.places[slot.stage] = {tile.batch, tile.key, tile.keys.begin, tile.keys.end};
                arriveExpecting(full, Config::kSlotBytes);
            }
            __syncwarp();
            if (copies) {
#pragma unroll
                for (int panel = 0; panel < Config::kSlotBytes / panelBytes(kKeys); ++panel) {
                    copyBoxOnce(sharedAddress(team.slot(slot.stage)) + panel * panelBytes(kKeys) + first * 128,
                                operand == 0 ? h.k : h.v, panel * kPanelColumns, static_cast<int>(from.key), keyHead,
                                static_cast<int>(from.batch), full);
                }
            }
            slot.advance();
        }
    }
}

// Fills a slot with the rows that the lanes know: lane l that of key l, and of key l + 32. Zeros where a row is null,
// and from the dim on.
template <class Config>
__device__ __forceinline__ void fillSlot(char* slot, const typename Config::Element* first,
                                         const typename Config::Element* second, int dim, bool vector,
                                         const void* any) {
    using Element = typename Config::Element;
    constexpr int kEach = 16 / sizeof(Element), kWords = Config::kDim / kEach, kRowsAtOnce = 32 / kWords;
    const int lane = static_cast<int>(threadIdx.x) % 32, word = lane % kWords, col = word * kEach;
#pragma unroll 2
    for (int r = lane / kWords; r < Config::kKeys; r += kRowsAtOnce) {
        const auto own = reinterpret_cast<unsigned long long>(r < 32 ? first : second);
        const auto address = __shfl_sync(~0u, own, r % 32);
        const Element* const source = reinterpret_cast<const Element*>(address) + col;
        char* const target = slot + word / 8 * panelBytes(Config::kKeys) + r * 128 + (word ^ r) % 8 * 16;
        const bool inside = address && col < dim;
        if (vector && address % 16 == 0) {
            copy16<true>(sharedAddress(target), inside ? static_cast<const void*>(source) : any, inside);
            continue;
        }
#pragma unroll 1
        for (int e = 0; e < kEach; ++e) {
            reinterpret_cast<Element*>(target)[e] = inside && col + e < dim ? source[e] : Element{};
        }
    }
}

// Copies the tiles of a part where the copy engine does not reach them, each row from where it lies.
template <class Config>
__device__ __forceinline__ void copyRows(const HopperDecodeArguments& h, HopperDecodeTeam<Config>& team,
                                         typename HopperDecodeTeam<Config>::Signs& signs,
                                         RingIndex<Config::kSlots>& slot, const DecodeStart& start, int keyHead) {
    using Element = typename Config::Element;
    constexpr int kUnderWay = Config::kSlots / 2;  // slots whose copies nobody waits for yet
    const flashring_step& step = h.a.step;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const Pages pages{step, h.a.pageSize, h.a.pageShift, keyHead};
    const auto halfOf = [](const DecodePlace& tile, int half) {
        return DecodePlace{tile.batch, tile.key + half * 32, tile.keys};
    };
    PageEntry entries[2];
    const auto ask = [&](const DecodePlace& tile) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            entries[half] = h.a.pageSize > 0 ? pages.ask(halfOf(tile, half)) : PageEntry{};
        }
    };
    const auto find = [&](const DecodePlace& tile, int half) -> CachedRow<Element> {
        const DecodePlace own = halfOf(tile, half);
        if (h.a.pageSize > 0) {
            return pages.find<Element>(own, entries[half]);
        }
        const int key = own.key + lane;
        if (!own.keys.has(key)) {
            return {nullptr, nullptr};
        }
        return {row<const Element>(step.k, own.batch, key, keyHead),
                row<const Element>(step.v, own.batch, key, keyHead)};
    };
    RingIndex<Config::kSlots> next = slot;  // to show
    const auto show = [&] {
        orderBeforeCopies();
        __syncwarp();
        if (lane == 0) {
            arrive(sharedAddress(signs.full + next.stage));
        }
        next.advance();
    };
    int underWay = 0;
    DecodePlace place = start.place;
    ask(place);
    for (int i = 0; i < start.count; ++i) {
        const DecodePlace tile = place;
        const CachedRow<Element> known[2] = {find(tile, 0), find(tile, 1)};
        if (i + 1 < start.count) {
            place.advance(step, Config::kKeys, h.a.ownRows);
            ask(place);
        }
#pragma unroll
        for (int operand = 0; operand < 2; ++operand) {
            wait(sharedAddress(signs.empty + slot.stage), slot.parity ^ 1);
            if (lane == 0) {
                signs.places[slot.stage] = {tile.batch, tile.key, tile.keys.begin, tile.keys.end};
            }
            operand == 0 ? fillSlot<Config>(team.slot(slot.stage), known[0].key, known[1].key,
                                            static_cast<int>(step.head_dim), h.a.vectorInputs, step.q.data)
                         : fillSlot<Config>(team.slot(slot.stage), known[0].value, known[1].value,
                                            static_cast<int>(step.value_dim), h.a.vectorInputs, step.q.data);
            commitCopies();
            slot.advance();
            if (++underWay > kUnderWay) {
                waitForOlderCopies<kUnderWay>();
                show();
                --underWay;
            }
        }
    }
    waitForCopies();
    for (; underWay > 0; --underWay) {
        show();
    }
}

}  // namespace flashring

#endif
