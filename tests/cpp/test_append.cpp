// Appending to caches, contiguous and in pages, on the host: bit by bit where it belongs and nowhere else, and
// refusals.
#include <cstddef>
#include <functional>

#include "cache_case.h"

namespace {

flashring_append_args appendOf(CacheCase& c, Stored& cache, Buffer& newKeys, Buffer& newValues) {
    flashring_append_args args{};
    args.size = sizeof args;
    args.device = FLASHRING_HOST;
    args.dtype = c.dtype;
    args.batch = c.batch;
    args.new_len = newKeys.seq();
    args.kv_len = c.capacity;
    args.kv_heads = c.keyHeads;
    args.head_dim = c.headDim;
    args.value_dim = c.valueDim;
    args.new_k = newKeys.tensor();
    args.new_v = newValues.tensor();
    args.kv_lengths = c.lengths.data();
    cache.setOn(args, c);
    return args;
}

// Tokens land behind those that a row holds, bit by bit, and nothing else changes.
long appending() {
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_FLOAT64, FLASHRING_FLOAT32, FLASHRING_BFLOAT16, FLASHRING_FLOAT16})
        for (const Order order : {Order::BSHD, Order::BHSD, Order::Padded})
            for (const Cache how : kCaches) {
                std::mt19937_64 random(static_cast<uint64_t>(++cases));
                CacheCase c = smallCase(dtype, {0, 15, 16, 40, 37}, 40);
                c.order = order;
                c.headDim = 24;
                c.valueDim = 17;
                const std::vector<int32_t> tokens = {3, 2, 0, 0, 3};
                std::vector<int32_t> after = c.lengths;
                for (size_t b = 0; b < after.size(); ++b) after[b] += tokens[b];
                std::swap(c.lengths, after);  // the pages of what is there afterwards are the ones that exist
                c.left = -1;
                c.right = -1;
                c.draw(random);
                Stored cache(c, how, 9);
                std::swap(c.lengths, after);
                Buffer newKeys(dtype, 5, 3, 2, 24, Order::Padded), newValues(dtype, 5, 3, 2, 17, Order::BHSD);
                for (Buffer* buffer : {&newKeys, &newValues}) {
                    buffer->forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
                        buffer->set(b, s, h, d, static_cast<double>(pick(random, -99, 99)));
                    });
                }
                Stored expected = cache;
                for (int64_t b = 0; b < 5; ++b)
                    for (int64_t i = 0; i < tokens[static_cast<size_t>(b)]; ++i) {
                        const int64_t j = c.lengths[static_cast<size_t>(b)] + i;
                        const int64_t page =
                            how == Cache::Contiguous ? b : cache.table[static_cast<size_t>(b * cache.stride + j / 16)];
                        const int64_t slot = how == Cache::Contiguous ? j : j % 16;
                        for (int64_t h = 0; h < 2; ++h) {
                            for (int64_t d = 0; d < 24; ++d) expected.k.set(page, slot, h, d, newKeys.get(b, i, h, d));
                            for (int64_t d = 0; d < 17; ++d)
                                expected.v.set(page, slot, h, d, newValues.get(b, i, h, d));
                        }
                    }
                flashring_append_args args = appendOf(c, cache, newKeys, newValues);
                std::vector<int32_t> held = c.lengths;
                args.new_lengths = tokens.data();
                args.kv_lengths = args.lengths_after = held.data();
                CHECK(flashring_append(&args) == FLASHRING_OK, "%s", flashring_last_error());
                CHECK(cache.k.sameBits(expected.k) && cache.v.sameBits(expected.v), "%s: another cache",
                      c.describe().c_str());
                CHECK(held == after, "%s: other lengths", c.describe().c_str());
            }
    return cases;
}

// What an older release's program has ends before the shards: nothing of what lies behind it is read.
long olderStruct() {
    CacheCase c = smallCase(FLASHRING_FLOAT32, {40}, 40);
    Stored cache(c, Cache::Numbered, 1);
    c.lengths = {38};
    Buffer newKeys(c.dtype, 1, 2, 2, 16, Order::BSHD), newValues(c.dtype, 1, 2, 2, 16, Order::BSHD);
    newKeys.fill(3);
    newValues.fill(5);
    flashring_append_args args = appendOf(c, cache, newKeys, newValues);
    args.size = offsetof(flashring_append_args, shard);
    args.shard = args.shards = -9;
    int32_t held = 0;
    args.lengths_after = &held;
    CHECK(flashring_append(&args) == FLASHRING_OK, "%s", flashring_last_error());
    for (int64_t j = 38; j < 40; ++j) {
        const int64_t page = cache.table[static_cast<size_t>(j / 16)];
        CHECK(cache.k.get(page, j % 16, 1, 7) == 3 && cache.v.get(page, j % 16, 0, 15) == 5, "key %d is not there",
              static_cast<int>(j));
    }
    CHECK(held == 40, "%d keys", held);
    // That of the next one ends before the scales.
    args.size = offsetof(flashring_append_args, k_scales);
    args.shard = args.shards = 0;
    args.k_scales = args.v_scales = reinterpret_cast<const float*>(uintptr_t{9});
    CHECK(flashring_append(&args) == FLASHRING_OK, "%s", flashring_last_error());
    return 2;
}

long appendRefusals() {
    long cases = 0;
    using A = flashring_append_args;
    const int32_t full[] = {40, 38}, many[] = {1, 3}, least[] = {-1, 0};
    const auto refuse = [&](const char* says, Cache how, const std::function<void(A&, Stored&)>& spoil) {
        CacheCase c = smallCase(FLASHRING_FLOAT32, {40, 40}, 40);
        Stored cache(c, how, 1);
        c.lengths = {38, 20};
        Buffer newKeys(c.dtype, 2, 2, 2, 16, Order::BSHD), newValues(c.dtype, 2, 2, 2, 16, Order::BSHD);
        A args = appendOf(c, cache, newKeys, newValues);
        std::vector<int32_t> held = {-7, -7};
        args.lengths_after = held.data();
        const Stored before = cache;
        spoil(args, cache);
        const int32_t status = flashring_append(&args);
        CHECK(status == FLASHRING_INVALID_ARGUMENT && std::strstr(flashring_last_error(), says),
              "\"%s\" is not in %d \"%s\"", says, status, flashring_last_error());
        CHECK(cache.k.sameBits(before.k) && cache.v.sameBits(before.v) && held[0] == -7 && held[1] == -7,
              "\"%s\": a refused call wrote", says);
        ++cases;
    };
    refuse("kv_lengths[0] = 40 leaves no room for 2 new tokens: kv_len = 40", Cache::Contiguous,
           [&](A& a, Stored&) { a.kv_lengths = full; });
    refuse("kv_lengths[0] = -1 must be", Cache::Contiguous, [&](A& a, Stored&) { a.kv_lengths = least; });
    refuse("new_lengths[1] = 3 must be from 0 to new_len, 2", Cache::Contiguous,
           [&](A& a, Stored&) { a.new_lengths = many; });
    refuse("new_lengths[0] = -1 must be", Cache::Contiguous, [&](A& a, Stored&) { a.new_lengths = least; });
    refuse("kv_lengths must not be null", Cache::Contiguous, [](A& a, Stored&) { a.kv_lengths = nullptr; });
    refuse("kv_len = 2147483648 must be at most 2147483647, the largest length of a row", Cache::Contiguous,
           [](A& a, Stored&) { a.kv_len = INT64_C(1) << 31; });
    refuse("new_len = 41 must be at most kv_len = 40", Cache::Contiguous, [](A& a, Stored&) { a.new_len = 41; });
    refuse("new_k.data must not be null", Cache::Contiguous, [](A& a, Stored&) { a.new_k.data = nullptr; });
    refuse("k.stride_seq = 0 makes elements of an output overlap", Cache::Contiguous,
           [](A& a, Stored&) { a.k.stride_seq = 0; });
    refuse("v.stride_batch = 0 makes elements of an output overlap", Cache::Numbered,
           [](A& a, Stored&) { a.v.stride_batch = 0; });
    refuse("page_table[0, 2] = -1 must be", Cache::Numbered, [](A&, Stored& c) { c.table[2] = -1; });
    refuse("v_pages[0, 2] = ", Cache::Addressed, [](A&, Stored& c) { c.valuePages[2] = nullptr; });
    refuse("kv_dtype = 2 must be from 0 to 1", Cache::Contiguous, [](A& a, Stored&) { a.kv_dtype = 2; });
    static const float scales[] = {1, 1};
    refuse("k_scales = ", Cache::Contiguous, [](A& a, Stored&) { a.k_scales = scales; });
    refuse("must be null where kv_dtype is 0", Cache::Addressed, [](A& a, Stored&) { a.v_scales = scales; });
    refuse("kv_dtype = 1 (float8_e4m3) goes with dtype bfloat16 or float16, not float32", Cache::Contiguous,
           [](A& a, Stored&) { a.kv_dtype = 1; });
    refuse("dtype = 4", Cache::Contiguous, [](A& a, Stored&) { a.dtype = 4; });
    refuse("batch = 0", Cache::Contiguous, [](A& a, Stored&) { a.batch = 0; });
    refuse("size = 8 ", Cache::Contiguous, [](A& a, Stored&) { a.size = 8; });
    return cases;
}

}  // namespace

int main() { return finish("append", appending() + olderStruct() + appendRefusals()); }
