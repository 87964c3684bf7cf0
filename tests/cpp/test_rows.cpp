// Batch rows of their own lengths and caches in pages: every kernel of the host that takes them against a float64
// oracle, the same bits however a cache is stored and whatever lies where nobody looks, what other libraries got wrong
// there, refusals.
#include <unistd.h>

#include <functional>

#include "cache_run.h"
#include "caps.h"

namespace {

constexpr unsigned kSeconds = 240;  // what is not finite must not turn into a search

bool decodes() {
    for (const flashring_capability& row : availableRows(false)) {
        if (row.kernel == FLASHRING_KERNEL_DECODE) return true;
    }
    return false;
}

// Every kernel and way to store the cache; with a state of earlier steps, some of whose rows are empty, in every other
// case.
long randomCases(int32_t dtype, uint64_t seeds) {
    long cases = 0;
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
        std::mt19937_64 random(seed);
        CacheCase c = drawCacheCase(random, dtype, seed % 4 ? 150 : 1300);
        if (pick(random, 0, 1)) drawScores(c, random);
        Outcome state(c);
        std::normal_distribution<double> normal;
        state.acc.forEach(
            [&](int64_t b, int64_t i, int64_t h, int64_t d) { state.acc.set(b, i, h, d, normal(random)); });
        state.lse.forEach([&](int64_t b, int64_t i, int64_t h, int64_t d) {
            state.lse.set(b, i, h, d, pick(random, 0, 3) ? 2 * normal(random) : -INFINITY);
        });
        const Outcome* const earlier = seed % 2 ? &state : nullptr;
        const Outcome expected = oracle(c, earlier);
        for (const int32_t kernel : {FLASHRING_KERNEL_AUTO, FLASHRING_KERNEL_REFERENCE}) {
            if (kernel == FLASHRING_KERNEL_REFERENCE && c.capacity > 150) continue;
            const Outcome whole = forward(c, Cache::Contiguous, kernel, seed, earlier);
            expectClose(c, kernel ? "reference" : "auto", whole, expected);
            for (const Cache how : {Cache::Numbered, Cache::Addressed}) {
                CHECK(forward(c, how, kernel, seed, earlier).sameBits(whole),
                      "kernel %d, %s: pages differ from one piece", kernel, c.describe().c_str());
                ++cases;
            }
            ++cases;
        }
    }
    return cases;
}

// NaN and infinity behind the length of a row change neither bits nor time (FlashAttention 1745 and 2374, FlashInfer
// 4161).
long whatNobodySees() {
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_FLOAT32, FLASHRING_BFLOAT16, FLASHRING_FLOAT16, FLASHRING_FLOAT64})
        for (const int64_t queries : {1, 3}) {
            CacheCase c = smallCase(dtype, {0, 1, 15, 16, 17, 63, 65, 1025}, 1100, 4, queries);
            c.hide(0);
            const Outcome clean = forward(c, Cache::Contiguous, FLASHRING_KERNEL_AUTO, 3, nullptr, 0);
            for (const double spoilt : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
                c.hide(spoilt);
                for (const Cache how : kCaches) {
                    CHECK(forward(c, how, FLASHRING_KERNEL_AUTO, 3, nullptr, spoilt).sameBits(clean),
                          "%s: %g where nobody looks is seen", c.describe().c_str(), spoilt);
                    ++cases;
                }
            }
        }
    return cases;
}

// What is not finite among the keys that queries see reaches those alone that see it.
long whatSomeSee() {
    CacheCase c = smallCase(FLASHRING_FLOAT32, {1030, 70}, 1100, 3, 4);
    c.v.set(0, 1028, 0, 5, NAN);  // the last key but one: of the last two queries
    c.v.set(1, 69, 1, 0, INFINITY);
    const Outcome seen = forward(c, Cache::Contiguous, FLASHRING_KERNEL_AUTO);
    seen.out.forEach([&](int64_t b, int64_t i, int64_t h, int64_t d) {
        const bool spoilt = b == 0 ? i >= 2 && h / 3 == 0 && d == 5 : i == 3 && h / 3 == 1 && d == 0;
        CHECK(std::isfinite(seen.out.get(b, i, h, d)) != spoilt, "(%lld, %lld, %lld, %lld) is %g",
              static_cast<long long>(b), static_cast<long long>(i), static_cast<long long>(h),
              static_cast<long long>(d), seen.out.get(b, i, h, d));
    });
    return 1;
}

// A row has the same bits alone as among others, one huge among tiny (batch invariance).
long alone() {
    std::vector<int32_t> lengths = {3, 3000, 1, 0, 17, 1024, 2, 64};
    CacheCase many = smallCase(FLASHRING_BFLOAT16, lengths, 3000);
    const Outcome together = forward(many, Cache::Numbered, FLASHRING_KERNEL_AUTO);
    expectClose(many, "one huge among tiny", together, oracle(many));
    for (int64_t b = 0; b < many.batch; ++b) {
        CacheCase one = many;
        one.batch = 1;
        one.lengths = {lengths[static_cast<size_t>(b)]};
        one.q = Buffer(one.dtype, 1, 1, one.heads(), 16, Order::Padded);
        one.k = Buffer(one.dtype, 1, one.capacity, 2, 16, one.order);
        one.v = one.k;
        const auto take = [b](Buffer& to, const Buffer& from) {
            to.forEach([&](int64_t, int64_t s, int64_t h, int64_t d) { to.set(0, s, h, d, from.get(b, s, h, d)); });
        };
        take(one.q, many.q);
        take(one.k, many.k);
        take(one.v, many.v);
        const Outcome own = forward(one, Cache::Contiguous, FLASHRING_KERNEL_AUTO);
        own.acc.forEach([&](int64_t, int64_t i, int64_t h, int64_t d) {
            CHECK(own.acc.get(0, i, h, d) == together.acc.get(b, i, h, d), "row %lld differs alone",
                  static_cast<long long>(b));
        });
    }
    return many.batch;
}

// Rows with nothing to see: output 0 and lse -inf, and of two empty states nothing but an empty one (vLLM 49294,
// FlashInfer 4051). With a state of earlier steps that one stays.
long emptyRows() {
    CacheCase c = smallCase(FLASHRING_FLOAT32, {0, 0, 4}, 40, 8, 2);
    c.queryLengths = {2, 0, 1};
    const Outcome r = forward(c, Cache::Numbered, FLASHRING_KERNEL_AUTO);
    const auto empty = [&](const Outcome& x, int64_t b, int64_t i) {
        for (int64_t h = 0; h < c.heads(); ++h) {
            CHECK(x.lse.get(b, i, h) == -INFINITY && x.out.get(b, i, h, 7) == 0 && x.acc.get(b, i, h, 15) == 0,
                  "row %lld, query %lld", static_cast<long long>(b), static_cast<long long>(i));
        }
    };
    for (const auto& place : {std::pair{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 1}}) empty(r, place.first, place.second);
    const Outcome again = forward(c, Cache::Numbered, FLASHRING_KERNEL_AUTO, 1, &r);
    for (const auto& place : {std::pair{0, 0}, {1, 1}, {2, 1}}) empty(again, place.first, place.second);
    Outcome sink(c);  // a learned sink is a state of output 0
    sink.acc.fill(0);
    sink.lse.fill(1.5);
    const Outcome sunk = forward(c, Cache::Numbered, FLASHRING_KERNEL_AUTO, 1, &sink);
    CHECK(sunk.lse.get(0, 1, 3) == 1.5 && sunk.out.get(0, 1, 3, 0) == 0 && sunk.lse.get(2, 1, 0) == 1.5,
          "a state that meets nothing changed");
    return 4;
}

// Sinks where a row sees nothing: lse is its head's, output 0. They count where a state begins, and are not looked at
// where it goes on.
long sinks() {
    for (const int32_t kernel : {FLASHRING_KERNEL_AUTO, FLASHRING_KERNEL_REFERENCE}) {
        CacheCase c = smallCase(FLASHRING_FLOAT32, {0, 3000}, 3000);
        c.queryLengths = {1, 1};
        c.sinks = {0.5, -1, 3, -INFINITY, 0, 7, 1.25, 2};
        const Outcome first = forward(c, Cache::Numbered, kernel);
        expectClose(c, "sinks", first, oracle(c));
        for (int64_t h = 0; h < c.heads(); ++h) {
            CHECK(first.lse.get(0, 0, h) == c.sinks[static_cast<size_t>(h)] && first.out.get(0, 0, h, 9) == 0 &&
                      first.acc.get(0, 0, h, 0) == 0,
                  "kernel %d, head %lld: lse is %g where nothing is seen", kernel, static_cast<long long>(h),
                  first.lse.get(0, 0, h));
        }
        expectClose(c, "sinks, second step", forward(c, Cache::Numbered, kernel, 1, &first), oracle(c, &first));
        Stored cache(c, Cache::Numbered, 1);
        Outcome again = first;
        flashring_step raw = stepOf(c, cache, again, kernel, FLASHRING_FINISH | FLASHRING_RESUME);
        raw.sinks = reinterpret_cast<const void*>(uintptr_t{1});
        run(raw, c);
        CHECK(again.sameBits(forward(c, Cache::Numbered, kernel, 1, &first)),
              "kernel %d looks at sinks where it resumes", kernel);
    }
    return 2;
}

// More queries than keys: those that would sit before the first key see nothing, the rest what stands beside them
// (FlashAttention 778).
long fewerKeysThanQueries() {
    for (const int32_t length : {0, 1, 2, 3, 4, 5}) {
        CacheCase c = smallCase(FLASHRING_FLOAT64, {length}, 9, 2, 5);
        expectClose(c, "fewer keys than queries", forward(c, Cache::Contiguous, FLASHRING_KERNEL_AUTO), oracle(c));
    }
    return 6;
}

// Without lengths rows are as long as the step says, and the step of full rows is that of plain positions.
long plainSteps() {
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_FLOAT64, FLASHRING_FLOAT32, FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) {
        CacheCase c = smallCase(dtype, {1500, 1500}, 1500, 3, 4);
        const Outcome rows = forward(c, Cache::Contiguous, FLASHRING_KERNEL_AUTO);
        Stored cache(c, Cache::Contiguous, 1);
        Outcome plain(c);
        flashring_step raw = stepOf(c, cache, plain, FLASHRING_KERNEL_AUTO, FLASHRING_FINISH);
        const flashring_range queries = {1496, 4, 1}, keys = {0, 1500, 1};
        raw.kv_lengths = nullptr;
        raw.q_positions = {&queries, 1};
        raw.kv_positions = {&keys, 1};
        run(raw, c);
        if (decodes()) {
            CHECK(rows.sameBits(plain), "%s: full rows differ from plain positions", nameOf(dtype));
        } else {
            expectClose(c, "plain", plain, oracle(c));
        }
        c.lengths.clear();
        CHECK(forward(c, Cache::Numbered, FLASHRING_KERNEL_AUTO).sameBits(rows), "%s: pages alone", nameOf(dtype));
        cases += 2;
    }
    return cases;
}

// However many threads: the same bits.
long threads() {
    CacheCase c = smallCase(FLASHRING_FLOAT32, {4000, 1, 1500}, 4000, 7, 2);
    const int32_t before = flashring_threads();
    const Outcome some = forward(c, Cache::Numbered, FLASHRING_KERNEL_AUTO);
    for (const int32_t count : {1, 3}) {
        CHECK(flashring_set_threads(count) == FLASHRING_OK, "%s", flashring_last_error());
        CHECK(forward(c, Cache::Numbered, FLASHRING_KERNEL_AUTO).sameBits(some), "%d threads differ", count);
    }
    flashring_set_threads(before);
    return 2;
}

long refusals() {
    long cases = 0;
    using S = flashring_step;
    int32_t ints[] = {0, 7, 41, -1, 99};
    int64_t bounds[] = {0, 40};
    flashring_range range = {0, 40, 1};
    const auto refuse = [&](const char* says, Cache how, const std::function<void(S&, Stored&)>& spoil,
                            int32_t status = FLASHRING_INVALID_ARGUMENT) {
        CacheCase c = smallCase(FLASHRING_FLOAT32, {40, 20}, 40);
        c.begins = {0, 0};
        c.queryLengths = {1, 1};
        Stored cache(c, how, 1);
        Outcome r(c);
        S raw = stepOf(c, cache, r, FLASHRING_KERNEL_AUTO, FLASHRING_FINISH);
        std::vector<char> workspace(100000 + 64);
        raw.workspace = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64);
        raw.workspace_bytes = 100000;
        CHECK(flashring_forward_step(&raw) == FLASHRING_OK, "before it is spoilt: %s", flashring_last_error());
        spoil(raw, cache);
        const int32_t actual = flashring_forward_step(&raw);
        CHECK(actual == status && std::strstr(flashring_last_error(), says), "\"%s\" is not in %d \"%s\"", says, actual,
              flashring_last_error());
        ++cases;
    };
    refuse("kv_lengths[0] = 41 must be from 0 to kv_len, 40", Cache::Contiguous,
           [&](S& s, Stored&) { s.kv_lengths = ints + 2; });
    refuse("kv_lengths[0] = -1", Cache::Contiguous, [&](S& s, Stored&) { s.kv_lengths = ints + 3; });
    refuse("kv_begins[0] = 41 must be from 0 to the length of the row, 40", Cache::Contiguous,
           [&](S& s, Stored&) { s.kv_begins = ints + 2; });
    refuse("q_lengths[1] = 7 must be from 0 to q_len, 1", Cache::Contiguous,
           [&](S& s, Stored&) { s.q_lengths = ints; });
    refuse("kv_lengths = ", Cache::Contiguous,
           [&](S& s, Stored&) { s.kv_lengths = reinterpret_cast<int32_t*>(reinterpret_cast<char*>(ints) + 1); });
    refuse("q_positions.count = 1 must be 0", Cache::Contiguous, [&](S& s, Stored&) { s.q_positions = {&range, 1}; });
    refuse("kv_positions.count = 1 must be 0", Cache::Contiguous, [&](S& s, Stored&) { s.kv_positions = {&range, 1}; });
    refuse("mask.documents = 1 must be 0", Cache::Contiguous, [&](S& s, Stored&) { s.mask.documents = 1; });
    refuse("mask.cu_seqlens = ", Cache::Contiguous, [&](S& s, Stored&) { s.mask.cu_seqlens = bounds; });
    refuse("mask.prefix_lengths = ", Cache::Contiguous, [&](S& s, Stored&) { s.mask.prefix_lengths = bounds; });
    refuse("page_size = 0 must be at least 1", Cache::Contiguous, [&](S& s, Stored&) { s.page_table = ints; });
    refuse("page_size = -16 must be at least 0", Cache::Numbered, [&](S& s, Stored&) { s.page_size = -16; });
    refuse("page_size = 16 asks for either page_table or", Cache::Numbered,
           [&](S& s, Stored&) { s.page_table = nullptr; });
    refuse("page_size = 16 asks for either page_table or", Cache::Addressed,
           [&](S& s, Stored&) { s.v_pages = nullptr; });
    refuse("page_size = 16 asks for either page_table or", Cache::Addressed,
           [&](S& s, Stored&) { s.page_table = ints; });
    refuse("page_table_stride = 2 must be at least 3", Cache::Numbered,
           [&](S& s, Stored&) { s.page_table_stride = 2; });
    refuse("batch_invariant = 2 must be from 0 to 1", Cache::Contiguous, [](S& s, Stored&) { s.batch_invariant = 2; });
    refuse("pages = 0 must be at least 1", Cache::Numbered, [&](S& s, Stored&) { s.pages = 0; });
    refuse("pages = 5 must be 0", Cache::Addressed, [&](S& s, Stored&) { s.pages = 5; });
    refuse("pages = 5 must be 0", Cache::Contiguous, [&](S& s, Stored&) { s.pages = 5; });
    refuse("page_table[1, 1] = -1 must be from 0 to pages - 1, ", Cache::Numbered,
           [](S& s, Stored& c) { c.table[static_cast<size_t>(s.page_table_stride + 1)] = -1; });
    refuse("page_table[0, 2] = 2147483647", Cache::Numbered, [](S&, Stored& c) { c.table[2] = INT_MAX; });
    refuse("k_pages[0, 0] = ", Cache::Addressed, [](S&, Stored& c) { c.keyPages[0] = nullptr; });
    refuse("v_pages[0, 1] = 0x1 must be the address", Cache::Addressed,
           [](S&, Stored& c) { c.valuePages[1] = reinterpret_cast<void*>(uintptr_t{1}); });
    refuse("k.data = ", Cache::Addressed, [](S& s, Stored& c) { s.k.data = c.k.tensor().data; });
    refuse("k.data must not be null", Cache::Numbered, [](S& s, Stored&) { s.k.data = nullptr; });
    refuse("v.stride_batch = -1", Cache::Numbered, [](S& s, Stored&) { s.v.stride_batch = -1; });
    if (std::strcmp(cap(), "reference") != 0) {
        refuse(
            "it takes neither rows of their own lengths nor pages", Cache::Contiguous,
            [](S& s, Stored&) { s.kernel = FLASHRING_KERNEL_SIMD128; }, FLASHRING_UNSUPPORTED);
    }
    CacheCase c = smallCase(FLASHRING_FLOAT32, {40, 20}, 40);
    Stored cache(c, Cache::Contiguous, 1);
    Outcome r(c);
    const S backward = stepOf(c, cache, r, FLASHRING_KERNEL_AUTO, 0);
    CHECK(flashring_backward_step(&backward) == FLASHRING_UNSUPPORTED &&
              std::strstr(flashring_last_error(), "are for forward steps"),
          "%s", flashring_last_error());
    return cases + 1;
}

}  // namespace

// test_rows [SEEDS]
int main(int argc, char** argv) {
    sayWhatRuns();
    alarm(kSeconds);
    const uint64_t seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : (*cap() ? 8 : 24) / kThinning;
    long cases =
        whatNobodySees() + whatSomeSee() + emptyRows() + sinks() + fewerKeysThanQueries() + plainSteps() + refusals();
    if (decodes()) cases += alone() + threads();
    for (const int32_t dtype : {FLASHRING_FLOAT64, FLASHRING_FLOAT32, FLASHRING_BFLOAT16, FLASHRING_FLOAT16})
        cases += randomCases(dtype, seeds);
    return finish("rows", cases);
}
