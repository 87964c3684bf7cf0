// The Hopper kernels as a row of the capability table, for tensors that the copy engine can read.
#include <algorithm>

#include "common/attention.h"
#include "common/elements.cuh"
#include "sm90/arguments.h"
#include "sm90/ptx.cuh"
#include "sm90/tiles.h"

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
    withHeadDims(step, [&](auto index) { tiles = ceilDiv(step.q_len, hopperTile(kHeadDims[decltype(index)::value]).queries()); });
    const int64_t spans = intervalBytesOnDevice(step), counter = spans + roundUp(tiles * kSpanBytes, 64), order = counter + kCounterBytes;
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
    // Tensors that the copy engine cannot reach go the other way, with the same workspace.
    return direction == FLASHRING_FORWARD ? workspaceOf(step).bytes
                                          : std::max(backwardWorkspaceOf(step).bytes, kCudaMma.workspaceBytes(step, direction));
}

// Heads go in groups, so that their keys and values stay in the L2 cache while tiles of many lengths even out: a few rounds of
// tiles over the multiprocessors. Short sequences use each key less often, and take smaller groups.
TileOrder orderOf(const flashring_step& step, int64_t tiles) {
    const int64_t heads = step.batch * step.q_heads, rounds = tiles < 16 ? 2 : 4;
    const int64_t wanted = std::min(ceilDiv(rounds * multiprocessors(step.device), tiles), heads);
    return {static_cast<int>(tiles), static_cast<int>(heads), static_cast<int>(heads / wanted), static_cast<int>(wanted)};
}

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode encoder() {
    static const Encode found = [] {
        void* entry = nullptr;
        cudaDriverEntryPointQueryResult result;
        const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result);
        return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(entry) : nullptr;
    }();
    return found;
}

CUtensorMapDataType mapType(int32_t dtype) {
    switch (dtype) {
        case FLASHRING_FLOAT32: return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
        case FLASHRING_BFLOAT16: return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
        case FLASHRING_FLOAT16: return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
        default: fail(FLASHRING_INTERNAL_ERROR, "dtype = %d came to the copy engine", dtype);
    }
}

struct Extents {
    int64_t batch, length, heads, dim;
};

// A map of a tensor with boxes of 128 bytes of `rows` rows; false where the copy engine cannot reach it. Alignment is looked
// at first: tools report every call that the driver refuses.
bool encode(CUtensorMap& map, const flashring_tensor& tensor, const Extents& e, int32_t dtype, int rows) {
    const int64_t size = elementBytes(dtype);
    if (!rowsAligned(tensor, e.batch, e.length, e.heads, e.dim, size, 16)) {
        return false;
    }
    const auto bytes = [&](int64_t extent, int64_t stride) { return static_cast<cuuint64_t>((extent > 1 ? stride : e.dim) * size); };
    const cuuint64_t extents[] = {static_cast<cuuint64_t>(e.dim), static_cast<cuuint64_t>(e.length), static_cast<cuuint64_t>(e.heads),
                                  static_cast<cuuint64_t>(e.batch)};
    const cuuint64_t strides[] = {bytes(e.length, tensor.stride_seq), bytes(e.heads, tensor.stride_head), bytes(e.batch, tensor.stride_batch)};
    const cuuint32_t box[] = {static_cast<cuuint32_t>(128 / size), static_cast<cuuint32_t>(rows), 1, 1}, steps[] = {1, 1, 1, 1};
    return encoder()(&map, mapType(dtype), 4, tensor.data, extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                     CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

Extents queries(const flashring_step& step, int64_t dim) { return {step.batch, step.q_len, step.q_heads, dim}; }
Extents keys(const flashring_step& step, int64_t dim) { return {step.batch, step.kv_len, step.kv_heads, dim}; }

// False where the step has to go another way.
bool fill(HopperArguments& h, const flashring_step& step) {
    const int64_t heads = step.batch * step.q_heads;
    if (!isHopper(step.device) || !encoder()) {
        return false;
    }
    bool fits = true;
    withHeadDims(step, [&](auto index) {
        constexpr HopperTile tile = hopperTile(kHeadDims[decltype(index)::value]);
        const int64_t tiles = ceilDiv(step.q_len, tile.queries());
        fits = tiles * heads <= INT32_MAX / 2 &&
               encode(h.q, step.q, queries(step, step.head_dim), step.dtype, 64) &&
               encode(h.k, step.k, keys(step, step.head_dim), step.dtype, tile.keys) &&
               encode(h.v, step.v, keys(step, step.value_dim), step.dtype, tile.keys) &&
               (!(step.flags & FLASHRING_RESUME) || !hopperStateInRing(kHeadDims[decltype(index)::value]) ||
                encode(h.acc, step.acc, queries(step, step.value_dim), FLASHRING_FLOAT32, 64));
        const bool staged = fits && hopperStagesOutput(kHeadDims[decltype(index)::value]) && !(step.flags & FLASHRING_RESUME);
        const Extents outputs = queries(step, step.value_dim);
        h.boxedOut = staged && step.flags & FLASHRING_FINISH && encode(h.outBoxes, step.out, outputs, step.dtype, 16);
        h.boxedAcc = staged && step.acc.data && encode(h.accBoxes, step.acc, outputs, FLASHRING_FLOAT32, 16);
        h.order = orderOf(step, tiles);
    });
    return fits;
}

// How many parts the query heads of a key head are split into, so that there are a few blocks for each multiprocessor. Each part is a
// block more that adds to dk and dv, in no certain order.
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

bool fill(HopperBackwardArguments& h, const flashring_step& step) {
    const BackwardWorkspace w = backwardWorkspaceOf(step);
    const int parts = partsOf(step, w.tiles);
    const int64_t heads = step.batch * step.kv_heads * parts;
    bool fits = isHopper(step.device) && encoder() && w.tiles * heads <= INT32_MAX / 2 &&
                rowsAligned(step.dq, step.batch, step.q_len, step.q_heads, step.head_dim, sizeof(float), 16);
    withHeadDims(step, [&](auto index) {
        constexpr HeadDims dims = kHeadDims[decltype(index)::value];
        constexpr int kQueries = HopperBackwardTile::queries;
        static_assert(kQueries == HopperWideTile::queries && kQueries == HopperNarrowTile::queries);
        const bool separate = isSeparate(step, dims);
        const int rows = separate ? HopperQueryTile::keys : hopperBackwardKeys(dims);
        fits = fits && encode(h.q, step.q, queries(step, step.head_dim), step.dtype, kQueries) &&
               encode(h.k, step.k, keys(step, step.head_dim), step.dtype, rows) &&
               encode(h.v, step.v, keys(step, step.value_dim), step.dtype, rows) &&
               encode(h.dout, step.dout, queries(step, step.value_dim), step.dtype, kQueries) &&
               encode(h.dk, step.dk, keys(step, step.head_dim), FLASHRING_FLOAT32, 16) &&
               encode(h.dv, step.dv, keys(step, step.value_dim), FLASHRING_FLOAT32, 16);
        if (fits && separate) {
            const int64_t tiles = ceilDiv(step.q_len, hopperQueryTile(dims).queries());
            h.queryOrder = orderOf(step, tiles);
            fits = tiles * step.batch * step.q_heads <= INT32_MAX / 2 &&
                   encode(h.dqBoxes, step.dq, queries(step, step.head_dim), FLASHRING_FLOAT32, 16);
        }
    });
    h.dq = {nullptr, w.blocks, w.dims};
    h.order = {nullptr, w.tiles, static_cast<int>(ceilDiv(3 * int64_t{w.tiles}, 4)), parts, static_cast<int>(heads)};
    h.addsDkv = parts > 1 || step.flags & FLASHRING_ADD_DKV;
    h.scoresStart = static_cast<float>(-1 / step.softmax_scale);
    h.careful = step.softmax_scale < kLeastPlainScale || step.softmax_scale > kMostPlainScale;
    return fits;
}

[[noreturn]] void refuse(const flashring_step& step, const char* tensors) {
    fail(FLASHRING_UNSUPPORTED,
         "kernel = %d (wgmma) needs a device of compute capability 9.0, and %s whose rows start on 16 bytes and hold a whole number of them",
         step.kernel, tensors);
}

void forward(const Problem& problem) {
    const flashring_step& step = problem.step;
    if (step.q_len == 0 || step.kv_len == 0) {  // nothing to multiply
        return kCudaMma.forward(problem);
    }
    const DeviceScope scope(step.device);
    HopperArguments h;
    if (!fill(h, step)) {
        if (step.kernel == FLASHRING_KERNEL_WGMMA) {
            refuse(step, "q, k, v and acc");
        }
        return kCudaMma.forward(problem);
    }
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
    with16BitElement(step.dtype, [&](auto element) { hopperForward<decltype(element)>(h); });
}

void backward(const Problem& problem) {
    const flashring_step& step = problem.step;
    if (step.q_len == 0 || step.kv_len == 0) {
        return kCudaMma.backward(problem);
    }
    const DeviceScope scope(step.device);
    HopperBackwardArguments h;
    if (!fill(h, step)) {
        if (step.kernel == FLASHRING_KERNEL_WGMMA) {
            refuse(step, "q, k, v, dout, dq, dk and dv");
        }
        return kCudaMma.backward(problem);
    }
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
        clearOnDevice(step.dk, step.batch, step.kv_len, step.kv_heads, step.head_dim, step.stream);
        clearOnDevice(step.dv, step.batch, step.kv_len, step.kv_heads, step.value_dim, step.stream);
    }
    h.a = prepare(problem, &tiling);
    beginGathering(h.dq, step.batch * step.q_heads, tiling.seenBy, sorted, w.tiles, step.stream);
    if (separate) {
        with16BitElement(step.dtype, [&](auto element) { hopperBackwardSeparate<decltype(element)>(h); });
        return;
    }
    with16BitElement(step.dtype, [&](auto element) { hopperBackward<decltype(element)>(h); });
    finishGathering(h.dq, step);
}

}  // namespace

const Kernel kCudaWgmma = {FLASHRING_KERNEL_WGMMA, "wgmma", kHopperRequirement, anyHopper,
                           forward, backward, workspaceBytes, true};

}  // namespace flashring
