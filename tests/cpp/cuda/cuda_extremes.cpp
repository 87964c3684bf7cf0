// Hard numbers for the forward kernels on tensor cores: row maxima that rise by just less and just more than 8 in log2
// units, or at every key, scores of +-1e4, equal and alternating ones, denormals, queries that see nothing, NaN and
// infinity in queries, states of earlier steps that are hard to start from, tiles that a step leaves as they are, and
// the same bits a hundred times. Against the on-device reference, for what AUTO takes and for mma. Options: --small.
#include <cstring>

#include "cuda/device_case.h"

namespace {

constexpr int32_t kTypes[] = {FLASHRING_BFLOAT16, FLASHRING_FLOAT16};
constexpr int64_t kDims[][2] = {{64, 64}, {96, 96}, {128, 128}, {192, 128}, {256, 256}};

Case makeCase(int32_t dtype, const int64_t (&dims)[2], int64_t length, int64_t qHeads, int64_t kvHeads, bool causal) {
    std::mt19937_64 random(static_cast<uint64_t>(dims[0]));
    Case c;
    c.dtype = dtype;
    c.shape = {1, length, length, qHeads, kvHeads, dims[0], dims[1]};
    c.scale = 1 / std::sqrt(static_cast<double>(dims[0]));
    c.mask.right = causal ? 0 : -1;
    c.qRanges = c.kvRanges = {{0, length, 1}};
    c.draw(random);
    return c;
}

flashring_capability capabilityOf(Case& c, Results& r, int32_t kernel) {
    Step step(c, r, kernel, 0, c.shape.kvLen);
    step.raw.device = 0;
    int32_t row = 0;
    CHECK(flashring_select(&step.raw, FLASHRING_FORWARD, &row) == FLASHRING_OK, "%s", flashring_last_error());
    flashring_capability capability{};
    capability.size = sizeof capability;
    flashring_capability_get(row, &capability);
    return capability;
}

// What AUTO takes and mma, once where they are the same.
std::vector<flashring_capability> kernelsFor(Case& c, Results& r) {
    std::vector<flashring_capability> kernels{capabilityOf(c, r, FLASHRING_KERNEL_AUTO)};
    if (kernels[0].kernel != FLASHRING_KERNEL_MMA) kernels.push_back(capabilityOf(c, r, FLASHRING_KERNEL_MMA));
    return kernels;
}

// Probabilities are rounded to the element type before they are multiplied; sums of them are not.
double barOf(int32_t dtype) { return dtype == FLASHRING_BFLOAT16 ? 3e-2 : 4e-3; }

void compare(const char* what, Case& c, double bar, const std::vector<int64_t>& steps) {
    Results expected(c);
    DeviceCase(c, expected).forward(FLASHRING_KERNEL_REFERENCE, {});
    for (const flashring_capability& kernel : kernelsFor(c, expected)) {
        for (const std::vector<int64_t>& splits : {std::vector<int64_t>{}, steps}) {
            Results actual(c);
            DeviceCase(c, actual).forward(kernel.kernel, splits);
            const std::string context =
                std::string(kernel.name) + " " + what + (splits.empty() ? ": " : ", resumed: ") + c.describe();
            checkClose(context, "out", actual.out, expected.out, bar);
            checkClose(context, "lse", actual.lse, expected.lse, 1e-4);
            CHECK(actual.intact(), "%s: wrote outside a tensor", context.c_str());
        }
    }
}

void compare(const char* what, Case& c, double bar) {
    const int64_t length = c.shape.kvLen;
    compare(what, c, bar, {length / 3, length / 3, length - 50});
}

// The scores of one head in log2 units: unit * level(key), both exact in 16 bits, the level in two digits.
struct Pattern {
    double unit;
    int64_t (*level)(int64_t key, int64_t keys);
};

constexpr int64_t kHuge = 902;  // 16 * 902 in log2 units is a score of 1e4

const Pattern kPatterns[] = {
    {7.9, [](int64_t key, int64_t) { return key / 64; }},
    {8.1, [](int64_t key, int64_t) { return key / 64; }},
    {7.9, [](int64_t key, int64_t) { return key / 80; }},
    {8.1, [](int64_t key, int64_t) { return key / 128; }},
    {8.1, [](int64_t key, int64_t) { return key / 176; }},
    {7.9, [](int64_t key, int64_t) { return key; }},
    {8.1, [](int64_t key, int64_t keys) { return (key * 37) % keys; }},
    {16, [](int64_t, int64_t) { return -kHuge; }},
    {16, [](int64_t key, int64_t) { return key % 2 ? kHuge : -kHuge; }},
    {16, [](int64_t key, int64_t keys) { return key == keys / 3 ? kHuge : 0; }},
    // a resumed step starts where they jump
    {16, [](int64_t key, int64_t keys) { return key < keys / 3 ? 0 : kHuge; }},
};
constexpr int64_t kHeads = sizeof kPatterns / sizeof kPatterns[0];

// A pattern for each head. Queries side by side take it as it is, upside down (what rises falls), halved, and as equal
// scores.
void steer(Case& c) {
    constexpr double kFactors[] = {1, -1, 0.5, 0};
    c.scale = std::log(2.0);
    c.q.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
        const double unit = kFactors[s % 4] * kPatterns[h].unit;
        c.q.set(b, s, h, d, d == 0 ? 16 * unit : d == 1 ? unit : 0);
    });
    c.k.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
        const int64_t level = kPatterns[h].level(s, c.shape.kvLen);
        if (d < 2) c.k.set(b, s, h, d, static_cast<double>(d == 0 ? level / 16 : level % 16));
    });
}

long checkScores(int64_t length) {
    long cases = 0;
    for (const int32_t dtype : kTypes)
        for (const auto& dims : kDims)
            for (const bool causal : {false, true}) {
                Case c = makeCase(dtype, dims, length, kHeads, kHeads, causal);
                steer(c);
                compare("steered scores", c, barOf(dtype));
                ++cases;
            }
    return cases;
}

long checkDenormals() {
    long cases = 0;
    const auto scale = [](Buffer& buffer, double factor) {
        buffer.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            buffer.set(b, s, h, d, factor * buffer.get(b, s, h, d));
        });
    };
    for (const int32_t dtype : kTypes)
        for (const auto& dims : kDims) {
            Case c = makeCase(dtype, dims, 150, 2, 1, true);
            const double tiny = dtype == FLASHRING_BFLOAT16 ? 1e-39 : 1e-5;
            scale(c.q, tiny);
            scale(c.k, tiny);
            compare("denormal scores", c, barOf(dtype));
            // bfloat16 has float32's exponents, and so no denormals that sums could keep
            if (dtype == FLASHRING_FLOAT16) {
                scale(c.v, tiny);
                compare("denormal values", c, 2e-7);
            }
            ++cases;
        }
    return cases;
}

// Two documents that end before the queries do.
long checkNothingVisible() {
    long cases = 0;
    for (const int32_t dtype : kTypes)
        for (const auto& dims : kDims) {
            Case c = makeCase(dtype, dims, 300, 2, 1, true);
            c.mask.cuSeqlens = {0, 70, 100};
            compare("nothing visible", c, barOf(dtype));
            Results r(c);
            for (const flashring_capability& kernel : kernelsFor(c, r)) {
                DeviceCase(c, r).forward(kernel.kernel, {});
                r.out.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
                    CHECK(s < 100 || (r.out.get(b, s, h, d) == 0 && r.lse.get(b, s, h) == -INFINITY),
                          "%s: query %lld sees nothing and gets out %g, lse %g: %s", kernel.name,
                          static_cast<long long>(s), r.out.get(b, s, h, d), r.lse.get(b, s, h), c.describe().c_str());
                });
            }
            ++cases;
        }
    return cases;
}

// Tiles whose second half sees nothing, each followed by one whose second half does not see the first keys, on the same
// multiprocessor: blocks of keys are let pass at the end of the one and would be at the start of the other. Causal
// documents with a padded tail.
long checkPassing() {
    long cases = 0;
    for (const auto& dims : kDims) {
        Case c = makeCase(FLASHRING_BFLOAT16, dims, 768, 264, 4, true);
        c.shape.qLen = 256;
        c.qRanges = {{512, 256, 1}};
        c.mask.cuSeqlens = {0, 576, 700};
        std::mt19937_64 random(11);
        c.draw(random);
        compare("passing", c, barOf(c.dtype));
        ++cases;
    }
    return cases;
}

// Queries that see nothing, behind a gap in their tile's keys that reaches to its end: between where the first of them
// would begin to see and the last would end, there are keys, but not of this tile. Its own are one block, then two.
long checkGaps() {
    long cases = 0;
    for (const auto& dims : kDims)
        for (const int64_t before : {128, 256}) {
            Case c = makeCase(FLASHRING_BFLOAT16, dims, before + 500, 264, 4, true);
            c.qRanges = before == 256       ? std::vector<flashring_range>{{0, 64, 1}, {192, 64, 1}}
                        : dims[0] <= 64 ? std::vector<flashring_range>{{0, 128, 1}}
                                            : std::vector<flashring_range>{{0, 64, 1}};
            c.qRanges.push_back({before + 172, 32, 1});
            c.qRanges.push_back({before + 1872, 32, 1});
            c.shape.qLen = 0;
            for (const flashring_range& range : c.qRanges) c.shape.qLen += range.length;
            c.kvRanges = {{0, before, 1}, {before + 872, 500, 1}};
            c.mask.left = 50;
            std::mt19937_64 random(13);
            c.draw(random);
            compare("gap", c, barOf(c.dtype));
            ++cases;
        }
    return cases;
}

// A query that is not finite changes its own results; others by no more than a rounding, as a kernel may take another
// way for the rows beside it.
long checkPoisonedQueries() {
    long cases = 0;
    for (const int32_t dtype : kTypes)
        for (const auto& dims : kDims)
            for (const double poison : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
                Case c = makeCase(dtype, dims, 300, 2, 1, true);
                const auto poisoned = [](int64_t s, int64_t h) {
                    return h == 1 && (s == 0 || s == 63 || s == 130 || s == 299);
                };
                Case bad = c;
                bad.q.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
                    if (poisoned(s, h) && d == dims[0] / 2) bad.q.set(b, s, h, d, poison);
                });
                Results clean(c), dirty(bad);
                for (const flashring_capability& kernel : kernelsFor(c, clean)) {
                    DeviceCase(c, clean).forward(kernel.kernel, {});
                    DeviceCase(bad, dirty).forward(kernel.kernel, {});
                    dirty.out.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
                        const double out = dirty.out.get(b, s, h, d), lse = dirty.lse.get(b, s, h);
                        const double expected = clean.out.get(b, s, h, d);
                        const bool right = !poisoned(s, h) ? std::abs(out - expected) <=
                                                                     barOf(dtype) * std::max(1.0, std::abs(expected)) &&
                                                                 std::abs(lse - clean.lse.get(b, s, h)) <= 1e-5
                                           : std::isnan(poison) ? std::isnan(out) && std::isnan(lse)
                                                                : true;
                        CHECK(right, "%s: %g in queries of head 1 gives out %g, lse %g in query %lld of head %lld: %s",
                              kernel.name, poison, out, lse, static_cast<long long>(s), static_cast<long long>(h),
                              c.describe().c_str());
                    });
                }
                ++cases;
            }
    return cases;
}

// A zigzag shard, whose first half sees nothing of the keys between its halves, and a shard that sees nothing of the
// keys after it; with more tiles than a GPU has multiprocessors.
long checkUnseenSteps(int64_t chunk) {
    long cases = 0;
    for (const auto& dims : kDims)
        for (const bool zigzag : {true, false}) {
            const int32_t dtype = zigzag ? FLASHRING_BFLOAT16 : FLASHRING_FLOAT16;
            Case c = makeCase(dtype, dims, 4 * chunk, 40, 4, true);
            c.shape.qLen = 2 * chunk;
            c.qRanges = {{0, chunk, 1}, {zigzag ? 3 * chunk : chunk, chunk, 1}};
            std::mt19937_64 random(7);
            c.draw(random);
            compare("unseen steps", c, barOf(dtype), {zigzag ? chunk : 2 * chunk, 3 * chunk});
            ++cases;
        }
    return cases;
}

// What a caller may have left in (acc, lse), by row: nothing, with acc that means nothing; an ordinary state; one with
// NaN or infinity in a column; one that outweighs all keys; one that none is left of; NaN.
void leaveState(Results& r) {
    constexpr double kLse[] = {-INFINITY, 5, 3, 3, 1e4, -1e4, NAN};
    std::mt19937_64 random(5);
    std::normal_distribution<double> normal;
    r.acc.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
        const double value = normal(random);
        const bool strange = d == r.acc.dim() / 3;
        r.acc.set(b, s, h, d,
                  s % 7 == 0              ? NAN
                  : strange && s % 7 == 2 ? NAN
                  : strange && s % 7 == 3 ? INFINITY
                                          : value);
        r.lse.set(b, s, h, 0, kLse[s % 7]);
    });
}

// Some rows see a value that is NaN, and share their tiles with others.
long checkStates() {
    long cases = 0;
    for (const int32_t dtype : kTypes)
        for (const auto& dims : kDims)
            for (const Order order : {Order::BSHD, Order::Padded}) {
                Case c = makeCase(dtype, dims, 300, 4, 2, true);
                c.v.set(0, 200, 0, dims[1] / 2, NAN);
                Case layout = c;
                layout.order = order;
                Results expected(c), actual(layout);
                for (const flashring_capability& kernel : kernelsFor(c, expected))
                    for (const std::vector<int64_t>& splits : {std::vector<int64_t>{}, {100, 250}}) {
                        leaveState(expected);
                        leaveState(actual);
                        DeviceCase(c, expected).forward(FLASHRING_KERNEL_REFERENCE, splits, true);
                        // Where wgmma copies acc as boxes, it leaves rows that do not start on 16 bytes to mma.
                        DeviceCase(c, actual).forward(order == Order::Padded ? FLASHRING_KERNEL_AUTO : kernel.kernel,
                                                      splits, true);
                        const auto clear = [](Buffer& one, Buffer& other) {  // an infinite element may become NaN
                            one.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
                                if (std::isfinite(one.get(b, s, h, d)) || std::isfinite(other.get(b, s, h, d))) return;
                                one.set(b, s, h, d, 0);
                                other.set(b, s, h, d, 0);
                            });
                        };
                        clear(actual.out, expected.out);
                        clear(actual.acc, expected.acc);
                        const std::string context = std::string(kernel.name) + " from a state: " + c.describe();
                        checkClose(context, "out", actual.out, expected.out, barOf(dtype));
                        checkClose(context, "acc", actual.acc, expected.acc, barOf(dtype));
                        checkClose(context, "lse", actual.lse, expected.lse, 1e-4);
                        CHECK(actual.intact(), "%s: wrote outside a tensor", context.c_str());
                    }
                ++cases;
            }
    return cases;
}

// The first step's one key, of value 0, outweighs each of the others by 2^20: their weights keep float16's bits beside
// it. Those of mma do not: it counts a state as 1.
long checkSmallWeights() {
    long cases = 0;
    for (const auto& dims : kDims) {
        Case c = makeCase(FLASHRING_FLOAT16, dims, 520, 1, 1, false);
        c.scale = std::log(2.0);
        c.q.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            c.q.set(b, s, h, d, d == 0 ? 8 : d == 1 ? 0.5 : 0);
        });
        c.k.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            if (d < 2) c.k.set(b, s, h, d, s == 0 ? (d == 0 ? 2 : 9) : (d == 0 ? 0 : s % 2));
        });
        c.v.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            c.v.set(b, s, h, d, s == 0 ? 0 : 1 + c.v.get(b, s, h, d));
        });
        Results expected(c);
        DeviceCase(c, expected).forward(FLASHRING_KERNEL_REFERENCE, {});
        for (const flashring_capability& kernel : kernelsFor(c, expected)) {
            if (kernel.kernel == FLASHRING_KERNEL_MMA) continue;
            Results actual(c);
            DeviceCase(c, actual).forward(kernel.kernel, {1});
            double error = 0, size = 0;
            actual.acc.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
                const double value = expected.acc.get(b, s, h, d);
                error += std::pow(actual.acc.get(b, s, h, d) - value, 2);
                size += value * value;
            });
            CHECK(std::sqrt(error / size) <= 2e-3, "%s small weights: %s: acc is off by %g of its norm", kernel.name,
                  c.describe().c_str(), std::sqrt(error / size));
        }
        ++cases;
    }
    return cases;
}

long checkRepeats(int64_t length, int repeats) {
    long cases = 0;
    for (const auto& dims : kDims)
        // 40: more short tiles than multiprocessors, whose queries follow each other closely
        for (const int64_t heads : {4, 40}) {
            Case c = makeCase(FLASHRING_BFLOAT16, dims, heads == 4 ? length : 600, heads, heads / 2, true);
            Results r(c);
            for (const flashring_capability& kernel : kernelsFor(c, r)) {
                DeviceCase device(c, r);
                device.forward(kernel.kernel, {});
                const Buffer out = r.out, lse = r.lse;
                for (int n = 1; n < repeats; ++n) {
                    device.forward(kernel.kernel, {});
                    CHECK(r.out.sameBits(out) && r.lse.sameBits(lse), "%s: run %d differs from the first: %s",
                          kernel.name, n + 1, c.describe().c_str());
                }
                std::printf("%s, dim %lld/%lld, %lld heads: %d runs\n", kernel.name, static_cast<long long>(dims[0]),
                            static_cast<long long>(dims[1]), static_cast<long long>(heads), repeats);
            }
            ++cases;
        }
    return cases;
}

}  // namespace

int main(int count, char** arguments) {
    const bool small = count > 1 && !std::strcmp(arguments[1], "--small");
    skipWithoutDevice();
    std::printf("tiles for %d KB of shared memory a block\n", flashring_device_tiles(0) >> 10);
    const long cases = checkScores(small ? 200 : 520) + checkDenormals() + checkNothingVisible() + checkPassing() +
                       checkGaps() + checkPoisonedQueries() + checkUnseenSteps(small ? 70 : 300) + checkStates() +
                       checkSmallWeights() + checkRepeats(small ? 200 : 777, small ? 2 : 100);
    return finish("cuda extremes", cases);
}
