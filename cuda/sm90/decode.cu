// How Hopper's decode kernel reads a cache.
#include <algorithm>

#include "common/elements.cuh"
#include "sm90/decode.h"
#include "sm90/maps.h"

namespace flashring {
namespace {

// A cache as the copy engine sees it: pages are batches, and bytes pairs, as 16-bit elements.
struct Cached {
    flashring_tensor tensor;
    Copied copied;

    Cached(const char* name, const flashring_step& step, flashring_tensor whole, int64_t dim)
        : tensor(whole), copied{name, tensor, {}, step.dtype} {
        const bool paged = step.page_size > 0;
        const int64_t each = 2 / cacheBytes(step);
        for (int64_t* stride : {&tensor.stride_batch, &tensor.stride_seq, &tensor.stride_head}) {
            *stride /= each;
        }
        copied.extents = {paged ? step.pages : step.batch, paged ? step.page_size : step.kv_len, step.kv_heads,
                          dim / each};
    }
    Cached(const Cached&) = delete;
    Cached& operator=(const Cached&) = delete;

    bool reachable() const { return copied.extents.batch > 0 && reached(copied) && !sharesRows(copied); }
};

}  // namespace

void hopperDecode(const DecodeArguments& a) {
    const flashring_step& step = a.step;
    const Cached k("k", step, step.k, step.head_dim), v("v", step, step.v, step.value_dim);
    HopperDecodeArguments h{a, 0, {}, {}};
    if (a.vectorInputs && (a.pageSize == 0 || a.pageShift > 0) && k.reachable() && v.reachable()) {
        h.boxKeys = a.pageSize == 0 ? kHopperDecodeKeys : std::min(a.pageSize, kHopperDecodeKeys);
        map(h.k, k.copied, h.boxKeys);
        map(h.v, v.copied, h.boxKeys);
    }
    if (step.kv_dtype == FLASHRING_KV_FLOAT8_E4M3) {
        return hopperDecodeStep<float8>(h);
    }
    with16BitElement(step.dtype, [&](auto element) { hopperDecodeStep<decltype(element)>(h); });
}

}  // namespace flashring
