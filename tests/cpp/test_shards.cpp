// A cache dealt over shards, on the host: appended shard by shard, each shard's state merged with the others', against
// the formula over the whole, several new tokens included (vLLM 47181); and refusals.
#include <functional>

#include "cache_case.h"

namespace {

// The pages of one shard, by number or by address, in an order of their own.
struct Shard {
    Buffer k, v;
    std::vector<int32_t> table;
    std::vector<void*> keyPages, valuePages;
    int64_t stride, pages;
    bool addressed;

    Shard(const CacheCase& c, int64_t shards, std::mt19937_64& random, bool byAddress)
        : stride((c.pagesOfRow() + shards - 1) / shards), pages(c.batch * stride), addressed(byAddress) {
        k = Buffer(c.dtype, pages, c.pageSize, c.keyHeads, c.headDim, c.order);
        v = Buffer(c.dtype, pages, c.pageSize, c.keyHeads, c.valueDim, c.order);
        table.resize(static_cast<size_t>(pages));
        std::iota(table.begin(), table.end(), 0);
        std::shuffle(table.begin(), table.end(), random);
        for (const int32_t page : table) {
            keyPages.push_back(pageOf(k, page, c.dtype));
            valuePages.push_back(pageOf(v, page, c.dtype));
        }
    }

    template <class Struct>
    void setOn(Struct& raw, const CacheCase& c, int64_t shard, int64_t shards) {
        raw.k = k.tensor();
        raw.v = v.tensor();
        raw.kv_len = stride * c.pageSize;
        raw.page_size = c.pageSize;
        raw.page_table_stride = stride;
        raw.shard = shard;
        raw.shards = shards;
        if (addressed) {
            raw.k.data = raw.v.data = nullptr;
            raw.k_pages = keyPages.data();
            raw.v_pages = valuePages.data();
        } else {
            raw.pages = pages;
            raw.page_table = table.data();
        }
    }
};

// Brings a shard what is its own of all rows, in two calls, of which the second begins where the first has ended.
void fill(Shard& cache, CacheCase& c, int64_t shard, int64_t shards) {
    std::vector<int32_t> held(static_cast<size_t>(c.batch), 0), rest(c.lengths);
    const auto append = [&](int64_t first, std::vector<int32_t> tokens) {
        flashring_append_args args{};
        args.size = sizeof args;
        args.device = FLASHRING_HOST;
        args.dtype = c.dtype;
        args.batch = c.batch;
        args.new_len = *std::max_element(tokens.begin(), tokens.end());
        args.kv_heads = c.keyHeads;
        args.head_dim = c.headDim;
        args.value_dim = c.valueDim;
        args.new_k = c.k.tensor();
        args.new_v = c.v.tensor();
        for (flashring_tensor* from : {&args.new_k, &args.new_v}) {
            const int64_t skipped = first * from->stride_seq * static_cast<int64_t>(sizeOf(c.dtype));
            from->data = static_cast<char*>(from->data) + skipped;
        }
        args.kv_lengths = args.lengths_after = held.data();
        args.new_lengths = tokens.data();
        cache.setOn(args, c, shard, shards);
        CHECK(flashring_append(&args) == FLASHRING_OK, "%s", flashring_last_error());
    };
    std::vector<int32_t> first(rest);
    const int32_t least = *std::min_element(rest.begin(), rest.end());
    std::fill(first.begin(), first.end(), least / 2);
    append(0, first);
    for (int32_t& tokens : rest) tokens -= least / 2;
    append(least / 2, rest);
    CHECK(held == c.lengths, "%s: other lengths", c.describe().c_str());
}

long merged() {
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_FLOAT64, FLASHRING_FLOAT32, FLASHRING_BFLOAT16, FLASHRING_FLOAT16})
        for (int n = 0; n < 20; ++n) {
            std::mt19937_64 random(static_cast<uint64_t>(++cases));
            CacheCase c = drawCacheCase(random, dtype, n < 18 ? 300 : 2100);
            c.hide(0);  // appended too
            if (n % 2) drawScores(c, random);
            const int64_t shards = pick(random, 1, 4), width = c.valueDim + 1, rows = c.batch * c.queries * c.heads();
            const int64_t ofSinks = pick(random, 0, shards - 1);
            Buffer states(accType(dtype), shards * c.batch, c.queries, c.heads(), width, Order::BSHD);
            const int64_t size = static_cast<int64_t>(sizeOf(accType(dtype))), stride = rows * width;
            const auto stateOf = [&](int64_t s, int64_t column) {
                flashring_tensor tensor = states.tensor();
                tensor.data = static_cast<char*>(tensor.data) + (s * stride + column) * size;
                return tensor;
            };
            for (int64_t s = 0; s < shards; ++s) {
                Shard cache(c, shards, random, pick(random, 0, 1) == 1);
                fill(cache, c, s, shards);
                Outcome unused(c);
                Stored none(c, Cache::Contiguous, 1);
                flashring_step raw = stepOf(c, none, unused, FLASHRING_KERNEL_AUTO, 0);
                cache.setOn(raw, c, s, shards);
                if (s != ofSinks) raw.sinks = nullptr;
                raw.acc = stateOf(s, 0);
                raw.lse = stateOf(s, c.valueDim);
                int64_t bytes = 0;
                CHECK(flashring_workspace_bytes(&raw, FLASHRING_FORWARD, &bytes) == FLASHRING_OK, "%s",
                      flashring_last_error());
                raw.workspace = flashring_host_allocate(std::max(bytes, INT64_C(64)));
                raw.workspace_bytes = bytes;
                CHECK(flashring_forward_step(&raw) == FLASHRING_OK, "%s", flashring_last_error());
                flashring_host_free(raw.workspace);
            }
            Outcome actual(c);
            flashring_merge_args merge{};
            merge.size = sizeof merge;
            merge.device = FLASHRING_HOST;
            merge.dtype = dtype;
            merge.states = shards;
            merge.state_stride = stride;
            merge.batch = c.batch;
            merge.length = c.queries;
            merge.heads = c.heads();
            merge.dim = c.valueDim;
            merge.acc = stateOf(0, 0);
            merge.state_lse = stateOf(0, c.valueDim);
            merge.out = actual.out.tensor();
            merge.lse = actual.lse.tensor();
            CHECK(flashring_merge(&merge) == FLASHRING_OK, "%s", flashring_last_error());
            CHECK(actual.intact(), "%s: wrote beside", c.describe().c_str());
            const Outcome expected = oracle(c);
            const double bars[] = {1e-12, 1e-5, 3e-2, 4e-3}, tolerance = bars[dtype];
            const auto same = [&](double x, double y) { return x == y || std::fabs(x - y) <= tolerance; };
            for (int64_t b = 0; b < c.batch; ++b)
                for (int64_t i = 0; i < c.queries; ++i)
                    for (int64_t h = 0; h < c.heads(); ++h) {
                        const auto compare = [&](const char* name, double found, double wanted) {
                            CHECK(same(found, wanted), "%s, %lld shards: %s %g, not %g", c.describe().c_str(),
                                  static_cast<long long>(shards), name, found, wanted);
                        };
                        compare("lse", actual.lse.get(b, i, h, 0), expected.lse.get(b, i, h, 0));
                        for (int64_t d = 0; d < c.valueDim; ++d)
                            compare("out", actual.out.get(b, i, h, d), expected.out.get(b, i, h, d));
                    }
        }
    return cases;
}

long refusals() {
    long cases = 0;
    std::mt19937_64 random(1);
    CacheCase c = smallCase(FLASHRING_FLOAT32, {38, 20}, 40);
    Shard cache(c, 2, random, false);
    Outcome result(c);
    Stored none(c, Cache::Contiguous, 1);
    const auto refuse = [&](const char* says, const std::function<void(flashring_step&)>& spoil) {
        flashring_step raw = stepOf(c, none, result, FLASHRING_KERNEL_AUTO, FLASHRING_FINISH);
        cache.setOn(raw, c, 0, 2);
        spoil(raw);
        const int32_t status = flashring_forward_step(&raw);
        CHECK(status == FLASHRING_INVALID_ARGUMENT && std::strstr(flashring_last_error(), says),
              "\"%s\" is not in %d \"%s\"", says, status, flashring_last_error());
        ++cases;
    };
    const int32_t longer[] = {65, 20};
    refuse("shard = 2 must be from 0 to shards - 1, 1", [](flashring_step& s) { s.shard = 2; });
    refuse("shard = -1 must be", [](flashring_step& s) { s.shard = -1; });
    refuse("shards = -2 must be at least 0", [](flashring_step& s) { s.shards = -2; });
    refuse("kv_lengths must not be null", [](flashring_step& s) { s.kv_lengths = nullptr; });
    refuse("kv_lengths[0] = 65 must be from 0 to kv_len * shards, 64",
           [&](flashring_step& s) { s.kv_lengths = longer; });
    refuse("shards = 2 asks for pages", [](flashring_step& s) {
        s.page_size = s.pages = s.page_table_stride = 0;
        s.page_table = nullptr;
    });
    refuse("must be at most 1073741823", [](flashring_step& s) { s.kv_len = INT64_C(1) << 30; });
    refuse("kv_len = 31 must be a multiple of page_size = 16", [](flashring_step& s) { s.kv_len = 31; });
    refuse("kv_len = 32 must be a multiple of page_size = 48", [](flashring_step& s) { s.page_size = 48; });
    refuse("page_size = -16 must be at least 0", [](flashring_step& s) { s.page_size = -16; });
    const auto whole = [](flashring_step& s) {  // nothing but shards makes rows of it
        s.kv_lengths = s.kv_begins = s.q_lengths = s.page_table = nullptr;
        s.page_size = s.pages = s.page_table_stride = s.shard = s.shards = 0;
    };
    struct Said {
        int64_t shard, shards;
        const char* refusal;
    };
    for (const Said& said : {Said{0, 2, "shards = 2 asks for pages"},
                             {0, -2, "shards = -2 must be at least 0"},
                             {7, 0, "shard = 7 must be from 0 to shards - 1, 0"},
                             {1, 1, "shard = 1 must be from 0 to shards - 1, 0"}}) {
        refuse(said.refusal, [&](flashring_step& s) {
            whole(s);
            s.shard = said.shard;
            s.shards = said.shards;
        });
    }
    flashring_append_args args{};
    args.size = sizeof args;
    args.device = FLASHRING_HOST;
    args.dtype = c.dtype;
    args.batch = args.kv_heads = args.head_dim = args.value_dim = 1;
    args.kv_lengths = c.lengths.data();
    args.shards = 2;
    args.page_size = 24;
    args.kv_len = 40;
    CHECK(flashring_append(&args) == FLASHRING_INVALID_ARGUMENT &&
              std::strstr(flashring_last_error(), "kv_len = 40 must be a multiple of page_size = 24"),
          "\"%s\"", flashring_last_error());
    return cases + 1;
}

long mergeRefusals() {
    long cases = 0;
    using M = flashring_merge_args;
    const auto refuse = [&](const char* says, const std::function<void(M&)>& spoil) {
        double acc[4] = {1, 2, 3, 4}, lse[4] = {}, out[2] = {-7, -7}, sum = -7;
        M args{};
        args.size = sizeof args;
        args.device = FLASHRING_HOST;
        args.dtype = FLASHRING_FLOAT64;
        args.states = args.state_stride = args.dim = 2;
        args.batch = args.length = args.heads = 1;
        args.acc.data = acc;
        args.state_lse.data = lse;
        args.out.data = out;
        args.lse.data = &sum;
        spoil(args);
        const int32_t status = flashring_merge(&args);
        CHECK(status == FLASHRING_INVALID_ARGUMENT && std::strstr(flashring_last_error(), says),
              "\"%s\" is not in %d \"%s\"", says, status, flashring_last_error());
        CHECK(out[0] == -7 && out[1] == -7 && sum == -7 && acc[0] == 1 && lse[0] == 0,
              "\"%s\": a refused call wrote", says);
        ++cases;
    };
    CHECK(flashring_merge(nullptr) == FLASHRING_INVALID_ARGUMENT &&
              std::strstr(flashring_last_error(), "args must not be null"),
          "\"%s\"", flashring_last_error());
    refuse("states = 0 must be at least 1", [](M& m) { m.states = 0; });
    refuse("state_stride = -1 must be at least 0", [](M& m) { m.state_stride = -1; });
    refuse("states: 2 x 4611686018427387904 x 1 x 1 elements overflow",
           [](M& m) { m.state_stride = INT64_C(1) << 62; });
    refuse("acc.data must not be null", [](M& m) { m.acc.data = nullptr; });
    refuse("state_lse.data must not be null", [](M& m) { m.state_lse.data = nullptr; });
    refuse("out.data must not be null", [](M& m) { m.out.data = nullptr; });
    refuse("must not be acc.data", [](M& m) { m.out.data = m.acc.data; });
    refuse("must not be state_lse.data", [](M& m) { m.out.data = m.state_lse.data; });
    refuse("must not be acc.data", [](M& m) { m.lse.data = m.acc.data; });
    refuse("must not be state_lse.data", [](M& m) { m.lse.data = m.state_lse.data; });
    refuse("must not be out.data", [](M& m) { m.lse.data = m.out.data; });
    return cases + 1;
}

// A state that has seen nothing weighs nothing, whatever it holds; all of them come to nothing.
long emptyStates() {
    double acc[3][2] = {{NAN, NAN}, {1, 2}, {3, 6}}, lse[3][2] = {{-INFINITY, 0}, {0, 0}, {std::log(3), 0}};
    double out[2] = {9, 9}, sum = 9;
    flashring_merge_args merge{};
    merge.size = sizeof merge;
    merge.device = FLASHRING_HOST;
    merge.dtype = FLASHRING_FLOAT64;
    merge.states = 3;
    merge.state_stride = merge.dim = 2;
    merge.batch = merge.length = merge.heads = 1;
    merge.acc.data = acc;
    merge.state_lse.data = lse;
    merge.out.data = out;
    merge.lse.data = &sum;
    CHECK(flashring_merge(&merge) == FLASHRING_OK, "%s", flashring_last_error());
    const auto near = [](double x, double y) { return std::fabs(x - y) < 1e-15; };
    CHECK(near(out[0], 2.5) && near(out[1], 5) && near(sum, std::log(4)), "%g %g %g", out[0], out[1], sum);
    merge.states = 1;
    CHECK(flashring_merge(&merge) == FLASHRING_OK, "%s", flashring_last_error());
    CHECK(out[0] == 0 && out[1] == 0 && sum == -INFINITY, "%g %g %g", out[0], out[1], sum);
    return 2;
}

}  // namespace

int main() { return finish("shards", merged() + refusals() + mergeRefusals() + emptyStates()); }
