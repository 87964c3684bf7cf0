// New keys and values into a cache in device memory: a block a token, then the lengths.
#include "append.h"

#include <cuda_fp8.h>

#include "common/device.h"
#include "common/elements.cuh"
#include "dtypes.h"
#include "kernels.h"
#include "visibility.h"

namespace flashring {
namespace {

constexpr int kThreads = 256;

__device__ int64_t heldBy(const flashring_append_args& a, int64_t batch) {
    return clamped(a.kv_lengths[batch], capacityOf(a));
}

__device__ int64_t newOf(const flashring_append_args& a, int64_t batch) {
    return min(a.new_lengths ? clamped(a.new_lengths[batch], a.new_len) : a.new_len, capacityOf(a) - heldBy(a, batch));
}

// Where the heads of key j start in k or v; null where the table names no page.
template <class Word>
__device__ Word* place(const flashring_append_args& a, const flashring_tensor& tensor, void* const* addresses,
                       int64_t batch, int64_t j) {
    if (a.page_size > 0) {
        const int64_t entry = pageEntry(a, batch, j);
        if (addresses ? !addresses[entry] || reinterpret_cast<uintptr_t>(addresses[entry]) % sizeof(Word) != 0
                      : a.page_table[entry] < 0 || a.page_table[entry] >= a.pages) {
            return nullptr;
        }
    }
    return cached<Word>(a, tensor, addresses, batch, j, 0);
}

// The same bits, or where the cache holds bytes those that stand for a float16 or bfloat16.
template <class Word, class New>
__device__ Word stored(New value, float scale) {
    if constexpr (__is_same(Word, New)) {
        return value;
    } else {
        return {__nv_cvt_float_to_fp8(__fdiv_rn(static_cast<float>(value), scale), __NV_SATFINITE, __NV_E4M3)};
    }
}

template <class Word, class New>
__device__ void copyHeads(const flashring_append_args& a, const flashring_tensor& from, int64_t batch, int64_t i,
                          Word* to, int64_t stride, const float* scales, int64_t dim) {
    for (int64_t n = threadIdx.x; to && n < a.kv_heads * dim; n += kThreads) {
        const int64_t g = n / dim, d = n % dim;
        to[g * stride + d] = stored<Word>(row<const New>(from, batch, i, g)[d], scaleOfHead(scales, g));
    }
}

template <class Word, class New>
__global__ void __launch_bounds__(kThreads) appendKernel(const __grid_constant__ flashring_append_args a) {
    const int64_t batch = blockIdx.x / a.new_len, i = blockIdx.x % a.new_len;
    if (i >= newOf(a, batch)) {
        return;
    }
    const int64_t key = heldBy(a, batch) + i, j = keysOnShard(a, key);
    if (keysOnShard(a, key + 1) == j) {
        return;  // another shard's
    }
    copyHeads<Word, New>(a, a.new_k, batch, i, place<Word>(a, a.k, a.k_pages, batch, j), a.k.stride_head, a.k_scales,
                         a.head_dim);
    copyHeads<Word, New>(a, a.new_v, batch, i, place<Word>(a, a.v, a.v_pages, batch, j), a.v.stride_head, a.v_scales,
                         a.value_dim);
}

// Whether a key that is on this shard has a place; others' are their own shards' affair.
template <class Word>
__device__ bool placed(const flashring_append_args& a, int64_t batch, int64_t key) {
    const int64_t j = keysOnShard(a, key);
    return keysOnShard(a, key + 1) == j ||
           (place<Word>(a, a.k, a.k_pages, batch, j) && place<Word>(a, a.v, a.v_pages, batch, j));
}

// What has no page is not held, nor is what comes after it.
template <class Word>
__global__ void __launch_bounds__(kThreads) lengthsKernel(const __grid_constant__ flashring_append_args a) {
    const int64_t batch = int64_t{blockIdx.x} * kThreads + threadIdx.x;
    if (batch >= a.batch) {
        return;
    }
    int64_t held = heldBy(a, batch);
    const int64_t wanted = held + newOf(a, batch);
    while (held < wanted && placed<Word>(a, batch, held)) {
        held = a.page_size > 0 ? min(wanted, (held / a.page_size + 1) * a.page_size) : wanted;
    }
    a.lengths_after[batch] = static_cast<int32_t>(held);
}

template <class Word, class New = Word>
void launchAppend(const flashring_append_args& args) {
    launch(appendKernel<Word, New>, "append kernel", args.batch * args.new_len, kThreads, 0, args.stream, args);
    if (args.lengths_after) {
        launch(lengthsKernel<Word>, "lengths kernel", ceilDiv(args.batch, int64_t{kThreads}), kThreads, 0, args.stream,
               args);
    }
}

}  // namespace

void appendOnDevice(const flashring_append_args& args) {
    const DeviceScope scope(args.device);
    if (args.kv_dtype != FLASHRING_KV_OF_STEP) {
        return with16BitElement(args.dtype, [&](auto element) { launchAppend<float8, decltype(element)>(args); });
    }
    switch (elementBytes(args.dtype)) {
        case 2:
            launchAppend<uint16_t>(args);
            break;
        case 4:
            launchAppend<uint32_t>(args);
            break;
        default:
            launchAppend<uint64_t>(args);
            break;
    }
}

}  // namespace flashring
