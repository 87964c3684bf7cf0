// Hard numbers, for every kernel this machine can run: huge and equal scores, rising maxima, denormals, queries that
// see nothing, and NaN or infinity, which must stay with whom may attend to them.
#include <functional>
#include <utility>

#include "caps.h"
#include "oracle.h"

namespace {

Case plain(int32_t dtype, int64_t length, int64_t dim, std::mt19937_64& random) {
    Case c;
    c.dtype = dtype;
    c.shape = {1, length, length, 2, 1, dim, dim};
    c.qRanges = c.kvRanges = {{0, length, 1}};
    c.mask.right = 0;
    c.scale = 1 / std::sqrt(static_cast<double>(dim));
    c.draw(random);
    return c;
}

void fill(Buffer& buffer, const std::function<double(int64_t s, int64_t d)>& value) {
    buffer.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) { buffer.set(b, s, h, d, value(s, d)); });
}

void compareForward(const flashring_capability& row, const char* what, Case& c, double bar,
                    std::vector<int64_t> splits = {}) {
    const Results expected = oracle(c);
    Results actual(c);
    run(c, actual, row.kernel, std::move(splits));
    const std::string context = std::string(row.name) + " " + nameOf(row.dtype) + " " + what;
    checkClose(context, "out", actual.out, expected.out, std::max(bar, barsOf(row).out));
    checkClose(context, "lse", actual.lse, expected.lse, std::max(bar, barsOf(row).state));
    for (const Buffer* gradient : {&actual.dq, &actual.dk, &actual.dv}) {
        gradient->forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            CHECK(std::isfinite(gradient->get(b, s, h, d)), "%s: a gradient is not finite", context.c_str());
        });
    }
}

void hugeScores(const flashring_capability& row, std::mt19937_64& random) {
    Case c = plain(row.dtype, 150, 16, random);
    // small integers: products are exact, scores reach +-1e4, and 1e4 * log2(e) rounds at about 1e-3 in float32
    c.scale = 10;
    fill(c.q, [&](int64_t, int64_t) { return static_cast<double>(pick(random, -8, 8)); });
    fill(c.k, [&](int64_t, int64_t) { return static_cast<double>(pick(random, -8, 8)); });
    compareForward(row, "huge scores", c, row.dtype == FLASHRING_FLOAT64 ? 1e-10 : 2e-3);
}

void equalScores(const flashring_capability& row, std::mt19937_64& random) {
    Case c = plain(row.dtype, 150, 16, random);
    c.q.fill(0);
    compareForward(row, "equal scores", c, 0);
}

void risingMaxima(const flashring_capability& row, std::mt19937_64& random) {
    Case c = plain(row.dtype, 200, 8, random);
    c.mask.right = -1;
    c.scale = 1;
    fill(c.q, [](int64_t, int64_t d) { return d == 0 ? 1.0 : 0.0; });
    fill(c.k, [](int64_t s, int64_t d) { return d == 0 ? static_cast<double>(s / 2) : 0.0; });
    compareForward(row, "rising maxima", c, row.dtype == FLASHRING_FLOAT64 ? 0 : 1e-4, {1, 2, 70, 133});
}

void denormals(const flashring_capability& row, std::mt19937_64& random) {
    Case c = plain(row.dtype, 100, 16, random);
    const double tiny = row.dtype == FLASHRING_FLOAT64 ? 1e-310 : row.dtype == FLASHRING_FLOAT16 ? 1e-7 : 1e-40;
    for (Buffer* buffer : {&c.q, &c.k}) {
        fill(*buffer, [&](int64_t s, int64_t d) { return (s + d) % 3 ? tiny : -tiny; });
    }
    compareForward(row, "denormals", c, 0);
}

void nothingVisible(const flashring_capability& row, std::mt19937_64& random) {
    Case c = plain(row.dtype, 150, 24, random);
    c.mask.cuSeqlens = {0, 70, 100};  // positions from 100 on belong to no document
    Results r(c);
    run(c, r, row.kernel, {30, 30, 140});
    const auto allAre = [&](const char* name, const Buffer& buffer, double value) {
        buffer.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            CHECK(s < 100 || buffer.get(b, s, h, d) == value, "%s %s: %s is %g where nothing is visible", row.name,
                  nameOf(row.dtype), name, buffer.get(b, s, h, d));
        });
    };
    allAre("out", r.out, 0);
    allAre("acc", r.acc, 0);
    allAre("lse", r.lse, -INFINITY);
    allAre("dq", r.dq, 0);
    allAre("dk", r.dk, 0);
    allAre("dv", r.dv, 0);
}

// Queries from the second tile on see nothing, in a step of enough heads and keys that a task holds several tiles.
void nothingVisibleInManyTiles(const flashring_capability& row, std::mt19937_64& random) {
    Case c = plain(row.dtype, 512, 8, random);
    c.shape = {1, 512, 512, 16, 16, 8, 8};
    c.mask.cuSeqlens = {0, 64};
    c.draw(random);
    Results r(c);
    run(c, r, row.kernel);
    r.dq.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
        CHECK(s < 64 || r.dq.get(b, s, h, d) == 0, "%s %s: dq is %g in row %lld, which sees nothing", row.name,
              nameOf(row.dtype), r.dq.get(b, s, h, d), static_cast<long long>(s));
    });
}

// What a step with NaN everywhere left in a thread's scratch reaches nobody in the next one, whose last tiles are not
// full.
void nothingStale(const flashring_capability& row, std::mt19937_64& random) {
    const int32_t threads = flashring_threads();
    flashring_set_threads(1);
    for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{65, 64}, {64, 65}, {3, 128}, {131, 7}}) {
        Case full = plain(row.dtype, 128, 24, random);
        for (Buffer* operand : {&full.q, &full.k, &full.v, &full.dout}) operand->fill(NAN);
        Results poisoned(full);
        run(full, poisoned, row.kernel);
        Case c = plain(row.dtype, queries, 24, random);
        c.shape.kvLen = keys;
        c.kvRanges = {{0, keys, 1}};
        c.mask.right = -1;
        c.draw(random);
        compareForward(row, "stale scratch", c, 0);
    }
    flashring_set_threads(threads);
}

// Poisons one whole row of one operand and follows who may see it.
void poison(const flashring_capability& row, std::mt19937_64& random, const char* operand, int64_t at, double value) {
    const int64_t length = 150;
    Case c = plain(row.dtype, length, 40, random);
    c.mask = {pick(random, 20, 90), 0, {0, 65, 140}, {}};
    Results clean(c), actual(c);
    run(c, clean, row.kernel);
    const std::string name = operand;
    Buffer& target = name == "q" ? c.q : name == "k" ? c.k : name == "v" ? c.v : c.dout;
    target.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
        if (s == at) target.set(b, s, h, d, value);
    });
    run(c, actual, row.kernel);

    const bool ofQuery = name == "q" || name == "dout";
    std::vector<bool> query(static_cast<size_t>(length)), key(query.size());
    for (int64_t i = 0; i < length; ++i) query[static_cast<size_t>(i)] = ofQuery ? i == at : sees(c.mask, i, at);
    for (int64_t i = 0; i < length; ++i) {
        for (int64_t j = 0; j < length; ++j) {
            if (query[static_cast<size_t>(i)] && sees(c.mask, i, j)) key[static_cast<size_t>(j)] = true;
        }
    }
    const Bars bars = barsOf(row);
    const auto check = [&](const char* result, const Buffer& a, const Buffer& b, const std::vector<bool>& reached,
                           bool changes, double bar) {
        a.forEach([&](int64_t i, int64_t s, int64_t h, int64_t d) {
            const double x = a.get(i, s, h, d), y = b.get(i, s, h, d);
            if (!reached[static_cast<size_t>(s)] || !changes) {
                CHECK(x == y || std::fabs(x - y) <= bar * std::max(1.0, std::fabs(y)),
                      "%s %s: %g in row %lld of %s reached %s row %lld: %g for %g", row.name, nameOf(row.dtype), value,
                      static_cast<long long>(at), operand, result, static_cast<long long>(s), x, y);
            } else if (std::isnan(value)) {
                CHECK(std::isnan(x), "%s %s: NaN in row %lld of %s is lost in %s row %lld: %g", row.name,
                      nameOf(row.dtype), static_cast<long long>(at), operand, result, static_cast<long long>(s), x);
            }
        });
    };
    check("out", actual.out, clean.out, query, name != "dout", bars.out);
    check("lse", actual.lse, clean.lse, query, name == "q" || name == "k", bars.state);
    check("dq", actual.dq, clean.dq, query, true, bars.gradient);
    check("dk", actual.dk, clean.dk, key, true, bars.gradient);
    check("dv", actual.dv, clean.dv, key, name != "v", bars.state);
}

}  // namespace

int main() {
    sayWhatRuns();
    std::mt19937_64 random(7);
    long cases = 0;
    for (const flashring_capability& row : availableRows()) {
        hugeScores(row, random);
        equalScores(row, random);
        risingMaxima(row, random);
        denormals(row, random);
        nothingVisible(row, random);
        nothingVisibleInManyTiles(row, random);
        nothingStale(row, random);
        cases += 10;
        int n = 0;
        for (const char* operand : {"q", "k", "v", "dout"}) {
            for (const int64_t at : {0, 64, 100, 139}) {
                for (const double value : {NAN, INFINITY}) {
                    if (n % kThinning == n / 8 % kThinning) {  // thinned, each operand has others
                        poison(row, random, operand, at, value);
                        ++cases;
                    }
                    ++n;
                }
            }
        }
    }
    return finish("extremes", cases);
}
