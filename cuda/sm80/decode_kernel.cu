// The decode kernel as a row of the capability table: forward steps of few queries.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "common/attention.h"
#include "common/elements.cuh"
#include "common/rows.h"
#include "sm80/decode.h"
#include "visibility.h"

namespace flashring {
namespace {

constexpr int64_t kMaxKeys = INT64_C(1) << 30;

int64_t rowsOf(const flashring_step& step) { return step.q_len * (step.q_heads / step.kv_heads); }

bool isFloat8(const flashring_step& step) { return step.kv_dtype == FLASHRING_KV_FLOAT8_E4M3; }

int pitchOf(const flashring_step& step) {
    const int64_t widest = std::max({step.head_dim, step.value_dim, INT64_C(65) * isFloat8(step)});
    return *std::find_if(std::begin(kDecodeDims), std::end(kDecodeDims), [&](int dim) { return dim >= widest; });
}

int tileDimOf(const flashring_step& step) { return decodeTileDim(pitchOf(step), isFloat8(step)); }

// Pages by number whose size is a power of two, and no smaller than a tile's pieces.
int pageShiftOf(const flashring_step& step) {
    const int64_t size = step.page_table ? step.page_size : 0;
    int shift = 0;
    while (shift < 30 && INT64_C(1) << shift < size) {
        ++shift;
    }
    return size >= kLeastPage && INT64_C(1) << shift == size ? shift : 0;
}

// Who computes a step: keys of a tile, teams of a block. By shape alone: where a cache lies changes no bit.
struct Workers {
    DecodeWay way;
    int keys, teams;
};

DecodeWay wayOf(const flashring_step& step) {
    if (!isHopper(step.device) || pitchOf(step) > kHopperDecodeDim) {
        return DecodeWay::Warps;
    }
    if (rowsOf(step) > hopperDecodeRows(isFloat8(step))) {
        return DecodeWay::Warpgroups;
    }
    const bool clusters = rowsOf(step) <= 16 && !isFloat8(step) && !step.batch_invariant &&
                          step.batch * step.kv_len <= kMostClusterKeys &&
                          step.kv_heads * kClusterBlocks <= multiprocessors(step.device);
    return clusters ? DecodeWay::Cluster : DecodeWay::Warps;
}

Workers workersOf(const flashring_step& step) {
    const DecodeWay way = wayOf(step);
    if (way == DecodeWay::Warpgroups) {
        return {way, kHopperDecodeKeys, kHopperDecodeTeams};
    }
    const DecodeTile tile = decodeTile(tileDimOf(step), decodeTileIndex(rowsOf(step), isFloat8(step)));
    const int bytes = static_cast<int>(sharedMemory(step.device)) - kDecodeStaticBytes;
    return {way, tile.keys, std::min(bytes / tile.teamBytes(tileDimOf(step)), kMaxDecodeThreads / tile.teamThreads())};
}

// Of a key head: they fill the multiprocessors once, or a few times where one round would leave a tenth of them without
// work.
int64_t blocksOf(const flashring_step& step, const Workers& workers) {
    const int64_t places = multiprocessors(step.device),
                  tiles = step.batch * ceilDiv(step.kv_len, int64_t{workers.keys});
    if (workers.way == DecodeWay::Cluster) {
        return rowsOf(step) == 0 || tiles == 0 ? 0 : kClusterBlocks;
    }
    int64_t best = 1, bestRounds = ceilDiv(step.kv_heads, places);
    for (int64_t rounds = 1; rounds <= 4; ++rounds) {
        const int64_t blocks = rounds * places / step.kv_heads;
        if (10 * blocks * bestRounds > 11 * best * rounds) {
            best = blocks;
            bestRounds = rounds;
        }
    }
    return rowsOf(step) == 0 ? 0 : std::min(best, tiles);
}

int stretchOf(const flashring_step& step) { return step.batch_invariant ? decodeStretch(rowsOf(step)) : 0; }

// The tiles of the rows, and what the parts leave.
struct Workspace {
    int64_t out, lse, bytes;
};

Workspace workspaceOf(const flashring_step& step) {
    const Workers workers = workersOf(step);
    const int64_t stretch = stretchOf(step);
    const int64_t parts =
        stretch > 0 ? step.batch * ceilDiv(step.kv_len, stretch) : blocksOf(step, workers) * workers.teams;
    const int64_t states = parts == 0 ? 0 : (parts + step.batch - 1) * step.kv_heads * rowsOf(step);
    Workspace w{};
    w.out = roundUp((hasRows(step) ? step.batch + 1 : 1) * static_cast<int64_t>(sizeof(int32_t)), 64);
    w.lse = w.out + roundUp(states * pitchOf(step) * static_cast<int64_t>(sizeof(float)), 64);
    w.bytes = w.lse + roundUp(states * static_cast<int64_t>(sizeof(float2)), 64);
    return w;
}

// On whichever of this process's devices.
int64_t workspaceBytes(const flashring_step& given, flashring_direction) {
    flashring_step step = given;
    int64_t most = 0;
    for (step.device = 0; step.device < flashring_device_count(); ++step.device) {
        most = sharedMemory(step.device) == SharedMemory::None ? most : std::max(most, workspaceOf(step).bytes);
    }
    return most;
}

// Of k or v, in pages or not. Pages by address are looked at one by one, on the device.
bool cachedRowsAligned(const flashring_step& step, const flashring_tensor& tensor, int64_t dim, int64_t size) {
    const Extents extents{step.page_size == 0 ? step.batch : std::max(step.pages, INT64_C(1)),
                          step.page_size == 0 ? step.kv_len : step.page_size, step.kv_heads, dim};
    flashring_tensor rows = tensor;
    if (step.k_pages) {
        rows.data = reinterpret_cast<void*>(uintptr_t{16});
    }
    return rowsAligned(rows, extents, size, 16);
}

void forward(const Problem& problem) {
    const flashring_step& step = problem.step;
    const DeviceScope scope(step.device);
    const Workers workers = workersOf(step);
    const Workspace w = workspaceOf(step);
    const int64_t size = elementBytes(step.dtype), accSize = sizeof(float);
    const ScoreShape shape(step);
    const DecodeArguments arguments{step,
                                    static_cast<float>(shape.any ? 1 : step.softmax_scale),
                                    static_cast<float>((shape.any ? 1 : step.softmax_scale) * M_LOG2E),
                                    shape,
                                    rowsAligned(step.q, queries(step, step.head_dim), size, 16) &&
                                        cachedRowsAligned(step, step.k, step.head_dim, cacheBytes(step)) &&
                                        cachedRowsAligned(step, step.v, step.value_dim, cacheBytes(step)),
                                    rowsAligned(step.out, queries(step, step.value_dim), size, 2 * size) &&
                                        rowsAligned(step.acc, queries(step, step.value_dim), accSize, 2 * accSize),
                                    static_cast<int>(step.q_heads / step.kv_heads),
                                    static_cast<int>(rowsOf(step)),
                                    static_cast<int>(blocksOf(step, workers)),
                                    workers.teams,
                                    workers.keys,
                                    pitchOf(step),
                                    stretchOf(step),
                                    workers.way,
                                    hasRows(step),
                                    static_cast<int>(std::min(step.page_size, kMaxKeys)),
                                    pageShiftOf(step),
                                    reinterpret_cast<int32_t*>(problem.workspace),
                                    reinterpret_cast<float*>(problem.workspace + w.out),
                                    reinterpret_cast<float2*>(problem.workspace + w.lse)};
    with16BitElement(step.dtype, [&](auto element) { decodeStep<decltype(element)>(arguments); });
}

// Few rows, for then a warp's products keep up with the memory; and what its 32-bit indices can count.
const char* unmet(const flashring_step& step, flashring_direction) {
    if (rowsOf(step) > kMaxDecodeRows) {
        return "it takes up to 64 rows: q_len * q_heads / kv_heads";
    }
    if (step.batch * step.q_len * step.q_heads > kMaxKeys) {
        return "it takes up to 2^30 rows: batch * q_len * q_heads";
    }
    return step.batch * step.kv_len > kMaxKeys ? "it takes up to 2^30 keys: batch * kv_len" : softcapUnmet(step);
}

}  // namespace

const Kernel kCudaDecode = Kernel{FLASHRING_KERNEL_DECODE,
                                  "decode",
                                  kCudaRequirement,
                                  anyDeviceCapable,
                                  forward,
                                  nullptr,
                                  workspaceBytes,
                                  true,
                                  nullptr,
                                  unmet,
                                  true}
                               .serving(kAllScores);

}  // namespace flashring
