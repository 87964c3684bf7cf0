// Caches of bytes, e4m3: what append makes of every 16-bit number, and steps over such caches against float64 over what
// the bytes stand for.
#include <unistd.h>

#include <cstddef>
#include <functional>

#include "float8_cache.h"

namespace {

constexpr int64_t kTokens = 256, kDim = 256;

flashring_step stepOver(CacheCase& c, Float8Cache& cache, Outcome& r, int32_t kernel) {
    flashring_step raw = stepOf(c, cache.of, r, kernel, FLASHRING_FINISH);
    cache.setOn(raw, c);
    return raw;
}

int32_t run(flashring_step& raw) {
    int64_t bytes = 0;
    const int32_t status = flashring_workspace_bytes(&raw, FLASHRING_FORWARD, &bytes);
    if (status != FLASHRING_OK) return status;
    const std::unique_ptr<void, void (*)(void*)> workspace(flashring_host_allocate(bytes), flashring_host_free);
    raw.workspace = workspace.get();
    raw.workspace_bytes = bytes;
    return flashring_forward_step(&raw);
}

Outcome forward(CacheCase& c, Float8Cache& cache, int32_t kernel) {
    Outcome r(c);
    flashring_step raw = stepOver(c, cache, r, kernel);
    CHECK(run(raw) == FLASHRING_OK, "%s: %s", c.describe().c_str(), flashring_last_error());
    CHECK(r.intact(), "%s: wrote outside a tensor", c.describe().c_str());
    return r;
}

// All numbers of 16 bits, divided by a scale, become the nearest byte.
long everyNumber() {
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16})
        for (const float scale : {1.0f, 0.25f, 0.37f}) {
            std::vector<uint16_t> all(kTokens * kDim);
            std::iota(all.begin(), all.end(), uint16_t{0});
            std::vector<uint8_t> k(all.size() + 1, 0xaa), v(all.size() + 1, 0xaa);
            const int32_t held = 0;
            const float scales[] = {scale};
            flashring_append_args args{};
            args.size = sizeof args;
            args.device = FLASHRING_HOST;
            args.dtype = dtype;
            args.kv_dtype = FLASHRING_KV_FLOAT8_E4M3;
            args.batch = args.kv_heads = 1;
            args.new_len = args.kv_len = kTokens;
            args.head_dim = args.value_dim = kDim;
            args.new_k = args.new_v = {all.data(), kTokens * kDim, kDim, kDim};
            args.k = {k.data(), kTokens * kDim, kDim, kDim};
            args.v = {v.data(), kTokens * kDim, kDim, kDim};
            args.kv_lengths = &held;
            args.v_scales = scales;
            CHECK(flashring_append(&args) == FLASHRING_OK, "%s", flashring_last_error());
            for (size_t bits = 0; bits < all.size(); ++bits) {
                const auto value = static_cast<float>(decode16(dtype, static_cast<int>(bits)));
                const int plain = encode8(static_cast<double>(value)),
                          scaled = encode8(static_cast<double>(value / scale));
                const bool nan = std::isnan(value);  // of any sign
                CHECK((nan ? k[bits] & 0x7f : k[bits]) == plain && (nan ? v[bits] & 0x7f : v[bits]) == scaled,
                      "%s %g became %02x and, over %g, %02x, not %02x and %02x", nameOf(dtype),
                      static_cast<double>(value), k[bits], static_cast<double>(scale), v[bits], plain, scaled);
            }
            CHECK(k.back() == 0xaa && v.back() == 0xaa, "wrote past the cache");
            ++cases;
        }
    return cases;
}

long randomCases(int32_t dtype, uint64_t seeds) {
    long cases = 0;
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
        std::mt19937_64 random(seed);
        CacheCase c = drawCacheCase(random, dtype, seed % 4 ? 150 : 1300);
        if (pick(random, 0, 1)) drawScores(c, random);
        const std::vector<float> keyScales = drawScales(random, c.keyHeads),
                                 valueScales = drawScales(random, c.keyHeads);
        drawBytes(c, random, keyScales, valueScales);
        const Outcome expected = oracle(c);
        for (const int32_t kernel : {FLASHRING_KERNEL_AUTO, FLASHRING_KERNEL_REFERENCE}) {
            if (kernel == FLASHRING_KERNEL_REFERENCE && c.capacity > 150) continue;
            for (const Cache how : kCaches) {
                Float8Cache cache(c, how, seed, keyScales, valueScales);
                const Outcome r = forward(c, cache, kernel);
                const std::string context = (kernel ? "reference " : "auto ") + c.describe();
                checkClose(context, "out", r.out, expected.out, dtype == FLASHRING_BFLOAT16 ? 8e-3 : 1e-3);
                checkClose(context, "acc", r.acc, expected.acc, 4e-5);
                checkClose(context, "lse", r.lse, expected.lse, 4e-5);
                ++cases;
            }
        }
    }
    return cases;
}

// NaN among the values reaches the queries that see it, and no other.
long whatSomeSee() {
    CacheCase c = smallCase(FLASHRING_BFLOAT16, {1030, 70}, 1100, 3, 4);
    std::mt19937_64 random(3);
    const std::vector<float> one = {1, 1};
    drawBytes(c, random, one, one);
    c.v.set(0, 1028, 0, 5, NAN);  // the last key but one: of the last two queries
    Float8Cache cache(c, Cache::Numbered, 2, one, one);
    const Outcome seen = forward(c, cache, FLASHRING_KERNEL_AUTO);
    seen.out.forEach([&](int64_t b, int64_t i, int64_t h, int64_t d) {
        const bool spoilt = b == 0 && i >= 2 && h / 3 == 0 && d == 5;
        CHECK(std::isnan(seen.out.get(b, i, h, d)) == spoilt, "(%lld, %lld, %lld, %lld) is %g",
              static_cast<long long>(b), static_cast<long long>(i), static_cast<long long>(h),
              static_cast<long long>(d), seen.out.get(b, i, h, d));
    });
    return 1;
}

long refusals() {
    long cases = 0;
    using S = flashring_step;
    static const float wrong[][2] = {{1, 0}, {-1, 1}, {NAN, 1}, {INFINITY, 1}};
    static const float one[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const auto refuse = [&](const char* says, const std::function<void(S&)>& spoil,
                            int32_t status = FLASHRING_INVALID_ARGUMENT) {
        CacheCase c = smallCase(FLASHRING_BFLOAT16, {40, 20}, 40);
        Float8Cache cache(c, Cache::Numbered, 1, {1, 1}, {1, 1});
        Outcome r(c);
        S raw = stepOver(c, cache, r, FLASHRING_KERNEL_AUTO);
        spoil(raw);
        const int32_t actual = run(raw);
        CHECK(actual == status && std::strstr(flashring_last_error(), says), "\"%s\" is not in %d \"%s\"", says, actual,
              flashring_last_error());
        ++cases;
    };
    refuse("kv_dtype = 2 must be from 0 to 1", [](S& s) { s.kv_dtype = 2; });
    refuse("kv_dtype = 1 (float8_e4m3) goes with dtype bfloat16 or float16, not float64",
           [](S& s) { s.dtype = FLASHRING_FLOAT64; });
    refuse("must be null where kv_dtype is 0", [](S& s) { s.kv_dtype = 0; });
    refuse("k_scales[1] = 0 must be finite and above 0", [](S& s) { s.k_scales = wrong[0]; });
    refuse("v_scales[0] = -1 must be", [](S& s) { s.v_scales = wrong[1]; });
    refuse("k_scales[0] = nan must be", [](S& s) { s.k_scales = wrong[2]; });
    refuse("v_scales[0] = inf must be", [](S& s) { s.v_scales = wrong[3]; });
    refuse("v_scales = ", [](S& s) {
        s.v_scales = reinterpret_cast<const float*>(reinterpret_cast<const char*>(one) + 2);
    });
    refuse("alibi_slopes", [](S& s) { s.alibi_slopes = one; });
    refuse(
        "it takes no float8 caches", [](S& s) { s.kernel = FLASHRING_KERNEL_SIMD128; }, FLASHRING_UNSUPPORTED);
    CacheCase c = smallCase(FLASHRING_BFLOAT16, {40, 20}, 40);
    Float8Cache cache(c, Cache::Numbered, 1, {1, 1}, {1, 1});
    Outcome r(c);
    const S raw = stepOver(c, cache, r, FLASHRING_KERNEL_AUTO);
    CHECK(flashring_backward_step(&raw) == FLASHRING_UNSUPPORTED &&
              std::strstr(flashring_last_error(), "float8 caches are for forward steps"),
          "backward over bytes: %s", flashring_last_error());
    return cases + 1;
}

// What an older release's program has ends before the type of the cache.
long olderStruct() {
    CacheCase c = smallCase(FLASHRING_FLOAT16, {40}, 40);
    Stored cache(c, Cache::Numbered, 1);
    Outcome expected(c), r(c);
    flashring_step raw = stepOf(c, cache, expected, FLASHRING_KERNEL_AUTO, FLASHRING_FINISH);
    CHECK(run(raw) == FLASHRING_OK, "%s", flashring_last_error());
    raw = stepOf(c, cache, r, FLASHRING_KERNEL_AUTO, FLASHRING_FINISH);
    raw.size = offsetof(flashring_step, kv_dtype);
    raw.kv_dtype = raw.batch_invariant = 77;
    CHECK(run(raw) == FLASHRING_OK && r.sameBits(expected), "%s", flashring_last_error());
    return 1;
}

}  // namespace

int main() {
    alarm(240);
    long cases = everyNumber() + whatSomeSee() + refusals() + olderStruct();
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) cases += randomCases(dtype, 16 / kThinning);
    return finish("float8", cases);
}
