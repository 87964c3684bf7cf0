// Batch rows of their own lengths and caches in pages on a GPU: against the host's kernel, same bits however a cache is
// stored, values that break rules in device memory, appending, graphs. --seeds N (per type), --from SEED, --small.
#include <cstring>

#include "cache_run.h"
#include "cuda/comparison.h"
#include "cuda/device_cache.h"

namespace {

Outcome onDevice(CacheCase& c, Cache how, uint64_t seed) {
    DeviceCache device(c, how, seed);
    device.queue();
    return device.results();
}

Outcome onHost(CacheCase& c) { return forward(c, Cache::Contiguous, FLASHRING_KERNEL_AUTO); }

void expectNear(const CacheCase& c, uint64_t seed, const Outcome& actual, const Outcome& expected) {
    const DeviceBars bars = mmaBars(c.dtype);
    const std::string context = "--from " + std::to_string(seed) + " " + c.describe();
    checkClose(context, "out", actual.out, expected.out, bars.out);
    checkClose(context, "acc", actual.acc, expected.acc, bars.acc);
    checkClose(context, "lse", actual.lse, expected.lse, bars.lse);
    const double norm = normDifference(actual.acc, expected.acc), most = c.dtype == FLASHRING_BFLOAT16 ? 1e-2 : 2e-3;
    CHECK(norm <= most, "%s: acc differs by %g of its norm", context.c_str(), norm);
}

CacheCase drawDeviceCase(std::mt19937_64& random, int32_t dtype, uint64_t seed) {
    CacheCase c = drawCacheCase(random, dtype, seed % 3 ? 300 : 2600);
    static const int64_t groups[] = {1, 3, 7, 8, 16, 64}, dims[] = {24, 64, 128, 192, 256};
    const int64_t group = groups[pick(random, 0, 5)];
    reshape(c, group, dims[pick(random, 0, 4)]);
    if (seed % 2) drawScores(c, random);
    c.draw(random);
    return c;
}

long checkRandom(int32_t dtype, long seeds, uint64_t from) {
    long cases = 0;
    for (uint64_t seed = from; seed < from + static_cast<uint64_t>(seeds); ++seed) {
        std::mt19937_64 random(seed);
        CacheCase c = drawDeviceCase(random, dtype, seed);
        const Outcome whole = onDevice(c, Cache::Contiguous, seed);
        expectNear(c, seed, whole, onHost(c));
        for (const Cache how : {Cache::Numbered, Cache::Addressed})
            for (const uint64_t order : {seed, seed + 1000}) {
                CHECK(onDevice(c, how, order).sameBits(whole), "--from %llu: %s: pages differ from one piece",
                      static_cast<unsigned long long>(seed), c.describe().c_str());
                ++cases;
            }
        c.hide(0);
        CHECK(onDevice(c, Cache::Contiguous, seed).sameBits(whole), "--from %llu: %s: what nobody sees changes bits",
              static_cast<unsigned long long>(seed), c.describe().c_str());
        cases += 2;
    }
    std::printf("%s: %ld cases\n", nameOf(dtype), cases);
    return cases;
}

CacheCase caseOf(std::vector<int32_t> lengths, int64_t capacity, int64_t queries = 1, int64_t dim = 64) {
    CacheCase c;
    c.dtype = FLASHRING_BFLOAT16;
    c.batch = static_cast<int64_t>(lengths.size());
    c.queries = queries;
    c.capacity = capacity;
    c.keyHeads = 2;
    c.group = 4;
    c.headDim = c.valueDim = dim;
    c.lengths = std::move(lengths);
    c.scale = 0.125;
    std::mt19937_64 random(5);
    c.draw(random);
    return c;
}

// More rows than a block has threads, most of them empty or tiny, one huge.
long checkManyRows() {
    std::vector<int32_t> lengths(700, 0);
    for (size_t b = 0; b < lengths.size(); b += 5) lengths[b] = static_cast<int32_t>(b % 40);
    lengths[333] = 2000;
    CacheCase c = caseOf(lengths, 2000, 1, 16);
    const Outcome r = onDevice(c, Cache::Contiguous, 1);
    expectNear(c, 0, r, onHost(c));
    CHECK(onDevice(c, Cache::Numbered, 1).sameBits(r), "many rows: pages differ");
    return 2;
}

// What breaks its rule in device memory counts as the nearest that does not.
long checkWild() {
    CacheCase wild = caseOf({-5, 100000, 30, INT_MAX, INT_MIN}, 100, 2), tame = wild;
    wild.begins = {7, -1, 90, 40, -9};
    wild.queryLengths = {9, 2, -3, INT_MAX, 1};
    tame.lengths = {0, 100, 30, 100, 0};
    tame.begins = {0, 0, 30, 40, 0};
    tame.queryLengths = {2, 2, 0, 2, 1};
    std::mt19937_64 random(6);
    tame.draw(random);
    const Outcome expected = onDevice(tame, Cache::Numbered, 3);
    expectNear(tame, 0, expected, onHost(tame));
    DeviceCache device(tame, Cache::Numbered, 3);
    device.raw.kv_lengths = device.upload(wild.lengths);
    device.raw.kv_begins = device.upload(wild.begins);
    device.raw.q_lengths = device.upload(wild.queryLengths);
    device.queue();
    CHECK(device.results().sameBits(expected), "wild lengths are not those at their bounds");

    // Pages that do not exist count as the first or the last one, addresses that are none as zeros.
    Stored cache(tame, Cache::Numbered, 3);
    std::vector<int32_t> table(cache.table.size()), bounded(cache.table.size());
    for (size_t i = 0; i < table.size(); ++i) {
        table[i] = i % 2 ? INT_MIN : INT_MAX;
        bounded[i] = i % 2 ? 0 : static_cast<int32_t>(cache.pages - 1);
    }
    DeviceCache far(tame, Cache::Numbered, 3), near(tame, Cache::Numbered, 3);
    far.raw.page_table = far.upload(table);
    near.raw.page_table = near.upload(bounded);
    far.queue();
    near.queue();
    const Outcome a = far.results(), b = near.results();
    CHECK(a.lse.sameBits(b.lse), "wild pages are not the ones at their bounds");
    DeviceCache none(tame, Cache::Addressed, 3);
    none.raw.k_pages = none.upload(std::vector<const void*>(table.size(), nullptr));
    none.raw.v_pages = none.upload(std::vector<const void*>(table.size(), reinterpret_cast<const void*>(uintptr_t{3})));
    none.queue();
    const Outcome zeros = none.results();
    CHECK(zeros.out.get(1, 1, 0, 0) == 0 && std::fabs(zeros.lse.get(1, 1, 0) - std::log(100.0)) < 1e-5,
          "no page is not zeros: %g, %g", zeros.out.get(1, 1, 0, 0), zeros.lse.get(1, 1, 0));
    return 4;
}

// Pages of k and v so far apart that 32 bits do not hold the distance, of elements (vLLM 47671, 50427).
long checkFarPages() {
    CacheCase c = caseOf({60}, 60);
    c.pageSize = 64;
    std::mt19937_64 random(7);
    c.draw(random);
    const Outcome expected = onDevice(c, Cache::Contiguous, 1);
    DeviceCache device(c, Cache::Numbered, 1);
    const int64_t far = (INT64_C(1) << 31) + 64, bytes = 64 * 2 * 64 * 2;
    DeviceMemory keys(static_cast<size_t>(2 * far + bytes)), values(static_cast<size_t>(2 * far + bytes));
    const int32_t page = Stored(c, Cache::Numbered, 1).table[0];
    const auto place = [&](flashring_tensor& tensor, const DeviceMemory& memory) {
        CUDA(cudaMemcpy(memory.data() + 2 * far, static_cast<char*>(tensor.data) + page * tensor.stride_batch * 2,
                        static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice));
        tensor.data = memory.data();
        tensor.stride_batch = far;
    };
    place(device.raw.k, keys);
    place(device.raw.v, values);
    device.raw.pages = 2;
    device.raw.page_table = device.upload(std::vector<int32_t>{1});
    device.queue();
    CHECK(device.results().sameBits(expected), "a page beyond 2^31 elements");
    return 1;
}

// Appended on the device as on the host, of which the cache has the same bits; what has no room or no page is left out.
long checkAppend() {
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_FLOAT64, FLASHRING_FLOAT32, FLASHRING_BFLOAT16})
        for (const Cache how : {Cache::Contiguous, Cache::Numbered, Cache::Addressed}) {
            std::mt19937_64 random(static_cast<uint64_t>(++cases));
            CacheCase c = caseOf({3, 17, 16, 42, 40}, 42);
            c.dtype = dtype;
            c.right = -1;
            c.draw(random);
            Buffer newKeys(dtype, 5, 3, 2, 64, Order::Padded), newValues(dtype, 5, 3, 2, 64, Order::BHSD);
            for (Buffer* buffer : {&newKeys, &newValues}) {
                buffer->forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
                    buffer->set(b, s, h, d, static_cast<double>(pick(random, -99, 99)));
                });
            }
            const std::vector<int32_t> before = {0, 15, 16, 42, 40}, tokens = {3, 2, 0, 0, 2}, wild = {3, 2, -1, 3, 3};
            Stored host(c, how, 9);
            flashring_append_args args{};
            args.size = sizeof args;
            args.device = FLASHRING_HOST;
            args.dtype = dtype;
            args.batch = 5;
            args.new_len = 3;
            args.kv_len = 42;
            args.kv_heads = 2;
            args.head_dim = args.value_dim = 64;
            args.new_k = newKeys.tensor();
            args.new_v = newValues.tensor();
            args.kv_lengths = before.data();
            args.new_lengths = tokens.data();
            std::vector<int32_t> after(5);
            args.lengths_after = after.data();
            host.setOn(args, c);
            CHECK(flashring_append(&args) == FLASHRING_OK, "%s", flashring_last_error());
            Stored own(c, how, 9);
            std::vector<DeviceMemory> kept;
            const auto upload = [&](const void* from, size_t bytes) {
                kept.emplace_back(bytes);
                CUDA(cudaMemcpy(kept.back().data(), from, bytes, cudaMemcpyHostToDevice));
                return kept.back().data();
            };
            const auto move = [&](flashring_tensor& tensor, Buffer& buffer) {
                char* const device = upload(buffer.memory(), buffer.memoryBytes());
                if (tensor.data) tensor.data = static_cast<char*>(tensor.data) + (device - buffer.memory());
                return device;
            };
            own.setOn(args, c);
            args.device = 0;
            args.new_k = newKeys.tensor();
            args.new_v = newValues.tensor();
            move(args.new_k, newKeys);
            move(args.new_v, newValues);
            char* const keys = move(args.k, own.k);
            char* const values = move(args.v, own.v);
            args.kv_lengths = args.lengths_after = reinterpret_cast<int32_t*>(upload(before.data(), 20));
            args.new_lengths = reinterpret_cast<int32_t*>(upload(wild.data(), 20));
            int32_t* const table = how == Cache::Numbered ? own.table.data() : nullptr;
            if (table) args.page_table = reinterpret_cast<int32_t*>(upload(table, own.table.size() * 4));
            if (how == Cache::Addressed) {
                const auto addresses = [&](std::vector<const void*> pages, std::ptrdiff_t by) {
                    const void* const none = reinterpret_cast<const void*>(uintptr_t{1});
                    for (const void*& page : pages) page = page == none ? nullptr : static_cast<const char*>(page) + by;
                    return reinterpret_cast<void* const*>(upload(pages.data(), pages.size() * sizeof(void*)));
                };
                args.k_pages = addresses(own.keyPages, keys - own.k.memory());
                args.v_pages = addresses(own.valuePages, values - own.v.memory());
            }
            CHECK(flashring_append(&args) == FLASHRING_OK, "%s", flashring_last_error());
            CUDA(cudaDeviceSynchronize());
            std::vector<int32_t> held(5);
            CUDA(cudaMemcpy(own.k.memory(), keys, own.k.memoryBytes(), cudaMemcpyDeviceToHost));
            CUDA(cudaMemcpy(own.v.memory(), values, own.v.memoryBytes(), cudaMemcpyDeviceToHost));
            CUDA(cudaMemcpy(held.data(), args.kv_lengths, 20, cudaMemcpyDeviceToHost));
            CHECK(own.k.sameBits(host.k) && own.v.sameBits(host.v), "%s: appends otherwise", c.describe().c_str());
            CHECK(held == after, "%s: other lengths", c.describe().c_str());
        }
    return cases;
}

// A row that sees nothing has its sinks as lse and output 0; a step that resumes does not count them again.
long checkSinks() {
    CacheCase c = caseOf({0, 3000}, 3000);
    c.queryLengths = {1, 1};
    c.sinks = {0.5, -1, 3, -INFINITY, 0, 7, 1.25, 2};
    DeviceCache device(c, Cache::Numbered, 3);
    device.queue();
    const Outcome first = device.results();
    expectNear(c, 0, first, oracle(c));
    for (int64_t h = 0; h < c.heads(); ++h) {
        const double lse = first.lse.get(0, 0, h), sink = c.sinks[static_cast<size_t>(h)];
        CHECK(lse == sink && first.out.get(0, 0, h, 9) == 0, "lse of a sink of %g that sees nothing is %g", sink, lse);
    }
    device.raw.flags |= FLASHRING_RESUME;
    device.queue();
    expectNear(c, 0, device.results(), oracle(c, &first));
    return 2;
}

// What has no page, by number or by address, is left out and not counted, nor is what comes after it.
long checkAppendWithoutPage() {
    for (const bool numbered : {true, false}) {
        constexpr int64_t kPage = 4, kDim = 8;
        std::vector<uint16_t> news(2 * 6 * kDim, 7), cache(6 * kPage * kDim, 1);  // 2 rows, 6 tokens each; 6 pages
        DeviceMemory newTokens(news.size() * 2), keys(cache.size() * 2), values(cache.size() * 2);
        DeviceMemory numbers(64), addresses(96);
        CUDA(cudaMemcpy(newTokens.data(), news.data(), news.size() * 2, cudaMemcpyHostToDevice));
        CUDA(cudaMemcpy(keys.data(), cache.data(), cache.size() * 2, cudaMemcpyHostToDevice));
        CUDA(cudaMemcpy(values.data(), cache.data(), cache.size() * 2, cudaMemcpyHostToDevice));
        const int32_t held[4] = {2, 2, 0, 0}, table[6] = {0, -1, 2, 3, 4, 6};  // of 0 to 5
        CUDA(cudaMemcpy(numbers.data(), held, sizeof held, cudaMemcpyHostToDevice));
        CUDA(cudaMemcpy(numbers.data() + 16, table, sizeof table, cudaMemcpyHostToDevice));
        const void* pages[12];
        for (int n = 0; n < 6; ++n) {
            const bool exists = table[n] >= 0 && table[n] < 6;
            pages[n] = exists ? keys.data() + table[n] * kPage * kDim * 2 : nullptr;
            pages[6 + n] = exists ? values.data() + table[n] * kPage * kDim * 2 : nullptr;
        }
        CUDA(cudaMemcpy(addresses.data(), pages, sizeof pages, cudaMemcpyHostToDevice));
        flashring_append_args args{};
        args.size = sizeof args;
        args.dtype = FLASHRING_BFLOAT16;
        args.batch = 2;
        args.new_len = 6;
        args.kv_len = 3 * kPage;
        args.kv_heads = 1;
        args.head_dim = args.value_dim = kDim;
        args.new_k = args.new_v = {newTokens.data(), 6 * kDim, kDim, kDim};
        args.k = {numbered ? keys.data() : nullptr, kPage * kDim, kDim, kDim};
        args.v = {numbered ? values.data() : nullptr, kPage * kDim, kDim, kDim};
        args.kv_lengths = reinterpret_cast<int32_t*>(numbers.data());
        args.lengths_after = reinterpret_cast<int32_t*>(numbers.data()) + 2;
        args.page_size = kPage;
        args.page_table_stride = 3;
        if (numbered) {
            args.pages = 6;
            args.page_table = reinterpret_cast<int32_t*>(numbers.data() + 16);
        } else {
            args.k_pages = reinterpret_cast<void* const*>(addresses.data());
            args.v_pages = args.k_pages + 6;
        }
        CHECK(flashring_append(&args) == FLASHRING_OK, "%s", flashring_last_error());
        CUDA(cudaDeviceSynchronize());
        int32_t after[2];
        CUDA(cudaMemcpy(after, args.lengths_after, sizeof after, cudaMemcpyDeviceToHost));
        CHECK(after[0] == 4 && after[1] == 8, "rows hold %d and %d keys, not 4 and 8", after[0], after[1]);
        std::vector<uint16_t> written(cache.size());
        CUDA(cudaMemcpy(written.data(), keys.data(), cache.size() * 2, cudaMemcpyDeviceToHost));
        for (int64_t n = 0; n < static_cast<int64_t>(cache.size()); ++n) {
            const int64_t page = n / kDim / kPage, slot = n / kDim % kPage;
            const bool isNew = page == 0 || page == 3 ? slot >= 2 : page == 4;
            CHECK(written[static_cast<size_t>(n)] == (isNew ? 7 : 1), "page %lld, key %lld",
                  static_cast<long long>(page), static_cast<long long>(slot));
        }
    }
    return 2;
}

// Captured with short rows, replayed with long ones and back (vLLM 20301), on two streams at once (aiter 3288).
long checkGraph(bool small) {
    const int64_t capacity = small ? 4096 : 131072;
    CacheCase c = caseOf({1000, 0, 17}, capacity, 2, 16);
    c.keyHeads = 1;
    c.pageSize = 64;
    std::mt19937_64 random(8);
    const auto most = static_cast<int32_t>(capacity);
    const std::vector<int32_t> shortOnes = c.lengths, longOnes = {most, 1, most / 2 + 3};
    c.lengths = longOnes;
    c.draw(random);
    cudaStream_t streams[2];
    for (cudaStream_t& stream : streams) CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    DeviceCache first(c, Cache::Numbered, 3, streams[0]), second(c, Cache::Contiguous, 3, streams[1]);
    DeviceCache* const both[] = {&first, &second};
    cudaGraph_t graphs[2];
    cudaGraphExec_t replays[2];
    const auto set = [&](const std::vector<int32_t>& lengths) {
        for (DeviceCache* cache : both) {
            auto* const target = const_cast<int32_t*>(cache->raw.kv_lengths);
            CUDA(cudaMemcpy(target, lengths.data(), lengths.size() * 4, cudaMemcpyHostToDevice));
        }
        CUDA(cudaDeviceSynchronize());
    };
    set(shortOnes);
    for (int n = 0; n < 2; ++n) {
        both[n]->queue();
        CUDA(cudaStreamSynchronize(streams[n]));
        CUDA(cudaStreamBeginCapture(streams[n], cudaStreamCaptureModeGlobal));
        both[n]->queue();
        CUDA(cudaStreamEndCapture(streams[n], &graphs[n]));
        CUDA(cudaGraphInstantiate(&replays[n], graphs[n], 0));
    }
    long cases = 0;
    for (const auto& lengths : {longOnes, shortOnes, std::vector<int32_t>{0, 0, 0}, longOnes}) {
        set(lengths);
        for (int repeat = 0; repeat < 10; ++repeat)
            for (int n = 0; n < 2; ++n) CUDA(cudaGraphLaunch(replays[n], streams[n]));
        const Outcome paged = first.results(), plain = second.results();
        CHECK(paged.sameBits(plain), "replays of a paged and a contiguous cache differ at length %d", lengths[0]);
        c.lengths = lengths;
        expectNear(c, 0, plain, onHost(c));
        ++cases;
    }
    for (int n = 0; n < 2; ++n) {
        CUDA(cudaGraphExecDestroy(replays[n]));
        CUDA(cudaGraphDestroy(graphs[n]));
    }
    return cases;
}

}  // namespace

int main(int count, char** arguments) {
    long seeds = 40;
    uint64_t from = 1;
    bool small = false;
    for (int i = 1; i < count; ++i) {
        if (!std::strcmp(arguments[i], "--small")) small = true;
        if (!std::strcmp(arguments[i], "--seeds") && i + 1 < count) seeds = std::atol(arguments[++i]);
        if (!std::strcmp(arguments[i], "--from") && i + 1 < count) from = std::strtoull(arguments[++i], nullptr, 10);
    }
    skipWithoutDevice();
    long cases = checkAppend() + checkAppendWithoutPage() + checkSinks() + checkWild() + checkManyRows();
    cases += checkGraph(small) + (small ? 0 : checkFarPages());
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) cases += checkRandom(dtype, seeds, from);
    return finish("cuda rows", cases);
}
