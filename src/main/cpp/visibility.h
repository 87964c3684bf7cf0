// Which keys one query sees, by the drawing in flashring.h. constexpr, so that the host and the CUDA kernel share it.
#ifndef FLASHRING_VISIBILITY_H
#define FLASHRING_VISIBILITY_H

#include "flashring.h"

namespace flashring {

// A document [start, end) and the length of its prefix; empty for queries outside every document.
struct Document {
    int64_t start, end, prefix;
};

// The document with this index, or past the last one an empty document. Without cu_seqlens one document has no end.
constexpr Document documentAt(const flashring_mask& mask, int64_t index) {
    if (!mask.cu_seqlens) {
        return {0, INT64_MAX, mask.prefix_lengths ? mask.prefix_lengths[0] : 0};
    }
    const int64_t start = mask.cu_seqlens[index];
    if (index == mask.documents) {
        return {start, start, 0};
    }
    return {start, mask.cu_seqlens[index + 1], mask.prefix_lengths ? mask.prefix_lengths[index] : 0};
}

// Global key positions [first, last).
struct Interval {
    int64_t first, last;
};

// What the query at position q of a document sees.
constexpr Interval visible(const flashring_mask& mask, const Document& document, int64_t q) {
    Interval keys{document.start, document.end};
    if (q < document.end) {
        if (mask.left >= 0 && mask.left < q - document.start) {
            keys.first = q - mask.left;
        }
        if (mask.right >= 0 && mask.right < document.end - q - 1) {
            keys.last = q + mask.right + 1;
        }
    }
    const int64_t length = document.end - document.start;
    const int64_t prefixEnd = document.start + (document.prefix < length ? document.prefix : length);
    if (keys.last < prefixEnd) {
        keys.last = prefixEnd;
    }
    return keys;
}

// Whether batch rows have lengths or pages of their own, or are dealt, or the cache a type; one shard is the whole.
constexpr bool hasRows(const flashring_step& step) {
    return step.kv_lengths || step.kv_begins || step.q_lengths || step.page_table || step.k_pages || step.v_pages ||
           step.page_size != 0 || step.shards > 1 || step.shards < 0 || step.shard != 0 || step.kv_dtype != 0 ||
           step.k_scales || step.v_scales;
}

constexpr int64_t clamped(int64_t value, int64_t most) { return value < 0 ? 0 : value < most ? value : most; }

// What a batch row of a step that hasRows() holds: its queries, and its keys [begin, end).
struct BatchRow {
    int64_t queries, begin, end;
};

// Keys that batch rows may come to, on all shards.
template <class Cache>
constexpr int64_t capacityOf(const Cache& cache) {
    return cache.shards > 1 ? cache.kv_len * cache.shards : cache.kv_len;
}

// How many of a row's first `keys` keys are on this shard. In 32 bits, which dealt rows keep to: GPUs divide 64 slowly.
template <class Cache>
constexpr int64_t keysOnShard(const Cache& cache, int64_t keys) {
    if (cache.shards <= 1) {
        return keys;
    }
    const auto page = static_cast<uint32_t>(cache.page_size), all = static_cast<uint32_t>(keys);
    const uint32_t round = page * static_cast<uint32_t>(cache.shards),
                   before = page * static_cast<uint32_t>(cache.shard);
    const uint32_t rounds = all / round, rest = all - rounds * round, own = rest > before ? rest - before : 0;
    return rounds * page + (own < page ? own : page);
}

constexpr BatchRow batchRow(const flashring_step& step, int64_t b) {
    const int64_t most = capacityOf(step), end = step.kv_lengths ? clamped(step.kv_lengths[b], most) : most;
    return {step.q_lengths ? clamped(step.q_lengths[b], step.q_len) : step.q_len,
            step.kv_begins ? clamped(step.kv_begins[b], end) : 0, end};
}

// The keys of this shard that its query i sees; none where there is no such query.
constexpr Interval visible(const flashring_step& step, const BatchRow& row, int64_t i) {
    const flashring_mask& mask = step.mask;
    const int64_t q = row.end - row.queries + i;
    Interval keys{row.end, row.end};
    if (i < row.queries) {
        keys.first = mask.left >= 0 && mask.left < q - row.begin ? q - mask.left : row.begin;
        const int64_t last = mask.right >= 0 && mask.right < row.end - q - 1 ? q + mask.right + 1 : row.end;
        keys.last = last < keys.first ? keys.first : last;
    }
    return {keysOnShard(step, keys.first), keysOnShard(step, keys.last)};
}

// How many positions of the range lie below the bound.
constexpr int64_t countBelow(const flashring_range& range, int64_t bound) {
    if (range.length == 0 || bound <= range.start) {  // the start and stride of an empty range mean nothing
        return 0;
    }
    const int64_t before = bound - range.start - 1;
    const int64_t count = (range.stride == 1 ? before : before / range.stride) + 1;  // GPUs divide 64 bits slowly
    return count < range.length ? count : range.length;
}

}  // namespace flashring

#endif
