// The border between the entry points and the kernels.
#ifndef FLASHRING_KERNELS_H
#define FLASHRING_KERNELS_H

#include "dtypes.h"
#include "flashring.h"

namespace flashring {

constexpr int64_t kMaxHeadDim = 512;     // of the kernels for any dims
constexpr int64_t kCommonHeadDim = 256;  // of every kernel

// Forward steps of the kernels for any dims take these, too: what latent attention (MLA) decodes with.
constexpr int64_t kLatentKeyDim = 576, kLatentValueDim = 512;

// A checked step, ready to run. CUDA kernels compute the intervals themselves: lo and hi are null for them.
struct Problem {
    const flashring_step& step;
    const int64_t* lo;   // [q_len] query i sees the local keys lo[i] <= j < hi[i];
    const int64_t* hi;   // [q_len] neither lo nor hi ever decreases with i, and lo[i] <= hi[i] <= kv_len
    char* workspace;     // 64-byte aligned, Kernel::workspaceBytes of it
    int64_t ofRow = 0;   // from a batch row's lo and hi to the next one's: q_len where rows have lengths of their own
    const int64_t* qPositions = nullptr;   // [q_len] global ones, for CPU kernels where the step has ALiBi slopes
    const int64_t* kvPositions = nullptr;  // [kv_len]
};

constexpr int32_t kAllScores = FLASHRING_SOFTCAP | FLASHRING_SINKS | FLASHRING_ALIBI;

// NaN and infinity among the operands reach the results of those who see them and nobody else's. In the product of a
// whole tile a hidden pair has weight 0, and 0 * NaN would carry the NaN of one row to queries or keys that must not
// see it: where a border of the mask meets such a value, kernels go another way.

// One implementation of forward and backward, reading flags, shapes and operands from the step. CPU kernels never
// throw; CUDA kernels fail with FLASHRING_DEVICE_ERROR. It computes itself what it is given: whether it can is asked
// before.
struct Kernel {
    int32_t id;               // flashring_kernel
    const char* name;
    const char* requirement;  // what the machine must have
    bool (*available)();      // asked once
    void (*forward)(const Problem&);
    void (*backward)(const Problem&);  // null: serves forward alone
    int64_t (*workspaceBytes)(const flashring_step&, flashring_direction);  // beyond the CPU's intervals; null: none
    bool cuda = false;        // runs on CUDA devices, else on the host
    bool (*runsOn)(int32_t device) = nullptr;  // of several CUDA devices; null: on each
    // What a step lacks that this kernel needs beyond its row of the table, for people, valid until this thread asks
    // again; null where it takes the step. Operands without an address are taken to suit. Null: it takes every step.
    const char* (*unmet)(const flashring_step&, flashring_direction) = nullptr;
    bool rows = false;   // forward serves batch rows of their own lengths, and pages
    int32_t scores = 0;  // flashring_score: those that it serves
    int64_t maxDim = kCommonHeadDim, forwardDim = kCommonHeadDim;  // largest, of both passes and of forward
    bool latent = false;  // forward serves kLatentKeyDim, kLatentValueDim

    // The same kernel, which serves these, too.
    constexpr Kernel serving(int32_t served) const {
        Kernel kernel = *this;
        kernel.scores = served;
        return kernel;
    }
    constexpr Kernel forAnyDims() const {
        Kernel kernel = wideForward();
        kernel.maxDim = kMaxHeadDim;
        kernel.latent = true;
        return kernel;
    }
    constexpr Kernel wideForward() const {
        Kernel kernel = *this;
        kernel.forwardDim = kMaxHeadDim;
        return kernel;
    }
};

// What CUDA kernels ask of the machine: the same words in libraries built with and without CUDA.
constexpr const char kCudaRequirement[] =
    "an NVIDIA GPU of compute capability 8.0 or newer, 99 KB of shared memory a block";

constexpr const char kHopperRequirement[] = "an NVIDIA GPU of compute capability 9.0";

extern const Kernel kDecode, kReference, kSimd128, kAvx2, kAvx512, kAvx512Bf16, kAmx, kCudaDecode, kCudaWgmma, kCudaMma,
    kCudaReference;

// What the DECODE kernels take: queries times the query heads of a key head.
constexpr int64_t kMaxDecodeRows = 64;

// Address of element (batch, seq, head, 0).
template <class T>
static constexpr T* row(const flashring_tensor& tensor, int64_t batch, int64_t seq, int64_t head) {
    return static_cast<T*>(tensor.data) + batch * tensor.stride_batch + seq * tensor.stride_seq +
           head * tensor.stride_head;
}

// Of what a cache holds.
template <class Struct>
static constexpr int64_t cacheBytes(const Struct& cache) {
    return cache.kv_dtype == FLASHRING_KV_OF_STEP ? elementBytes(cache.dtype) : 1;
}

// What the bytes of a key head stand for 1 of; 1 where the cache holds the step's elements.
static constexpr float scaleOfHead(const float* scales, int64_t head) { return scales ? scales[head] : 1; }

// The page that holds key j of a batch row: the place of its entry in the tables.
template <class Struct>
static constexpr int64_t pageEntry(const Struct& cache, int64_t batch, int64_t j) {
    return batch * cache.page_table_stride + j / cache.page_size;
}

// Address of the first element of key j of a batch row in a cache that may have pages: of k with its k_pages, or of v.
template <class T, class Struct>
static constexpr T* cached(const Struct& cache, const flashring_tensor& tensor, const void* const* addresses,
                           int64_t batch, int64_t j, int64_t head) {
    if (cache.page_size == 0) {
        return row<T>(tensor, batch, j, head);
    }
    flashring_tensor pages = tensor;
    if (addresses) {
        pages.data = const_cast<void*>(addresses[pageEntry(cache, batch, j)]);
    }
    return row<T>(pages, addresses ? 0 : cache.page_table[pageEntry(cache, batch, j)], j % cache.page_size, head);
}

}  // namespace flashring

#endif
