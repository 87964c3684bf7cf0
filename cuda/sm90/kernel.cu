// The Hopper kernels as a row of the capability table, for tensors that the copy engine reaches.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "common/attention.h"
#include "common/elements.cuh"
#include "sm90/arguments.h"
#include "sm90/maps.h"
#include "sm90/ptx.cuh"
#include "sm90/tiles.h"
#include "workspace.h"

namespace flashring {
namespace {

struct Devices {
    bool any = false;

    Devices() {
        for (int32_t device = 0; device < flashring_device_count(); ++device) {
            any |= isHopper(device);
        }
    }
};

bool anyHopper() {
    static const Devices devices;
    return devices.any;
}

// Between these, lse / scale and what stands for an lse of -inf are ordinary float32 numbers.
constexpr double kLeastPlainScale = 1e-20, kMostPlainScale = 1e20;

constexpr int kIntervalThreads = 256;  // queries a block of the intervals kernel, where only tiles of keys matter

constexpr int64_t kSpanBytes = sizeof(KeySpan), kPlaceBytes = sizeof(int32_t), kCounterBytes = 64;

// lo and hi, a span for each tile, the counter of tiles, the order of tiles.
struct Workspace {
    int64_t spans, counter, order, bytes;
};

Workspace workspaceOf(const flashring_step& step) {
    int64_t tiles = 0;
    withHeadDims(step, [&](auto index) {
        tiles = ceilDiv(step.q_len, hopperTile(kHeadDims[decltype(index)::value]).queries());
    });
    const int64_t spans = intervalBytesOnDevice(step), counter = spans + roundUp(tiles * kSpanBytes, 64),
                  order = counter + kCounterBytes;
    return {spans, counter, order, order + roundUp(tiles * kPlaceBytes, 64)};
}

// Whether dQ has a kernel of its own.
bool isSeparate(const flashring_step& step, HeadDims dims) { return step.deterministic || hopperBackwardIsWide(dims); }

// lo and hi, who sees each tile of keys, those tiles in order, dQ as it is gathered, if it is.
struct BackwardWorkspace {
    int64_t seenBy, sorted, dq, bytes;
    int tiles, blocks, dims;
};

BackwardWorkspace backwardWorkspaceOf(const flashring_step& step) {
    constexpr int kQueries = HopperBackwardTile::queries;
    BackwardWorkspace w{};
    withHeadDims(step, [&](auto index) {
        constexpr HeadDims dims = kHeadDims[decltype(index)::value];
        w.tiles = static_cast<int>(ceilDiv(step.kv_len, hopperBackwardKeys(dims)));
        w.dims = isSeparate(step, dims) ? 0 : dims.key;
    });
    w.blocks = static_cast<int>(ceilDiv(step.q_len, kQueries) * (kQueries / 16));
    w.seenBy = intervalBytesOnDevice(step);
    w.sorted = w.seenBy + roundUp(w.tiles * static_cast<int64_t>(sizeof(QuerySpan)), 64);
    w.dq = w.sorted + roundUp(w.tiles * static_cast<int64_t>(sizeof(OrderedKeyTile)), 128);
    w.bytes = w.dq + step.batch * step.q_heads * w.blocks * 16 * w.dims * static_cast<int64_t>(sizeof(float));
    return w;
}

int64_t workspaceBytes(const flashring_step& step, flashring_direction direction) {
    return direction == FLASHRING_FORWARD ? workspaceOf(step).bytes : backwardWorkspaceOf(step).bytes;
}

// Heads go in groups, so that their keys and values stay in the L2 cache while tiles of many lengths even out: a few
// rounds of tiles over the multiprocessors. Short sequences use each key less often, and take smaller groups.
TileOrder orderOf(const flashring_step& step, int64_t tiles) {
    const int64_t heads = step.batch * step.q_heads, rounds = tiles < 16 ? 2 : 4;
    const int64_t wanted = std::min(ceilDiv(rounds * multiprocessors(step.device), tiles), heads);
    return {static_cast<int>(tiles), static_cast<int>(heads), static_cast<int>(heads / wanted),
            static_cast<int>(wanted)};
}

bool copiesState(const flashring_step& step) {
    bool copies = false;
    withHeadDims(step, [&](auto index) { copies = hopperStateInRing(kHeadDims[decltype(index)::value]); });
    return copies;
}

bool isEmpty(const flashring_step& step) { return step.q_len == 0 || step.kv_len == 0; }

// The most tiles, of all heads and batches, that any kernel of the step counts: tiles of keys once for each query head,
// as they may be split into as many parts.
double mostTiles(const flashring_step& step, flashring_direction direction) {
    const bool forward = direction == FLASHRING_FORWARD;
    int64_t most = 0;
    withHeadDims(step, [&](auto index) {
        constexpr HeadDims dims = kHeadDims[decltype(index)::value];
        most = ceilDiv(step.q_len, forward ? hopperTile(dims).queries() : hopperQueryTile(dims).queries());
        most = forward ? most : std::max(most, ceilDiv(step.kv_len, hopperBackwardKeys(dims)));
    });
    return static_cast<double>(most) * static_cast<double>(step.batch) * static_cast<double>(step.q_heads);
}

const char* lackOf(const flashring_step& step, flashring_direction direction) {
    thread_local char lack[120];
    const char* lacking = nullptr;
    if (mostTiles(step, direction) > INT32_MAX / 2) {
        return "it counts its tiles of all heads and batches with 30 bits";
    }
    const auto reaches = [&](const Copied& c) {
        CUtensorMap probe;
        const bool reaching = sharesRows(c) ? encode(probe, c, 16) : reached(c);
        if (!reaching) {
            constexpr const char* kRule = "rows of %s must start on 16 bytes and hold a whole number of them";
            std::snprintf(lack, sizeof lack, kRule, c.name);
            lacking = lack;
        }
        return reaching;
    };
    forEachCopied(step, direction, copiesState(step), reaches);
    return lacking;
}

// A smaller one would not tell hidden pairs from others (kHiddenTanh).
constexpr double kSmallestSoftcap = 1e-3;

Shaping shapingOf(const flashring_step& step) {
    return step.softcap != 0 ? Shaping::Softcap : step.alibi_slopes ? Shaping::Alibi : Shaping::None;
}

// Why the step's softcap or ALiBi is not served; null where it is, or there is none.
const char* shapingUnmet(const flashring_step& step, flashring_direction direction) {
    const Shaping shaping = shapingOf(step);
    if (shaping == Shaping::None) {
        return nullptr;
    }
    if (step.softcap != 0 && step.alibi_slopes) {
        return "it takes a softcap or alibi_slopes, not both";
    }
    bool served = false, separates = false;
    withHeadDims(step, [&](auto index) {
        served = hopperShapes(kHeadDims[decltype(index)::value], shaping);
        separates = hopperSeparates(kHeadDims[decltype(index)::value], shaping);
    });
    if (!served) {
        return shaping == Shaping::Softcap ? "it takes a softcap at head dims from 97 to 128 and from 193 to 256"
                                           : "it takes alibi_slopes at head dims from 97 to 128";
    }
    if (direction == FLASHRING_BACKWARD && step.deterministic && !separates) {
        return shaping == Shaping::Softcap ? "with a softcap it is deterministic at head dims from 193 to 256"
                                           : "with alibi_slopes it is not deterministic";
    }
    if (shaping == Shaping::Softcap) {
        return step.softcap < kSmallestSoftcap ? "it takes a softcap from 0.001 on" : softcapUnmet(step);
    }
    if (direction == FLASHRING_FORWARD && (step.dtype != FLASHRING_BFLOAT16 || step.flags & FLASHRING_RESUME)) {
        return "forward it takes alibi_slopes in bfloat16, of steps that do not resume";
    }
    if (step.mask.right != 0 || step.mask.prefix_lengths || step.kv_positions.count > 1) {
        return "it takes alibi_slopes under a causal mask, over one range of keys";
    }
    return nullptr;
}

// Of a step without queries or keys nothing is copied, but its dims count as those of others do: who runs a step, and
// with how much workspace, does not change where lengths become 0.
const char* unmet(const flashring_step& step, flashring_direction direction) {
    if (const char* const lack = shapingUnmet(step, direction)) {
        return lack;
    }
    return isEmpty(step) ? lackOf(withoutAddresses(step), direction) : lackOf(step, direction);
}

HopperArguments forwardArguments(const flashring_step& step) {
    HopperArguments h;
    withHeadDims(step, [&](auto index) {
        constexpr HeadDims dims = kHeadDims[decltype(index)::value];
        constexpr HopperTile tile = hopperTile(dims);
        const Copied out{"out", step.out, queries(step, step.value_dim), step.dtype};
        const Copied acc{"acc", step.acc, out.extents, FLASHRING_FLOAT32};
        const bool resume = step.flags & FLASHRING_RESUME;
        map(h.q, {"q", step.q, queries(step, step.head_dim), step.dtype}, 64);
        map(h.k, {"k", step.k, keys(step, step.head_dim), step.dtype}, tile.keys);
        map(h.v, {"v", step.v, keys(step, step.value_dim), step.dtype}, tile.keys);
        if (resume && hopperStateInRing(dims)) {
            map(h.acc, acc, 64);
        }
        const bool staged = hopperStagesOutput(dims) && !resume;
        h.boxedOut = staged && step.flags & FLASHRING_FINISH && encode(h.outBoxes, out, 16);
        h.boxedAcc = staged && step.acc.data && encode(h.accBoxes, acc, 16);
        h.order = orderOf(step, ceilDiv(step.q_len, tile.queries()));
    });
    return h;
}

// How many parts the query heads of a key head are split into, so that there are a few blocks for each multiprocessor.
// Each part is a block more that adds to dk and dv, in no certain order.
int partsOf(const flashring_step& step, int64_t tiles) {
    if (step.deterministic) {
        return 1;
    }
    const int64_t group = step.q_heads / step.kv_heads, wanted = 4 * int64_t{multiprocessors(step.device)};
    int64_t parts = 1;
    while (parts < group && (group % parts != 0 || tiles * step.batch * step.kv_heads * parts < wanted)) {
        ++parts;
    }
    return static_cast<int>(parts);
}

HopperBackwardArguments backwardArguments(const flashring_step& step) {
    HopperBackwardArguments h;
    const BackwardWorkspace w = backwardWorkspaceOf(step);
    const int parts = partsOf(step, w.tiles);
    withHeadDims(step, [&](auto index) {
        constexpr HeadDims dims = kHeadDims[decltype(index)::value];
        constexpr int kQueries = HopperBackwardTile::queries;
        static_assert(kQueries == HopperWideTile::queries && kQueries == HopperNarrowTile::queries);
        const bool separate = isSeparate(step, dims);
        const int rows = separate ? HopperQueryTile::keys : hopperBackwardKeys(dims);
        map(h.q, {"q", step.q, queries(step, step.head_dim), step.dtype}, kQueries);
        map(h.k, {"k", step.k, keys(step, step.head_dim), step.dtype}, rows);
        map(h.v, {"v", step.v, keys(step, step.value_dim), step.dtype}, rows);
        map(h.dout, {"dout", step.dout, queries(step, step.value_dim), step.dtype}, kQueries);
        map(h.dk, {"dk", step.dk, keys(step, step.head_dim), FLASHRING_FLOAT32}, 16);
        map(h.dv, {"dv", step.dv, keys(step, step.value_dim), FLASHRING_FLOAT32}, 16);
        if (separate) {
            map(h.dqBoxes, {"dq", step.dq, queries(step, step.head_dim), FLASHRING_FLOAT32}, 16);
            h.queryOrder = orderOf(step, ceilDiv(step.q_len, hopperQueryTile(dims).queries()));
        }
    });
    h.dq = {nullptr, w.blocks, w.dims};
    h.order = {nullptr, w.tiles, static_cast<int>(ceilDiv(3 * int64_t{w.tiles}, 4)), parts,
               static_cast<int>(step.batch * step.kv_heads * parts)};
    h.addsDkv = parts > 1 || step.flags & FLASHRING_ADD_DKV;
    h.scoresStart = static_cast<float>(-1 / step.softmax_scale);
    h.careful = step.softmax_scale < kLeastPlainScale || step.softmax_scale > kMostPlainScale;
    h.factorLog2 = static_cast<float>(M_LOG2E * (step.softcap != 0 ? step.softcap : step.softmax_scale));
    h.curve = CapCurve(step, 1);
    return h;
}

void forward(const Problem& problem) {
    const flashring_step& step = problem.step;
    if (isEmpty(step)) {
        return forwardOfNothing(step);
    }
    const DeviceScope scope(step.device);
    HopperArguments h = forwardArguments(step);
    const Workspace layout = workspaceOf(step);
    Tiling tiling{0, 0, reinterpret_cast<KeySpan*>(problem.workspace + layout.spans),
                  reinterpret_cast<int32_t*>(problem.workspace + layout.counter),
                  step.mask.cu_seqlens ? reinterpret_cast<int32_t*>(problem.workspace + layout.order) : nullptr};
    withHeadDims(step, [&](auto index) {
        constexpr HopperTile tile = hopperTile(kHeadDims[decltype(index)::value]);
        tiling.queries = tile.queries();
        tiling.keys = tile.keys;
    });
    h.a = prepare(problem, &tiling);
    h.spans = tiling.spans;
    h.next = tiling.next;
    h.order.sorted = tiling.order;
    h.curve = CapCurve(step, M_LOG2E * step.softcap);
    with16BitElement(step.dtype, [&](auto element) {
        using Element = decltype(element);
        switch (shapingOf(step)) {
            case Shaping::None: return hopperForward<Element>(h);
            case Shaping::Softcap: return hopperForwardCapped<Element>(h);
            case Shaping::Alibi: return hopperForwardSloped<__nv_bfloat16>(h);
        }
    });
}

void backward(const Problem& problem) {
    const flashring_step& step = problem.step;
    if (isEmpty(step)) {
        return backwardOfNothing(step);
    }
    const DeviceScope scope(step.device);
    HopperBackwardArguments h = backwardArguments(step);
    const BackwardWorkspace w = backwardWorkspaceOf(step);
    Tiling tiling{kIntervalThreads, 0};
    bool separate = false;
    withHeadDims(step, [&](auto index) {
        tiling.keys = hopperBackwardKeys(kHeadDims[decltype(index)::value]);
        separate = isSeparate(step, kHeadDims[decltype(index)::value]);
    });
    tiling.seenBy = reinterpret_cast<QuerySpan*>(problem.workspace + w.seenBy);
    OrderedKeyTile* const sorted = reinterpret_cast<OrderedKeyTile*>(problem.workspace + w.sorted);
    h.dq.data = reinterpret_cast<float*>(problem.workspace + w.dq);
    h.order.sorted = sorted;
    if (h.addsDkv && !(step.flags & FLASHRING_ADD_DKV)) {
        clearOnDevice(step.dk, keys(step, step.head_dim), step.stream);
        clearOnDevice(step.dv, keys(step, step.value_dim), step.stream);
    }
    h.a = prepare(problem, &tiling);
    beginGathering(h.dq, step.batch * step.q_heads, tiling.seenBy, sorted, w.tiles, step.stream);
    with16BitElement(step.dtype, [&](auto element) {
        using Element = decltype(element);
        switch (shapingOf(step)) {
            case Shaping::None:
                return separate ? hopperBackwardSeparate<Element, Shaping::None>(h)
                                : hopperBackward<Element, Shaping::None>(h);
            case Shaping::Softcap:
                return separate ? hopperBackwardSeparate<Element, Shaping::Softcap>(h)
                                : hopperBackward<Element, Shaping::Softcap>(h);
            case Shaping::Alibi: return hopperBackward<Element, Shaping::Alibi>(h);
        }
    });
    if (!separate) {
        finishGathering(h.dq, step);
    }
}

}  // namespace

// tanh(x) is x times a polynomial in its square, fitted to the smallest largest error up to 1/3.
CapCurve::CapCurve(const flashring_step& step, double unit) : terms{}, reach(-1) {
    constexpr double kFit[kTerms] = {0.9999926223841504, -0.3327949348534994, 0.12343205066254541};
    constexpr double kLargest = 1.0 / 3;
    const double scale = step.softcap > 0 ? step.softmax_scale / step.softcap : 0;
    if (!(scale > 1e-4 && scale < 1e4)) {  // beyond, powers leave float32
        return;
    }
    reach = static_cast<float>(kLargest / scale);
    double power = unit * scale;
    for (int i = 0; i < kTerms; ++i, power *= scale * scale) {
        terms[i] = static_cast<float>(power * kFit[i]);
    }
}

const Kernel kCudaWgmma = Kernel{FLASHRING_KERNEL_WGMMA, "wgmma", kHopperRequirement, anyHopper,
                                 forward, backward, workspaceBytes, true, isHopper, unmet}
                              .serving(kAllScores);

}  // namespace flashring
