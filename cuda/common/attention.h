// What all attention kernels share: their arguments, and the jobs that run before them on the stream.
#ifndef FLASHRING_CUDA_COMMON_ATTENTION_H
#define FLASHRING_CUDA_COMMON_ATTENTION_H

#include "common/device.h"
#include "common/rows.h"
#include "kernels.h"

namespace flashring {

// The largest softcap that the kernels on tensor cores take: a score errs by 2^-21 of it, and so a weight by less than
// half a bit of a float16.
constexpr double kLargestSoftcap = 256;

// Says so; null where the step's is not larger.
inline const char* softcapUnmet(const flashring_step& step) {
    return step.softcap > kLargestSoftcap ? "it takes a softcap of up to 256" : nullptr;
}

// What becomes of products before they are scores (shaping.cuh): nothing, but for a softcap or ALiBi. Then `scale` and
// scaleLog2 of the kernels' arguments are those of finished scores.
struct ScoreShape {
    bool any;
    float scale;     // softmax_scale
    float softcap;   // 0: none
    float exponent;  // 2 log2(e) softmax_scale / softcap

    ScoreShape() = default;
    explicit ScoreShape(const flashring_step& step);
};

struct Arguments {
    flashring_step step;
    const int32_t* lo;   // [q_len] query i sees the local keys lo[i] <= j < hi[i]; neither ever decreases with i
    const int32_t* hi;   // [q_len]
    int32_t* turns;      // deterministic backward: a ticket counter, then [batch, q_heads, query tiles] turns, or null
    float scale;         // softmax_scale; 1 where shaped
    float scaleLog2;     // the same times log2(e)
    bool vectorInputs;   // q, k, v, dout: every row starts on 16 bytes and is whole 16-byte words
    bool wideOutputs;    // out and acc likewise
    bool vectorOutputs;  // dq likewise; rows of acc, out, dk, dv start on pairs of elements and are whole pairs
    ScoreShape shape;
    const int64_t* queryPositions;  // [q_len] global ones, where there is ALiBi
    const int64_t* keyPositions;    // [kv_len]
    bool keepsLse = false;          // a later launch of the step writes it
};

// The keys that a tile of queries sees: [begin, gapBegin) and [gapEnd, end). The gap is the widest run of keys inside
// that nobody sees, such as between the two ends of a zigzag shard under a sliding window.
struct KeySpan {
    int begin, gapBegin, gapEnd, end;

    __device__ int limit(int key) const { return key < gapBegin ? gapBegin : end; }
    __device__ int next(int key, int keys) const {
        const int following = key + keys;
        return key < gapBegin && following >= gapBegin ? gapEnd : following;
    }
};

// The first query of a tile. Tiles are counted back from the end of the queries, rounded up to the 64 of a warpgroup,
// so that the first tile may begin before query 0: its surplus rows fall where a causal mask leaves the fewest keys.
__device__ inline int64_t firstQuery(int tile, int tiles, int queries, int64_t length) {
    return roundUp(length, 64) - int64_t{tiles - tile} * queries;
}

// The queries [first, last) that see any of a tile of keys; none where first >= last.
struct QuerySpan {
    int first, last;
};

// What prepare() computes beside lo and hi, for tiles of `queries` queries and tiles of `keys` keys. Null is left out.
struct Tiling {
    int queries, keys;             // gaps of no more than `keys` keys are not worth skipping
    KeySpan* spans = nullptr;      // [tiles of queries]
    int32_t* next = nullptr;       // set to 0
    int32_t* order = nullptr;      // [tiles of queries] longest first in each stretch of them, the last stretch first
    QuerySpan* seenBy = nullptr;   // [tiles of keys]
};

// Launches the kernels that compute lo and hi, and positions, into the front of the workspace, and what tiling asks
// for. With a tiling the kernel starts early (device.h). Where seenBy is wanted, a kernel that starts early after it
// finds all that came before it ended.
Arguments prepare(const Problem& problem, const Tiling* tiling = nullptr);

// Bytes at the front of the workspace that hold lo and hi, and positions where there is ALiBi.
int64_t intervalBytesOnDevice(const flashring_step& step);

// Writes zeros to a float32 tensor.
void clearOnDevice(const flashring_tensor& tensor, const Extents& extents, void* stream);

// A forward, a backward step without queries or without keys, of 16-bit elements: there is nothing to multiply, but
// what the step leaves has to be written.
void forwardOfNothing(const flashring_step& step);
void backwardOfNothing(const flashring_step& step);

// The mma kernels for one element type. The rest of the step is in the arguments.
template <class Element>
void forwardStep(const Arguments& arguments);
template <class Element>
void wideForwardStep(const Arguments& arguments);  // dims beyond kHeadDims
template <class Element>
void backwardStep(const Arguments& arguments);

}  // namespace flashring

#endif
