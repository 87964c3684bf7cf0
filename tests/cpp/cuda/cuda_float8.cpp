// Caches of bytes, e4m3, on a GPU: steps against the host's kernel, the same bits however a cache is stored, NaN that
// some see, appending. --seeds N (per type), --from SEED.
#include <cstring>

#include "cuda/comparison.h"
#include "cuda/device_cache.h"
#include "float8_cache.h"

namespace {

// The device's copy of a step over such a cache. It lies where the cache of 16-bit elements would, byte for element.
struct DeviceBytes {
    DeviceCache device;

    DeviceBytes(CacheCase& c, Float8Cache& cache, Cache how, uint64_t seed) : device(c, how, seed) {
        uint8_t* const k = device.upload(cache.k.all());
        uint8_t* const v = device.upload(cache.v.all());
        device.raw.kv_dtype = FLASHRING_KV_FLOAT8_E4M3;
        device.raw.k_scales = device.upload(cache.keyScales);
        device.raw.v_scales = device.upload(cache.valueScales);
        if (how == Cache::Addressed) {
            device.raw.k_pages = device.upload(moved(cache.keyPages, cache.k.data(), k));
            device.raw.v_pages = device.upload(moved(cache.valuePages, cache.v.data(), v));
        } else {
            device.raw.k.data = k;
            device.raw.v.data = v;
        }
        device.place();
    }

    Outcome results() {
        device.queue();
        return device.results();
    }

private:
    static std::vector<const void*> moved(std::vector<const void*> pages, const uint8_t* from, const uint8_t* to) {
        for (const void*& page : pages) {
            if (page != reinterpret_cast<const void*>(uintptr_t{1})) {
                page = to + (static_cast<const uint8_t*>(page) - from);
            }
        }
        return pages;
    }
};

Outcome onHost(CacheCase& c, Float8Cache& cache) {
    Outcome r(c);
    flashring_step raw = stepOf(c, cache.of, r, FLASHRING_KERNEL_AUTO, FLASHRING_FINISH);
    cache.setOn(raw, c);
    int64_t bytes = 0;
    CHECK(flashring_workspace_bytes(&raw, FLASHRING_FORWARD, &bytes) == FLASHRING_OK, "%s", flashring_last_error());
    const std::unique_ptr<void, void (*)(void*)> workspace(flashring_host_allocate(bytes), flashring_host_free);
    raw.workspace = workspace.get();
    raw.workspace_bytes = bytes;
    CHECK(flashring_forward_step(&raw) == FLASHRING_OK, "%s", flashring_last_error());
    return r;
}

void expectNear(const CacheCase& c, uint64_t seed, const Outcome& actual, const Outcome& expected) {
    const std::string context = "--from " + std::to_string(seed) + " " + c.describe();
    const DeviceBars bars = mmaBars(FLASHRING_FLOAT16);  // in which products are made, whatever the dtype
    checkClose(context, "out", actual.out, expected.out, mmaBars(c.dtype).out);
    checkClose(context, "acc", actual.acc, expected.acc, bars.acc);
    checkClose(context, "lse", actual.lse, expected.lse, bars.lse);
    const double norm = normDifference(actual.acc, expected.acc);
    CHECK(norm <= 2e-3, "%s: acc differs by %g of its norm", context.c_str(), norm);
}

long checkRandom(int32_t dtype, long seeds, uint64_t from) {
    long cases = 0;
    for (uint64_t seed = from; seed < from + static_cast<uint64_t>(seeds); ++seed) {
        std::mt19937_64 random(seed);
        CacheCase c = drawCacheCase(random, dtype, seed % 3 ? 300 : 2600);
        static const int64_t groups[] = {1, 3, 7, 8, 16, 64}, dims[] = {24, 64, 100, 128, 192, 256};
        const int64_t group = groups[pick(random, 0, 5)];
        reshape(c, group, dims[pick(random, 0, 5)]);
        if (seed % 2) drawScores(c, random);
        c.draw(random);
        const std::vector<float> keyScales = drawScales(random, c.keyHeads),
                                 valueScales = drawScales(random, c.keyHeads);
        drawBytes(c, random, keyScales, valueScales);
        Float8Cache whole(c, Cache::Contiguous, seed, keyScales, valueScales);
        const Outcome first = DeviceBytes(c, whole, Cache::Contiguous, seed).results();
        expectNear(c, seed, first, onHost(c, whole));
        for (const Cache how : {Cache::Numbered, Cache::Addressed}) {
            Float8Cache paged(c, how, seed, keyScales, valueScales);
            CHECK(DeviceBytes(c, paged, how, seed).results().sameBits(first),
                  "--from %llu: %s: pages differ from one piece", static_cast<unsigned long long>(seed),
                  c.describe().c_str());
            ++cases;
        }
        ++cases;
    }
    std::printf("%s: %ld cases\n", nameOf(dtype), cases);
    return cases;
}

// Queries as large and as small as bfloat16 has them, which float16 does not.
long checkRange() {
    const double sizes[] = {1e30, 1e-30, 1e37, 1e-36};
    for (const double size : sizes) {
        CacheCase c = smallCase(FLASHRING_BFLOAT16, {500}, 500, 4, 2);
        std::mt19937_64 random(3);
        const std::vector<float> one = {1, 1};
        drawBytes(c, random, one, one);
        c.q.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            c.q.set(b, s, h, d, c.q.get(b, s, h, d) / 8 * size);
        });
        c.scale = std::max(0.25 / size, 1e-37);
        Float8Cache cache(c, Cache::Numbered, 3, one, one);
        expectNear(c, 0, DeviceBytes(c, cache, Cache::Numbered, 3).results(), onHost(c, cache));
    }
    return 4;
}

// NaN among the values reaches the queries that see it, and no other.
long checkNan() {
    for (const int64_t dim : {16, 160}) {
        CacheCase c = smallCase(FLASHRING_BFLOAT16, {1030, 70}, 1100, 3, 4);
        c.headDim = c.valueDim = dim;
        std::mt19937_64 random(3);
        c.draw(random);
        const std::vector<float> one = {1, 1};
        drawBytes(c, random, one, one);
        c.v.set(0, 1028, 0, 5, NAN);  // the last key but one: of the last two queries
        c.v.set(1, 69, 1, 8, NAN);    // the last one
        Float8Cache cache(c, Cache::Numbered, 2, one, one);
        const Outcome seen = DeviceBytes(c, cache, Cache::Numbered, 2).results();
        seen.out.forEach([&](int64_t b, int64_t i, int64_t h, int64_t d) {
            const bool spoilt = b == 0 ? i >= 2 && h / 3 == 0 && d == 5 : i == 3 && h / 3 == 1 && d == 8;
            CHECK(std::isnan(seen.out.get(b, i, h, d)) == spoilt, "(%lld, %lld, %lld, %lld) is %g",
                  static_cast<long long>(b), static_cast<long long>(i), static_cast<long long>(h),
                  static_cast<long long>(d), seen.out.get(b, i, h, d));
        });
    }
    return 2;
}

// Every 16-bit number becomes the byte that the host makes of it.
long checkAppend() {
    constexpr int64_t kTokens = 256, kDim = 256;
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) {
        std::vector<uint16_t> all(kTokens * kDim);
        std::iota(all.begin(), all.end(), uint16_t{0});
        std::vector<uint8_t> k(all.size()), v(all.size()), onDevice(all.size());
        const int32_t held = 0;
        const float scale = 0.37f;
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
        args.v_scales = &scale;
        CHECK(flashring_append(&args) == FLASHRING_OK, "%s", flashring_last_error());
        DeviceMemory news(all.size() * 2), keys(all.size()), values(all.size()), small(64);
        CUDA(cudaMemcpy(news.data(), all.data(), all.size() * 2, cudaMemcpyHostToDevice));
        CUDA(cudaMemcpy(small.data(), &held, 4, cudaMemcpyHostToDevice));
        CUDA(cudaMemcpy(small.data() + 16, &scale, 4, cudaMemcpyHostToDevice));
        args.device = 0;
        args.new_k.data = args.new_v.data = news.data();
        args.k.data = keys.data();
        args.v.data = values.data();
        args.kv_lengths = reinterpret_cast<int32_t*>(small.data());
        args.v_scales = reinterpret_cast<float*>(small.data() + 16);
        CHECK(flashring_append(&args) == FLASHRING_OK, "%s", flashring_last_error());
        CUDA(cudaDeviceSynchronize());
        for (const auto& [memory, expected] : {std::pair{&keys, &k}, {&values, &v}}) {
            CUDA(cudaMemcpy(onDevice.data(), memory->data(), all.size(), cudaMemcpyDeviceToHost));
            for (size_t n = 0; n < all.size(); ++n) {
                const bool nan = ((*expected)[n] & 0x7f) == 0x7f;  // of any sign
                CHECK(nan ? (onDevice[n] & 0x7f) == 0x7f : onDevice[n] == (*expected)[n], "%s %zu: %02x, not %02x",
                      nameOf(dtype), n, onDevice[n], (*expected)[n]);
            }
        }
    }
    return 4;
}

}  // namespace

int main(int count, char** arguments) {
    long seeds = 40;
    uint64_t from = 1;
    for (int i = 1; i + 1 < count; ++i) {
        if (!std::strcmp(arguments[i], "--seeds")) seeds = std::atol(arguments[++i]);
        if (!std::strcmp(arguments[i], "--from")) from = std::strtoull(arguments[++i], nullptr, 10);
    }
    skipWithoutDevice();
    long cases = checkAppend() + checkNan() + checkRange();
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) cases += checkRandom(dtype, seeds, from);
    return finish("cuda float8", cases);
}
