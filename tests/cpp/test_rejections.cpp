// Bad arguments sent raw through the C ABI: each gets a status and a message that names the field, and nothing crashes.
#include <climits>
#include <cstddef>
#include <functional>
#include <limits>

#include "attention_case.h"
#include "caps.h"

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A valid step with everything set, forward, delta and backward.
struct Fixture {
    Case c{};
    std::unique_ptr<Results> results{};
    std::unique_ptr<Step> step{};
    std::vector<int64_t> cuSeqlens{0, 3, 6}, prefixes{1, 2};
    std::vector<flashring_range> ranges{{0, 2, 1}, {2, 4, 1}};
    float heads[4] = {}, dsinks[4] = {};
    std::vector<char> workspace = std::vector<char>(65536 + 64);

    Fixture() {
        std::mt19937_64 random(1);
        c.dtype = FLASHRING_FLOAT32;
        c.shape = {2, 6, 6, 4, 2, 8, 8};
        c.qRanges = c.kvRanges = {{0, 6, 1}};
        c.draw(random);
        results = std::make_unique<Results>(c);
        results->lse.fill(0);
        results->delta.fill(0);
        step = std::make_unique<Step>(c, *results, FLASHRING_KERNEL_AUTO, 0, 6);
        step->raw.mask = {-1, 0, cuSeqlens.data(), 2, prefixes.data()};
        step->raw.q_positions = step->raw.kv_positions = {ranges.data(), 2};
        step->raw.flags = FLASHRING_FINISH;
        const auto base = reinterpret_cast<uintptr_t>(workspace.data());
        step->raw.workspace = workspace.data() + (64 - base % 64) % 64;
        step->raw.workspace_bytes = 65536;
    }
};

using Call = int32_t (*)(const flashring_step*);

struct Bad {
    const char* says;  // part of the message
    int32_t status;
    std::vector<Call> calls;
    std::function<void(flashring_step&, Fixture&)> spoil;
};

void* shifted(void* address, int64_t bytes) { return static_cast<char*>(address) + bytes; }

std::vector<Bad> table() {
    const Call forward = flashring_forward_step, backward = flashring_backward_step, delta = flashring_delta;
    const std::vector<Call> all = {forward, delta, backward}, attention = {forward, backward};
    constexpr int32_t invalid = FLASHRING_INVALID_ARGUMENT, unsupported = FLASHRING_UNSUPPORTED;
    using S = flashring_step;
    using F = Fixture;
    return {
        {"size = 0", invalid, all, [](S& s, F&) { s.size = 0; }},
        {"size = 448 ", invalid, all, [](S& s, F&) { s.size = 448; }},  // less than the first release had
        {"size = ", invalid, all, [](S& s, F&) { s.size = sizeof s - 4; }},
        {"size = 4294967295 ", invalid, all, [](S& s, F&) { s.size = UINT32_MAX; }},
        {"device = -2", invalid, all, [](S& s, F&) { s.device = -2; }},
        {"device = ", invalid, all, [](S& s, F&) { s.device = INT_MIN; }},
        {"device = 4096", unsupported, all, [](S& s, F&) { s.device = 4096; }},
        // What kernels on GPUs serve is known to libraries without CUDA, too.
        {"device = 4096", unsupported, attention,
         [](S& s, F&) { s.device = 4096; s.head_dim = s.value_dim = 512; }},
        {"device = 4096", unsupported, {forward},
         [](S& s, F&) { s.device = 4096; s.head_dim = 576; s.value_dim = 512; }},
        {"device = 4096", unsupported, {forward},
         [](S& s, F&) { s.device = 4096; s.dtype = FLASHRING_BFLOAT16; s.kernel = FLASHRING_KERNEL_MMA;
             s.head_dim = s.value_dim = 512; }},
        {"device = 4096", unsupported, {forward},
         [](S& s, F&) { s.device = 4096; s.dtype = FLASHRING_BFLOAT16; s.kernel = FLASHRING_KERNEL_WGMMA;
             s.softcap = 3; }},
        {"dtype = -1", invalid, all, [](S& s, F&) { s.dtype = -1; }},
        {"dtype = 4", invalid, all, [](S& s, F&) { s.dtype = 4; }},
        {"kernel = -1", invalid, all, [](S& s, F&) { s.kernel = -1; }},
        {"kernel = 10", invalid, all, [](S& s, F&) { s.kernel = FLASHRING_KERNEL_DECODE + 1; }},
        {"(amx), dtype = float32", unsupported, attention, [](S& s, F&) { s.kernel = FLASHRING_KERNEL_AMX; }},
        {"(avx512), dtype = float32, head_dim = 8, value_dim = 8, ", unsupported, attention,
         [](S& s, F&) { s.kernel = FLASHRING_KERNEL_AVX512; s.device = 0; }},
        {"flags = 0x20", invalid, all, [](S& s, F&) { s.flags = 32; }},
        {"(amx), dtype = bfloat16, head_dim = 8, value_dim = 8, softcap, alibi_slopes, deterministic backward",
         unsupported, {backward},
         [](S& s, F& f) { s.kernel = FLASHRING_KERNEL_AMX; s.dtype = FLASHRING_BFLOAT16;
             s.softcap = 3; s.alibi_slopes = f.heads; }},
        {"softcap = -1 must be 0, or from 1e-37 to 1e+37", invalid, attention, [](S& s, F&) { s.softcap = -1; }},
        {"softcap = nan", invalid, attention, [](S& s, F&) { s.softcap = kNaN; }},
        {"softcap = inf", invalid, attention, [](S& s, F&) { s.softcap = INFINITY; }},
        {"softcap = 1e-300", invalid, attention, [](S& s, F&) { s.softcap = 1e-300; }},
        {"sinks[2] = nan must be finite, or -inf for none", invalid, {forward},
         [](S& s, F& f) { s.sinks = f.heads; f.heads[2] = NAN; }},
        {"sinks[3] = inf", invalid, {forward}, [](S& s, F& f) { s.sinks = f.heads; f.heads[3] = INFINITY; }},
        {"sinks[0] = nan", invalid, {delta},
         [](S& s, F& f) { s.sinks = f.heads; s.dsinks = f.dsinks; f.heads[0] = NAN; }},
        {"sinks = ", invalid, {forward}, [](S& s, F& f) { s.sinks = shifted(f.heads, 2); }},
        {"sinks must not be null where dsinks is given", invalid, {delta}, [](S& s, F& f) { s.dsinks = f.dsinks; }},
        {"dsinks = ", invalid, {delta}, [](S& s, F& f) { s.sinks = f.heads; s.dsinks = f.heads; }},
        {"dsinks = ", invalid, {delta}, [](S& s, F& f) { s.sinks = f.heads; s.dsinks = shifted(f.dsinks, 1); }},
        {"lse.data", invalid, {delta},
         [](S& s, F& f) { s.sinks = f.heads; s.dsinks = f.dsinks; s.lse.data = nullptr; }},
        {"delta.data", invalid, {delta},
         [](S& s, F& f) { s.sinks = f.heads; s.dsinks = f.dsinks; s.lse.data = s.delta.data; }},
        {"alibi_slopes[1] = -0.5 must be finite and at least 0", invalid, attention,
         [](S& s, F& f) { s.alibi_slopes = f.heads; f.heads[1] = -0.5f; }},
        {"alibi_slopes[0] = nan", invalid, attention, [](S& s, F& f) { s.alibi_slopes = f.heads; f.heads[0] = NAN; }},
        {"alibi_slopes[3] = inf", invalid, attention,
         [](S& s, F& f) { s.alibi_slopes = f.heads; f.heads[3] = INFINITY; }},
        {"alibi_slopes = ", invalid, attention, [](S& s, F& f) { s.alibi_slopes = shifted(f.heads, 1); }},
        {"flags = ", invalid, all, [](S& s, F&) { s.flags = -1; }},
        {"deterministic = 2", invalid, all, [](S& s, F&) { s.deterministic = 2; }},
        {"batch = 0", invalid, all, [](S& s, F&) { s.batch = 0; }},
        {"batch = -1", invalid, all, [](S& s, F&) { s.batch = -1; }},
        {"q_len = -1", invalid, all, [](S& s, F&) { s.q_len = -1; }},
        {"kv_len = -5", invalid, all, [](S& s, F&) { s.kv_len = -5; }},
        {"q_heads = 0", invalid, all, [](S& s, F&) { s.q_heads = 0; }},
        {"kv_heads = 0", invalid, all, [](S& s, F&) { s.kv_heads = 0; }},
        {"q_heads = 4", invalid, all, [](S& s, F&) { s.kv_heads = 3; }},
        {"q_heads = 4", invalid, all, [](S& s, F&) { s.kv_heads = 8; }},
        {"head_dim = 0", invalid, all, [](S& s, F&) { s.head_dim = 0; }},
        {"value_dim = -8", invalid, all, [](S& s, F&) { s.value_dim = -8; }},
        {"head_dim = 513", unsupported, attention, [](S& s, F&) { s.head_dim = 513; }},
        {"value_dim = 513", unsupported, attention, [](S& s, F&) { s.value_dim = 513; }},
        {"head_dim = 576, value_dim = 504: kernels serve up to 512, and forward 576, 512", unsupported, attention,
         [](S& s, F&) { s.head_dim = 576; s.value_dim = 504; }},
        {"value_dim = 1024", unsupported, attention, [](S& s, F&) { s.value_dim = 1024; }},
        {"overflow", invalid, all, [](S& s, F&) { s.batch = INT64_MAX; }},
        {"overflow", invalid, all, [](S& s, F&) { s.q_len = INT64_MAX; }},
        {"overflow", invalid, all, [](S& s, F&) { s.kv_len = INT64_MAX; }},
        {"overflow", invalid, all, [](S& s, F&) { s.q_heads = s.kv_heads = INT64_MAX; }},
        {"overflow", invalid, all, [](S& s, F&) { s.batch = INT64_C(1) << 32; s.q_len = INT64_C(1) << 32; }},
        {"softmax_scale = 0", invalid, attention, [](S& s, F&) { s.softmax_scale = 0; }},
        {"softmax_scale = -1", invalid, attention, [](S& s, F&) { s.softmax_scale = -1; }},
        {"softmax_scale = nan", invalid, attention, [](S& s, F&) { s.softmax_scale = kNaN; }},
        {"softmax_scale = 1e+300", invalid, attention, [](S& s, F&) { s.softmax_scale = 1e300; }},
        {"softmax_scale = 1e-300", invalid, attention, [](S& s, F&) { s.softmax_scale = 1e-300; }},
        {"softmax_scale = inf", invalid, attention, [](S& s, F&) { s.softmax_scale = INFINITY; }},
        {"stream", invalid, all, [](S& s, F&) { s.stream = &s; }},
        {"q_positions.count = -1", invalid, attention, [](S& s, F&) { s.q_positions.count = -1; }},
        {"q_positions.ranges", invalid, attention, [](S& s, F&) { s.q_positions.ranges = nullptr; }},
        {"kv_positions.ranges", invalid, attention, [](S& s, F&) { s.kv_positions.ranges = nullptr; }},
        {"q_positions: the lengths sum to 2", invalid, attention, [](S& s, F&) { s.q_positions.count = 1; }},
        {"kv_positions: the lengths sum to 0", invalid, attention, [](S& s, F&) { s.kv_positions = {}; }},
        {"ranges[0].start = -1", invalid, attention, [](S&, F& f) { f.ranges[0].start = -1; }},
        {"ranges[1].length = -4", invalid, attention, [](S&, F& f) { f.ranges[1].length = -4; }},
        {"ranges[0].stride = 0", invalid, attention, [](S&, F& f) { f.ranges[0].stride = 0; }},
        {"ranges[1].stride = -1", invalid, attention, [](S&, F& f) { f.ranges[1].stride = -1; }},
        {"ranges[1].start = 1", invalid, attention, [](S&, F& f) { f.ranges[1].start = 1; }},
        {"ranges[1].start = 2", invalid, attention, [](S&, F& f) { f.ranges[0].stride = 2; }},
        {"2^61", invalid, attention, [](S&, F& f) { f.ranges[1].start = INT64_MAX; }},
        {"2^61", invalid, attention, [](S&, F& f) { f.ranges[1].stride = INT64_MAX; }},
        {"2^61", invalid, attention, [](S&, F& f) { f.ranges[1].length = INT64_MAX; }},
        {"mask.documents = -1", invalid, attention, [](S& s, F&) { s.mask.documents = -1; }},
        {"mask.documents = 2", invalid, attention, [](S& s, F&) { s.mask.cu_seqlens = nullptr; }},
        {"mask.cu_seqlens[0] = 1", invalid, attention, [](S&, F& f) { f.cuSeqlens[0] = 1; }},
        {"mask.cu_seqlens[2] = 2", invalid, attention, [](S&, F& f) { f.cuSeqlens[2] = 2; }},
        {"mask.cu_seqlens[1] = -3", invalid, attention, [](S&, F& f) { f.cuSeqlens[1] = -3; }},
        {"mask.cu_seqlens = ", invalid, attention,
         [](S& s, F& f) { s.mask.cu_seqlens = static_cast<int64_t*>(shifted(f.cuSeqlens.data(), 4)); }},
        {"q_positions = ", invalid, attention,
         [](S& s, F& f) { s.q_positions.ranges = static_cast<flashring_range*>(shifted(f.ranges.data(), 1)); }},
        {"mask.prefix_lengths[1] = -2", invalid, attention, [](S&, F& f) { f.prefixes[1] = -2; }},
        {"q.data", invalid, attention, [](S& s, F&) { s.q.data = nullptr; }},
        {"k.data", invalid, attention, [](S& s, F&) { s.k.data = nullptr; }},
        {"v.data", invalid, attention, [](S& s, F&) { s.v.data = nullptr; }},
        {"lse.data", invalid, attention, [](S& s, F&) { s.lse.data = nullptr; }},
        {"out.data", invalid, {forward, delta}, [](S& s, F&) { s.out.data = nullptr; }},
        {"dout.data", invalid, {delta, backward}, [](S& s, F&) { s.dout.data = nullptr; }},
        {"delta.data", invalid, {delta, backward}, [](S& s, F&) { s.delta.data = nullptr; }},
        {"acc.data", invalid, {forward}, [](S& s, F&) { s.acc.data = nullptr; s.flags = 0; }},
        {"acc.data", invalid, {forward},
         [](S& s, F&) { s.acc.data = nullptr; s.flags = FLASHRING_FINISH | FLASHRING_RESUME; }},
        {"dq.data", invalid, {backward}, [](S& s, F&) { s.dq.data = nullptr; }},
        {"dk.data", invalid, {backward}, [](S& s, F&) { s.dk.data = nullptr; }},
        {"dv.data", invalid, {backward}, [](S& s, F&) { s.dv.data = nullptr; }},
        {"q.data", invalid, attention, [](S& s, F&) { s.q.data = shifted(s.q.data, 1); }},
        {"lse.data", invalid, attention, [](S& s, F&) { s.lse.data = shifted(s.lse.data, 2); }},
        {"q.stride_seq = -32", invalid, attention, [](S& s, F&) { s.q.stride_seq = -32; }},
        {"k.stride_batch = ", invalid, attention, [](S& s, F&) { s.k.stride_batch = INT64_MIN; }},
        {"v.stride_head = ", invalid, attention, [](S& s, F&) { s.v.stride_head = INT64_MAX; }},
        {"q.stride_batch = ", invalid, attention, [](S& s, F&) { s.q.stride_batch = INT64_MAX / 4; }},
        {"out.stride_head = 4", invalid, {forward}, [](S& s, F&) { s.out.stride_head = 4; }},
        {"out.stride_seq = 0", invalid, {forward}, [](S& s, F&) { s.out.stride_seq = 0; }},
        {"acc.stride_batch = 8", invalid, {forward}, [](S& s, F&) { s.acc.stride_batch = 8; }},
        {"lse.stride_head = 0", invalid, {forward}, [](S& s, F&) { s.lse.stride_head = 0; }},
        {"dq.stride_seq = 9", invalid, {backward}, [](S& s, F&) { s.dq.stride_seq = 9; }},
        {"dk.stride_head = 7", invalid, {backward}, [](S& s, F&) { s.dk.stride_head = 7; }},
        {"dv.stride_batch = 0", invalid, {backward}, [](S& s, F&) { s.dv.stride_batch = 0; }},
        {"delta.stride_seq = 1", invalid, {delta}, [](S& s, F&) { s.delta.stride_seq = 1; }},
        {"out.data", invalid, {forward}, [](S& s, F&) { s.out.data = s.q.data; }},
        {"acc.data", invalid, {forward}, [](S& s, F&) { s.acc.data = s.v.data; }},
        {"acc.data", invalid, {forward},
         [](S& s, F&) { s.acc.data = s.out.data; s.acc.stride_head += 8; s.acc.stride_seq += 64;
             s.acc.stride_batch += 1024; }},
        {"lse.data", invalid, {forward}, [](S& s, F&) { s.lse.data = s.k.data; }},
        {"dq.data", invalid, {backward}, [](S& s, F&) { s.dq.data = s.dout.data; }},
        {"dk.data", invalid, {backward}, [](S& s, F&) { s.dk.data = s.dv.data; }},
        {"workspace must not be null", invalid, attention, [](S& s, F&) { s.workspace = nullptr; }},
        {"workspace = ", invalid, attention, [](S& s, F&) { s.workspace = shifted(s.workspace, 8); }},
        {"workspace_bytes = 64", invalid, attention, [](S& s, F&) { s.workspace_bytes = 64; }},
        {"workspace_bytes = -1", invalid, attention, [](S& s, F&) { s.workspace_bytes = -1; }},
    };
}

long rejectSteps() {
    long cases = 0;
    for (const Bad& bad : table()) {
        for (const Call call : bad.calls) {
            Fixture fixture;
            flashring_step& raw = fixture.step->raw;
            CHECK(call(&raw) == FLASHRING_OK, "the step before it is spoilt: %s", flashring_last_error());
            bad.spoil(raw, fixture);
            const int64_t before = flashring_call_count();
            const int32_t status = call(&raw);
            CHECK(status == bad.status, "\"%s\": status %d instead of %d", bad.says, status, bad.status);
            CHECK(std::strstr(flashring_last_error(), bad.says), "\"%s\" is not in the message \"%s\"", bad.says,
                  flashring_last_error());
            CHECK(flashring_call_count() == before + 1, "a refused call is not counted");
            ++cases;
        }
    }
    return cases;
}

// A struct as a program of a later release would have it: of `fields` numbers more than this one knows.
template <class Struct, int fields>
struct Longer {
    Struct known{};
    int64_t later[fields] = {};
};

// Programs of other releases: what they lack is zero, what they have beyond this one has to be.
long otherReleases() {
    long cases = 0;
    const auto says = [](int32_t status, const char* part) {
        CHECK(status == FLASHRING_INVALID_ARGUMENT, "\"%s\": status %d", part, status);
        CHECK(std::strstr(flashring_last_error(), part), "\"%s\" is not in \"%s\"", part, flashring_last_error());
    };
    for (const Call call : {flashring_forward_step, flashring_delta, flashring_backward_step}) {
        Fixture fixture, again;
        Longer<flashring_step, 3> longer;
        longer.known = fixture.step->raw;
        longer.known.size = sizeof longer;
        CHECK(call(&longer.known) == FLASHRING_OK, "a later release's step: %s", flashring_last_error());
        CHECK(longer.known.size == sizeof longer, "an argument was written to");

        // The first release's ended before lse_low: what lies behind it is no field of this struct.
        flashring_step& older = again.step->raw;
        older.size = offsetof(flashring_step, lse_low);
        older.lse_low = {shifted(older.q.data, 1), -1, -1, -1};
        CHECK(call(&older) == FLASHRING_OK, "an older release's step: %s", flashring_last_error());
        const Results &first = *again.results, &later = *fixture.results;
        CHECK(first.out.sameBits(later.out) && first.lse.sameBits(later.lse) && first.delta.sameBits(later.delta) &&
                  first.dq.sameBits(later.dq),
              "releases differ in what they compute");
        // That of the second ended before softcap.
        older.size = offsetof(flashring_step, softcap);
        older.lse_low = {};
        older.softcap = kNaN;
        CHECK(call(&older) == FLASHRING_OK, "the second release's step: %s", flashring_last_error());
        older.size = sizeof older;
        older.softcap = 0;
        older.lse_low = {shifted(older.q.data, 1), -1, -1, -1};
        if (call == flashring_forward_step) {
            CHECK(call(&older) == FLASHRING_INVALID_ARGUMENT, "lse_low is not looked at");
        }

        for (const int field : {0, 2}) {
            longer.later[0] = longer.later[1] = longer.later[2] = 0;
            longer.later[field] = INT64_C(1) << 40;
            const int64_t place = static_cast<int64_t>(sizeof longer.known) + field * 8 + 5;
            says(call(&longer.known), ("flashring_step: byte " + std::to_string(place) + " = 1 must be 0").c_str());
        }
        cases += 6;
    }

    float numbers[4] = {1, 2, 3, 4}, sum[4] = {};
    Longer<flashring_combine_args, 1> args;
    args.known = {sizeof args, FLASHRING_HOST, FLASHRING_FLOAT32, FLASHRING_FLOAT32, FLASHRING_FLOAT32, 0, 1, 2, 1, 2,
                  {sum, 4, 2, 2}, {numbers, 4, 2, 2}, {numbers, 4, 2, 2}, nullptr};
    CHECK(flashring_combine(&args.known) == FLASHRING_OK && sum[3] == 8, "a later combine: %s", flashring_last_error());
    args.later[0] = -1;
    says(flashring_combine(&args.known), "flashring_combine_args: byte ");

    Longer<flashring_capability, 2> row;
    row.known.size = sizeof row;
    row.later[0] = row.later[1] = -1;
    CHECK(flashring_capability_get(0, &row.known) == FLASHRING_OK, "a later release's row: %s", flashring_last_error());
    CHECK(row.known.name && row.known.size == sizeof row, "a later release's row is not filled in");
    CHECK(row.later[0] == 0 && row.later[1] == 0, "what this release does not know of a row is not 0");
    row.known.size = offsetof(flashring_capability, scores);
    row.known.scores = -1;
    CHECK(flashring_capability_get(0, &row.known) == FLASHRING_OK,
          "an older release's row: %s", flashring_last_error());
    CHECK(row.known.scores == -1, "wrote past an older release's row");
    return cases + 4;
}

// The table of types by the definition of the formats, and nothing for numbers that are none.
long checkDtypes() {
    const struct {
        const char* name;
        int32_t bytes, accumulator;
    } expected[] = {{"float64", 8, 0}, {"float32", 4, 1}, {"bfloat16", 2, 1}, {"float16", 2, 1}};
    CHECK(flashring_dtype_count() == 4, "%d types", flashring_dtype_count());
    for (int32_t dtype = 0; dtype < 4; ++dtype) {
        const char* const name = flashring_dtype_name(dtype);
        const int32_t bytes = flashring_dtype_bytes(dtype), accumulator = flashring_dtype_accumulator(dtype);
        CHECK(std::strcmp(name, expected[dtype].name) == 0 && bytes == expected[dtype].bytes &&
                  accumulator == expected[dtype].accumulator,
              "type %d is %s of %d bytes, summed in %d", dtype, name, bytes, accumulator);
    }
    for (const int32_t none : {-1, 4, INT_MIN, INT_MAX}) {
        CHECK(!flashring_dtype_name(none), "type %d has a name", none);
        CHECK(flashring_dtype_bytes(none) == 0 && flashring_dtype_accumulator(none) == -1, "type %d has a size", none);
    }
    return 8;
}

long rejectOthers() {
    Fixture fixture;
    const flashring_step& step = fixture.step->raw;
    int64_t bytes;
    int32_t row;
    float numbers[64] = {};
    const auto expect = [](int32_t status, const char* says) {
        CHECK(status == FLASHRING_INVALID_ARGUMENT, "\"%s\": status %d", says, status);
        CHECK(std::strstr(flashring_last_error(), says), "\"%s\" is not in the message \"%s\"", says,
              flashring_last_error());
    };
    expect(flashring_forward_step(nullptr), "step must not be null");
    expect(flashring_delta(nullptr), "step must not be null");
    expect(flashring_backward_step(nullptr), "step must not be null");
    expect(flashring_forward_step(reinterpret_cast<const flashring_step*>(reinterpret_cast<const char*>(&step) + 4)),
           "aligned");
    expect(flashring_workspace_bytes(nullptr, 0, &bytes), "step must not be null");
    expect(flashring_workspace_bytes(&step, 2, &bytes), "direction = 2");
    expect(flashring_workspace_bytes(&step, 0, nullptr), "bytes must not be null");
    expect(flashring_select(&step, -1, &row), "direction = -1");
    expect(flashring_select(&step, 1, nullptr), "row must not be null");
    expect(flashring_set_threads(0), "threads = 0");
    expect(flashring_combine(nullptr), "args must not be null");
    expect(flashring_capability_get(0, nullptr), "capability must not be null");
    flashring_capability capability{};
    expect(flashring_capability_get(0, &capability), "size = 0");
    capability.size = sizeof capability;
    expect(flashring_capability_get(-1, &capability), "row = -1");
    expect(flashring_capability_get(flashring_capability_count(), &capability), "row = ");
    long cases = 15;

    const auto combine = [&](const char* says, const std::function<void(flashring_combine_args&)>& spoil) {
        flashring_combine_args args{};
        args.size = sizeof args;
        args.device = FLASHRING_HOST;
        args.dst_dtype = args.a_dtype = args.b_dtype = FLASHRING_FLOAT32;
        args.batch = args.length = args.heads = 2;
        args.dim = 2;
        args.dst = {numbers, 8, 4, 2};
        args.a = {numbers + 16, 8, 4, 2};
        args.b = {numbers + 32, 8, 4, 2};
        CHECK(flashring_combine(&args) == FLASHRING_OK, "%s", flashring_last_error());
        spoil(args);
        expect(flashring_combine(&args), says);
        ++cases;
    };
    using A = flashring_combine_args;
    combine("size = 1", [](A& a) { a.size = 1; });
    combine("device = -7", [](A& a) { a.device = -7; });
    combine("dst_dtype = 9", [](A& a) { a.dst_dtype = 9; });
    combine("a_dtype = -1", [](A& a) { a.a_dtype = -1; });
    combine("b_dtype = 4", [](A& a) { a.b_dtype = 4; });
    combine("reserved = 1", [](A& a) { a.reserved = 1; });
    combine("batch = -1", [](A& a) { a.batch = -1; });
    combine("dim = -1", [](A& a) { a.dim = -1; });
    combine("dst.data", [](A& a) { a.dst.data = nullptr; });
    combine("a.data", [](A& a) { a.a.data = nullptr; });
    combine("dst.stride_seq = 1", [](A& a) { a.dst.stride_seq = 1; });
    combine("b.stride_head = -2", [](A& a) { a.b.stride_head = -2; });
    combine("overflow", [](A& a) { a.length = INT64_MAX; });
    combine("dst.data", [](A& a) { a.a.data = a.dst.data; a.a_dtype = FLASHRING_FLOAT16; });
    combine("stream", [](A& a) { a.stream = &a; });
    CHECK(flashring_host_allocate(-1) == nullptr && flashring_host_allocate(INT64_MAX) == nullptr,
          "memory that cannot be");
    flashring_host_free(nullptr);
    return cases;
}

}  // namespace

int main() {
    CHECK(flashring_last_error()[0] == '\0', "a message before any failure");
    sayWhatRuns();
    const long cases = rejectSteps() + rejectOthers() + otherReleases() + checkDtypes();
    return finish("rejections", cases);
}
