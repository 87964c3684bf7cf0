#include "validate_rows.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "checks.h"
#include "dtypes.h"
#include "kernels.h"
#include "rounding.h"
#include "visibility.h"

namespace flashring {
namespace {

void requireEmpty(const char* field, int64_t value) {
    if (value != 0) {
        invalid("%s = %lld must be 0 where batch rows have lengths or pages of their own", field, Wide{value});
    }
}

void requireNull(const char* field, const void* address) {
    if (address) {
        invalid("%s = %p must be null where batch rows have lengths or pages of their own", field, address);
    }
}

void requireInts(const char* field, const void* address) {
    if (reinterpret_cast<uintptr_t>(address) % alignof(int32_t) != 0) {
        invalid("%s = %p must be aligned to %zu bytes", field, address, alignof(int32_t));
    }
}

void requireBetween(const char* field, int64_t value, int64_t most, const char* rule) {
    if (value < 0 || value > most) {
        invalid("%s = %lld must be from 0 to %s, %lld", field, Wide{value}, rule, Wide{most});
    }
}

// The name of what bounds a row's length.
template <class Cache>
const char* roomOf(const Cache& cache) { return cache.shards > 1 ? "kv_len * shards" : "kv_len"; }

void requireBetween(const char* field, int64_t row, int64_t value, int64_t most, const char* rule) {
    if (value < 0 || value > most) {
        invalid("%s[%lld] = %lld must be from 0 to %s, %lld", field, Wide{row}, Wide{value}, rule, Wide{most});
    }
}

// One number for each key head, which is looked at only where it lies on the host.
template <class Cache>
void checkScales(const Cache& cache, const char* name, const float* scales) {
    if (!scales) {
        return;
    }
    if (cache.kv_dtype == FLASHRING_KV_OF_STEP) {
        invalid("%s = %p must be null where kv_dtype is 0", name, static_cast<const void*>(scales));
    }
    if (reinterpret_cast<uintptr_t>(scales) % alignof(float) != 0) {
        invalid("%s = %p must be aligned to %zu bytes", name, static_cast<const void*>(scales), alignof(float));
    }
    for (int64_t g = 0; cache.device == FLASHRING_HOST && g < cache.kv_heads; ++g) {
        if (!(scales[g] > 0 && scales[g] < INFINITY)) {
            invalid("%s[%lld] = %g must be finite and above 0", name, Wide{g}, static_cast<double>(scales[g]));
        }
    }
}

template <class Cache>
void checkShards(const Cache& cache) {
    requireAtLeast("page_size", cache.page_size, 0);
    requireAtLeast("shards", cache.shards, 0);
    requireBetween("shard", cache.shard, std::max<int64_t>(cache.shards, 1) - 1, "shards - 1");
    if (cache.shards <= 1) {
        return;
    }
    if (cache.page_size == 0) {
        invalid("shards = %lld asks for pages, which are what is dealt", Wide{cache.shards});
    }
    if (!cache.kv_lengths) {
        invalid("kv_lengths must not be null where a cache is dealt over shards");
    }
    if (cache.kv_len > INT32_MAX / cache.shards || cache.page_size > INT32_MAX / cache.shards) {
        invalid("kv_len = %lld and page_size = %lld must be at most %lld, so that rows on %lld shards stay below 2^31",
                Wide{cache.kv_len}, Wide{cache.page_size}, Wide{INT32_MAX / cache.shards}, Wide{cache.shards});
    }
    if (cache.kv_len % cache.page_size != 0) {  // else one shard had to hold more than kv_len of kv_len * shards keys
        invalid("kv_len = %lld must be a multiple of page_size = %lld where a cache is dealt over shards",
                Wide{cache.kv_len}, Wide{cache.page_size});
    }
}

// Where pages lie and how large they are, of a step or of arguments to append that checkShards() has passed.
template <class Cache>
void checkCache(const Cache& cache, Access access) {
    const bool byAddress = cache.k_pages || cache.v_pages;
    const int64_t size = cacheBytes(cache);
    requireInts("page_table", cache.page_table);
    requireAligned("k_pages", cache.k_pages);
    requireAligned("v_pages", cache.v_pages);
    requireAtLeast("pages", cache.pages, 0);
    if (cache.page_size == 0) {
        if (cache.page_table || byAddress) {
            invalid("page_size = 0 must be at least 1 where there is a table of pages");
        }
        if (cache.pages != 0) {
            invalid("pages = %lld must be 0 where page_size is", Wide{cache.pages});
        }
        checkSized("k", cache.k, {cache.batch, cache.kv_len, cache.kv_heads, cache.head_dim}, size, access);
        checkSized("v", cache.v, {cache.batch, cache.kv_len, cache.kv_heads, cache.value_dim}, size, access);
        return;
    }
    if (cache.kv_len == 0) {
        return;
    }
    if (byAddress ? cache.page_table || !cache.k_pages || !cache.v_pages : !cache.page_table) {
        invalid("page_size = %lld asks for either page_table or both k_pages and v_pages", Wide{cache.page_size});
    }
    const int64_t entries = (cache.kv_len - 1) / cache.page_size + 1;
    if (cache.page_table_stride < entries) {
        invalid("page_table_stride = %lld must be at least %lld, the pages of kv_len = %lld",
                Wide{cache.page_table_stride}, Wide{entries}, Wide{cache.kv_len});
    }
    checkProduct("page_table", {cache.batch, cache.page_table_stride, 1, 1}, sizeof(void*));
    if (!byAddress) {
        requireAtLeast("pages", cache.pages, 1);
        checkSized("k", cache.k, {cache.pages, cache.page_size, cache.kv_heads, cache.head_dim}, size, access);
        checkSized("v", cache.v, {cache.pages, cache.page_size, cache.kv_heads, cache.value_dim}, size, access);
        return;
    }
    if (cache.pages != 0) {
        invalid("pages = %lld must be 0 where pages are given by address", Wide{cache.pages});
    }
    const auto strides = [&](const char* name, const flashring_tensor& tensor, const void* const* addresses,
                             int64_t dim) {
        if (tensor.data) {
            invalid("%s.data = %p must be null where pages are given by address", name, tensor.data);
        }
        flashring_tensor page = tensor;
        page.data = const_cast<void*>(static_cast<const void*>(addresses));  // any that is aligned: not followed
        checkSized(name, page, {1, cache.page_size, cache.kv_heads, dim}, size, access);
    };
    strides("k", cache.k, cache.k_pages, cache.head_dim);
    strides("v", cache.v, cache.v_pages, cache.value_dim);
}

// The entries of a batch row's pages that hold its keys [first, last), on the host.
template <class Cache>
void checkEntries(const Cache& cache, int64_t batch, int64_t first, int64_t last) {
    if (cache.page_size == 0 || first >= last) {
        return;
    }
    const auto size = static_cast<uintptr_t>(cacheBytes(cache));
    for (int64_t p = first / cache.page_size; p <= (last - 1) / cache.page_size; ++p) {
        const int64_t entry = batch * cache.page_table_stride + p;
        if (cache.page_table) {
            const int64_t page = cache.page_table[entry];
            if (page < 0 || page >= cache.pages) {
                invalid("page_table[%lld, %lld] = %lld must be from 0 to pages - 1, %lld", Wide{batch}, Wide{p},
                        Wide{page}, Wide{cache.pages - 1});
            }
            continue;
        }
        for (const void* const page :
             {static_cast<const void*>(cache.k_pages[entry]), static_cast<const void*>(cache.v_pages[entry])}) {
            if (!page || reinterpret_cast<uintptr_t>(page) % size != 0) {
                invalid("%s[%lld, %lld] = %p must be the address of a page, aligned to its element size, %zu bytes",
                        page == cache.k_pages[entry] ? "k_pages" : "v_pages", Wide{batch}, Wide{p}, page,
                        static_cast<size_t>(size));
            }
        }
    }
}

}  // namespace

void requireKvDtype(int32_t kvDtype, int32_t dtype) {
    requireWithin("kv_dtype", kvDtype, FLASHRING_KV_OF_STEP, FLASHRING_KV_FLOAT8_E4M3);
    if (kvDtype != FLASHRING_KV_OF_STEP && elementBytes(dtype) != 2) {
        invalid("kv_dtype = %d (float8_e4m3) goes with dtype bfloat16 or float16, not %s", kvDtype, dtypeName(dtype));
    }
}

void checkRows(const flashring_step& step) {
    checkShards(step);
    requireEmpty("q_positions.count", step.q_positions.count);
    requireEmpty("kv_positions.count", step.kv_positions.count);
    requireEmpty("mask.documents", step.mask.documents);
    requireNull("mask.cu_seqlens", step.mask.cu_seqlens);
    requireNull("mask.prefix_lengths", step.mask.prefix_lengths);
    requireNull("alibi_slopes", step.alibi_slopes);
    requireInts("kv_lengths", step.kv_lengths);
    requireInts("kv_begins", step.kv_begins);
    requireInts("q_lengths", step.q_lengths);
    checkCache(step, Access::Read);
    checkScales(step, "k_scales", step.k_scales);
    checkScales(step, "v_scales", step.v_scales);
    if (step.device != FLASHRING_HOST) {
        return;  // the values live there
    }
    for (int64_t b = 0; b < step.batch; ++b) {
        const int64_t most = capacityOf(step), length = step.kv_lengths ? step.kv_lengths[b] : most;
        requireBetween("kv_lengths", b, length, most, roomOf(step));
        if (step.kv_begins) {
            requireBetween("kv_begins", b, step.kv_begins[b], length, "the length of the row");
        }
        if (step.q_lengths) {
            requireBetween("q_lengths", b, step.q_lengths[b], step.q_len, "q_len");
        }
    }
}

void checkPages(const flashring_step& step, const int64_t* lo, const int64_t* hi) {
    if (step.page_size == 0 || step.q_len == 0) {
        return;
    }
    for (int64_t b = 0; b < step.batch; ++b) {
        const int64_t queries = batchRow(step, b).queries, first = b * step.q_len;
        if (queries > 0) {
            checkEntries(step, b, lo[first], hi[first + queries - 1]);
        }
    }
}

const flashring_append_args& readAppend(const flashring_append_args* given, flashring_append_args& own) {
    constexpr std::size_t first = offsetof(flashring_append_args, shard);
    const flashring_append_args& args = readStruct("args", "flashring_append_args", given, first, own);
    if (args.device < FLASHRING_HOST) {
        invalid("device = %d must be -1 (the host) or a CUDA device", args.device);
    }
    if (args.device == FLASHRING_HOST && args.stream) {
        invalid("stream = %p must be null on the host", args.stream);
    }
    requireDtype("dtype", args.dtype);
    requireKvDtype(args.kv_dtype, args.dtype);
    requireAtLeast("batch", args.batch, 1);
    requireAtLeast("new_len", args.new_len, 0);
    requireAtLeast("kv_len", args.kv_len, 0);
    requireAtLeast("kv_heads", args.kv_heads, 1);
    requireAtLeast("head_dim", args.head_dim, 1);
    requireAtLeast("value_dim", args.value_dim, 1);
    if (args.kv_len > INT32_MAX) {
        invalid("kv_len = %lld must be at most %d, the largest length of a row", Wide{args.kv_len}, INT32_MAX);
    }
    checkShards(args);
    const int64_t most = capacityOf(args);
    if (args.new_len > most) {
        invalid("new_len = %lld must be at most %s = %lld", Wide{args.new_len}, roomOf(args), Wide{most});
    }
    checkTensor("new_k", args.new_k, {args.batch, args.new_len, args.kv_heads, args.head_dim}, args.dtype,
                Access::Read);
    checkTensor("new_v", args.new_v, {args.batch, args.new_len, args.kv_heads, args.value_dim}, args.dtype,
                Access::Read);
    checkProduct("k", {args.batch, args.kv_len, args.kv_heads, args.head_dim}, sizeof(double));
    checkProduct("v", {args.batch, args.kv_len, args.kv_heads, args.value_dim}, sizeof(double));
    checkCache(args, Access::Write);
    checkScales(args, "k_scales", args.k_scales);
    checkScales(args, "v_scales", args.v_scales);
    requireDistinct("k", args.k, "v", args.v);
    if (args.new_len > 0) {
        requireDistinct("k", args.k, "new_k", args.new_k);
        requireDistinct("v", args.v, "new_v", args.new_v);
    }
    requireInts("kv_lengths", args.kv_lengths);
    requireInts("new_lengths", args.new_lengths);
    requireInts("lengths_after", args.lengths_after);
    if (!args.kv_lengths) {
        invalid("kv_lengths must not be null");
    }
    if (args.device != FLASHRING_HOST) {
        return args;
    }
    for (int64_t b = 0; b < args.batch; ++b) {
        const int64_t length = args.kv_lengths[b], tokens = args.new_lengths ? args.new_lengths[b] : args.new_len;
        requireBetween("kv_lengths", b, length, most, roomOf(args));
        requireBetween("new_lengths", b, tokens, args.new_len, "new_len");
        if (tokens > most - length) {
            invalid("kv_lengths[%lld] = %lld leaves no room for %lld new tokens: %s = %lld", Wide{b}, Wide{length},
                    Wide{tokens}, roomOf(args), Wide{most});
        }
        checkEntries(args, b, keysOnShard(args, length), keysOnShard(args, length + tokens));
    }
    return args;
}

}  // namespace flashring
