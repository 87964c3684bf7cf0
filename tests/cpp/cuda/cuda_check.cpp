// CUDA kernels: the on-device reference against the host's, and every tensor-core kernel against the on-device
// reference, over random shapes, masks, positions, strides and resumed blocks, with NaN and infinity among the operands
// too. Options: --seeds N (per kernel), --from SEED, --small, --dtype bfloat16|float16 (the fast kernels of one type
// alone), --decode (the decode kernel alone), --scores (softcap, sinks and ALiBi alone).
#include <cstring>

#include "cuda/comparison.h"
#include "cuda/device_case.h"
#include "cuda/score_checks.h"

namespace {

std::vector<int64_t> drawSplits(std::mt19937_64& random, int64_t length) {
    std::vector<int64_t> splits;
    for (int64_t n = pick(random, 0, 2); n > 0; --n) splits.push_back(pick(random, 0, length));
    std::sort(splits.begin(), splits.end());
    return splits;
}

// keyDim 0: any dims.
Case drawMmaCase(std::mt19937_64& random, int32_t dtype, int64_t keyDim, int64_t valueDim, int64_t longest) {
    Case c = drawCase(random, dtype, pick(random, 0, 1) ? longest : longest / 6);
    if (keyDim) {
        c.shape.headDim = keyDim;
        c.shape.valueDim = valueDim;
        c.scale = 1 / std::sqrt(static_cast<double>(keyDim));
        c.draw(random);
    }
    return c;
}

std::string nameOfDims(int64_t keyDim, int64_t valueDim) {
    return keyDim ? std::to_string(keyDim) + "/" + std::to_string(valueDim) : "any";
}

// On the device as on the host.
long checkReference(int32_t dtype, int64_t keyDim, int64_t valueDim, long seeds, uint64_t from) {
    Worst worst;
    for (uint64_t seed = from; seed < from + static_cast<uint64_t>(seeds); ++seed) {
        std::mt19937_64 random(seed);
        Case c = drawMmaCase(random, dtype, keyDim, valueDim, 60);
        Results expected(c), actual(c);
        run(c, expected, FLASHRING_KERNEL_REFERENCE);
        const std::vector<int64_t> splits = drawSplits(random, c.shape.kvLen);
        DeviceCase(c, actual).run(FLASHRING_KERNEL_REFERENCE, splits, false);
        compare("reference", seed, c, actual, expected, referenceBars(dtype), 1e-2, worst);
    }
    report("reference", dtype, nameOfDims(keyDim, valueDim).c_str(), seeds, worst);
    return seeds;
}

const char* nameOfChoice(int32_t kernel) { return kernel == FLASHRING_KERNEL_AUTO ? "auto" : "mma"; }

long checkFast(int32_t kernel, int32_t dtype, int64_t keyDim, int64_t valueDim, int64_t longest, long seeds,
               uint64_t from) {
    Worst worst;
    for (uint64_t seed = from; seed < from + static_cast<uint64_t>(seeds); ++seed) {
        std::mt19937_64 random(seed);
        Case c = drawMmaCase(random, dtype, keyDim, valueDim, longest);
        Results expected(c), actual(c);
        DeviceCase(c, expected).run(FLASHRING_KERNEL_REFERENCE, {}, false);
        const std::vector<int64_t> splits = drawSplits(random, c.shape.kvLen);
        DeviceCase(c, actual).run(kernel, splits, seed % 3 == 0);
        compare(nameOfChoice(kernel), seed, c, actual, expected, mmaBars(dtype),
                dtype == FLASHRING_BFLOAT16 ? 1e-2 : 2e-3, worst);
    }
    report(nameOfChoice(kernel), dtype, nameOfDims(keyDim, valueDim).c_str(), seeds, worst);
    return seeds;
}

// More tiles of queries than a GPU has multiprocessors: blocks that stay take several, with what lies between them
// masked.
long checkManyTiles(int32_t dtype, int64_t keyDim, int64_t valueDim, bool small) {
    if (!keyDim) return 0;
    Worst worst;
    std::mt19937_64 random(3);
    long cases = 0;
    for (const int64_t left : {int64_t{-1}, int64_t{150}}) {
        Case c;
        c.dtype = dtype;
        const int64_t keys = small ? 140 : 300;
        c.shape = {2, 130, keys, 72, 12, keyDim, valueDim};
        c.scale = 1 / std::sqrt(static_cast<double>(keyDim));
        c.mask.left = left;
        c.mask.right = 0;
        c.qRanges = {{0, 50, 1}, {keys, 80, 1}};
        c.kvRanges = {{0, keys, 1}};
        c.draw(random);
        Results expected(c), actual(c);
        DeviceCase(c, expected).run(FLASHRING_KERNEL_REFERENCE, {}, false);
        DeviceCase(c, actual).run(FLASHRING_KERNEL_AUTO, {}, false);
        compare("many tiles", 3, c, actual, expected, mmaBars(dtype), dtype == FLASHRING_BFLOAT16 ? 1e-2 : 2e-3, worst);
        ++cases;
    }
    report("many tiles", dtype, nameOfDims(keyDim, valueDim).c_str(), cases, worst);
    return cases;
}

// Documents of 1 to 300 tokens with empty ones among them, of all that sequences are packed from; they end before the
// last query or after it.
Case documentsCase(std::mt19937_64& random, int32_t dtype, int64_t length, int64_t heads, int64_t keyDim,
                   int64_t valueDim) {
    Case c;
    c.dtype = dtype;
    c.shape = {1, length, length, heads, heads % 3 ? heads : heads / 3, keyDim, valueDim};
    c.scale = 1 / std::sqrt(static_cast<double>(keyDim));
    c.mask.right = pick(random, 0, 2) ? 0 : -1;
    c.mask.left = pick(random, 0, 2) ? -1 : 100;
    c.mask.cuSeqlens = {0};
    for (std::vector<int64_t>& bounds = c.mask.cuSeqlens; bounds.back() < length - 150;) {
        bounds.push_back(bounds.back() + (pick(random, 0, 5) ? pick(random, 1, 300) : 0));
    }
    c.qRanges = c.kvRanges = {{0, length, 1}};
    c.draw(random);
    return c;
}

// More tiles of queries than multiprocessors, of documents that come in no order; once also more than are sorted
// together.
long checkManyDocuments(int32_t dtype, int64_t keyDim, int64_t valueDim, bool small) {
    if (!keyDim) return 0;
    Worst worst;
    const long seeds = small ? 1 : 2;
    const long cases = seeds + (!small && keyDim == 64);
    for (long seed = 1; seed <= cases; ++seed) {
        std::mt19937_64 random(static_cast<uint64_t>(seed));
        Case c = seed > seeds ? documentsCase(random, dtype, 600 * 192 - 50, 1, 16, 16)
                              : documentsCase(random, dtype, small ? 700 : 1450, 12, keyDim, valueDim);
        Results expected(c), actual(c);
        DeviceCase(c, expected).forward(FLASHRING_KERNEL_REFERENCE, {});
        DeviceCase(c, actual).forward(FLASHRING_KERNEL_AUTO, {c.shape.kvLen / 2});
        compare("documents", static_cast<uint64_t>(seed), c, actual, expected, mmaBars(dtype),
                dtype == FLASHRING_BFLOAT16 ? 1e-2 : 2e-3, worst);
    }
    report("documents", dtype, nameOfDims(keyDim, valueDim).c_str(), cases, worst);
    return cases;
}

// Calls that follow each other in one stream through one workspace, with nothing between them: kernels that start early
// leave alone what the call before still reads, and read nothing that it still writes.
long checkQueued(bool small) {
    const int64_t dims[] = {64, 128, 256};
    const long repeats = small ? 2 : 50;
    for (const int64_t dim : dims) {
        std::mt19937_64 random(11);
        Case packed = documentsCase(random, FLASHRING_BFLOAT16, small ? 400 : 1450, 6, dim, dim), plain = packed;
        plain.mask = {};
        Results first(packed), second(plain), firstQueued(packed), secondQueued(plain);
        DeviceCase(packed, first).forward(FLASHRING_KERNEL_AUTO, {});
        plain.q = first.out;
        DeviceCase(plain, second).forward(FLASHRING_KERNEL_AUTO, {});
        DeviceCase one(packed, firstQueued), two(plain, secondQueued);
        flashring_step a = one.whole(FLASHRING_KERNEL_AUTO), b = two.whole(FLASHRING_KERNEL_AUTO), spoil = a;
        const DeviceMemory workspace(static_cast<size_t>(std::max(a.workspace_bytes, b.workspace_bytes)));
        a.workspace = b.workspace = spoil.workspace = workspace.data();
        spoil.mask = b.mask;
        b.q = a.out;
        b.stream = a.stream;
        for (long n = 0; n < repeats; ++n) {
            for (const flashring_step* step : {&spoil, &a, &b}) {
                CHECK(flashring_forward_step(step) == FLASHRING_OK, "%s", flashring_last_error());
            }
        }
        one.download();
        two.download();
        CHECK(firstQueued.out.sameBits(first.out) && firstQueued.lse.sameBits(first.lse) &&
                  secondQueued.out.sameBits(second.out) && secondQueued.lse.sameBits(second.lse),
              "dim %lld: calls that follow each other differ from the same ones alone", static_cast<long long>(dim));
    }
    std::printf("queued: %ld rounds of %zu dims bitwise as each call alone\n", repeats, sizeof dims / sizeof dims[0]);
    return repeats * 3;
}

// NaN and infinity in a few elements or rows of one operand.
void poison(std::mt19937_64& random, Case& c) {
    static const double values[] = {NAN, INFINITY, -INFINITY};
    Buffer* const operands[] = {&c.q, &c.k, &c.v, &c.dout};
    Buffer& operand = *operands[pick(random, 0, 3)];
    for (int64_t n = operand.seq() ? pick(random, 1, 4) : 0; n > 0; --n) {
        const int64_t b = pick(random, 0, operand.batch() - 1), s = pick(random, 0, operand.seq() - 1),
                      h = pick(random, 0, operand.heads() - 1);
        const int64_t only = pick(random, 0, 1) ? pick(random, 0, operand.dim() - 1) : -1;
        const double value = values[pick(random, 0, 2)];
        for (int64_t d = 0; d < operand.dim(); ++d) {
            if (only < 0 || d == only) operand.set(b, s, h, d, value);
        }
    }
}

// Few queries against many keys, from none to more than a block's rows hold in one fragment: batches, groups, masks,
// windows narrower than a part of the keys, rows of every alignment, states of earlier blocks, NaN and infinity.
long checkDecode(int32_t dtype, long seeds, uint64_t from) {
    Worst worst;
    for (uint64_t seed = from; seed < from + static_cast<uint64_t>(seeds); ++seed) {
        std::mt19937_64 random(seed);
        Case c = drawCase(random, dtype, 60);
        const int64_t groups[] = {1, 3, 4, 7, 8, 16, 64}, group = groups[pick(random, 0, 6)];
        const int64_t keyHeads = pick(random, 1, 3), queries = pick(random, 0, std::min(int64_t{16}, 64 / group));
        const int64_t keys = pick(random, 0, 3) ? pick(random, 1, 3000) : pick(random, 0, 130);
        c.shape = {pick(random, 1, 4), queries, keys, keyHeads * group, keyHeads, c.shape.headDim, c.shape.valueDim};
        c.kvRanges = {{0, keys, 1}};
        const int64_t first = pick(random, 0, 3) ? std::max(int64_t{0}, keys - queries) : pick(random, 0, keys);
        c.qRanges = {{first, queries, pick(random, 0, 2) ? 1 : 2}};
        c.mask = {};
        c.mask.right = pick(random, 0, 3) ? 0 : -1;
        c.mask.left = pick(random, 0, 2) ? -1 : pick(random, 0, 200);
        c.draw(random);
        const bool poisoned = seed % 3 == 0;
        if (poisoned) poison(random, c);
        Results expected(c), actual(c);
        DeviceCase(c, expected).forward(FLASHRING_KERNEL_REFERENCE, {});
        DeviceCase(c, actual).forward(FLASHRING_KERNEL_DECODE, drawSplits(random, keys));
        if (poisoned) clearWhereNeitherIsFinite(expected, actual);
        compare("decode", seed, c, actual, expected, mmaBars(dtype), dtype == FLASHRING_BFLOAT16 ? 1e-2 : 2e-3, worst);
    }
    report("decode", dtype, "any", seeds, worst);
    return seeds;
}

// What is not finite reaches those who see it, and nobody else: the on-device reference as the host's, the fast kernel
// as the former.
long checkNonFinite(int32_t kernel, int32_t dtype, int64_t keyDim, int64_t valueDim, int64_t longest, long seeds,
                    uint64_t from) {
    Worst worst;
    for (uint64_t seed = from; seed < from + static_cast<uint64_t>(seeds); ++seed) {
        std::mt19937_64 random(seed);
        Case c = drawMmaCase(random, dtype, keyDim, valueDim, longest);
        poison(random, c);
        const std::vector<int64_t> splits = drawSplits(random, c.shape.kvLen);
        Results expected(c), actual(c);
        DeviceCase(c, expected).run(FLASHRING_KERNEL_REFERENCE, splits, false);
        DeviceCase(c, actual).run(kernel, splits, seed % 3 == 0);
        if (c.shape.qLen * c.shape.kvLen < 10000) {
            Results host(c), reference = expected;
            run(c, host, FLASHRING_KERNEL_REFERENCE, splits);
            clearWhereNeitherIsFinite(host, reference);
            compare("nonfinite, reference", seed, c, reference, host, referenceBars(dtype), 1e-2, worst);
        }
        clearWhereNeitherIsFinite(expected, actual);
        compare("nonfinite", seed, c, actual, expected, mmaBars(dtype), dtype == FLASHRING_BFLOAT16 ? 1e-2 : 2e-3,
                worst);
    }
    report("nonfinite", dtype, nameOfDims(keyDim, valueDim).c_str(), seeds, worst);
    return seeds;
}

Case causalCase(int32_t dtype, int64_t length, int64_t dim) {
    std::mt19937_64 random(9);
    Case c;
    c.dtype = dtype;
    c.shape = {2, length, length, 4, 2, dim, dim};
    c.scale = 1 / std::sqrt(static_cast<double>(dim));
    c.mask.right = 0;
    c.qRanges = c.kvRanges = {{0, length, 1}};
    c.draw(random);
    return c;
}

// A deterministic backward pass gives the same bits every time; forward does anyway.
long checkDeterministic(long repeats) {
    const int64_t dims[] = {64, 96, 128, 192, 256};
    for (const int64_t dim : dims) {
        Case c = causalCase(FLASHRING_BFLOAT16, 777, dim);
        Results first(c);
        DeviceCase(c, first).run(FLASHRING_KERNEL_AUTO, {}, true);
        for (long n = 1; n < repeats; ++n) {
            Results again(c);
            DeviceCase(c, again).run(FLASHRING_KERNEL_AUTO, {}, true);
            CHECK(again.out.sameBits(first.out) && again.lse.sameBits(first.lse),
                  "forward differs between runs, dim %lld", static_cast<long long>(dim));
            CHECK(again.dq.sameBits(first.dq) && again.dk.sameBits(first.dk) && again.dv.sameBits(first.dv),
                  "deterministic backward differs between runs, dim %lld", static_cast<long long>(dim));
        }
    }
    std::printf("deterministic: %ld repeats of %zu shapes bitwise equal\n", repeats, sizeof dims / sizeof dims[0]);
    return repeats * static_cast<long>(sizeof dims / sizeof dims[0]);
}

// Every pair of types that a ring converts, and a sum in place.
long checkCombine() {
    long cases = 0;
    for (int32_t dst = 0; dst < 4; ++dst)
        for (int32_t a = 0; a < 4; ++a)
            for (const Order order : {Order::BSHD, Order::BHSD, Order::Padded}) {
                std::mt19937_64 random(static_cast<uint64_t>(++cases));
                std::normal_distribution<double> normal;
                Buffer first(a, 2, 33, 3, 40, order), second(dst, 2, 33, 3, 40, order),
                    expected(dst, 2, 33, 3, 40, order);
                first.forEach(
                    [&](int64_t b, int64_t s, int64_t h, int64_t d) { first.set(b, s, h, d, normal(random)); });
                second.forEach(
                    [&](int64_t b, int64_t s, int64_t h, int64_t d) { second.set(b, s, h, d, normal(random)); });
                flashring_combine_args args{
                    sizeof args,    FLASHRING_HOST,  dst,    a, dst, 0, 2, 33, 3, 40, expected.tensor(),
                    first.tensor(), second.tensor(), nullptr};
                CHECK(flashring_combine(&args) == FLASHRING_OK, "%s", flashring_last_error());
                DeviceMemory source(first.memoryBytes()), sum(second.memoryBytes());
                CUDA(cudaMemcpy(source.data(), first.memory(), first.memoryBytes(), cudaMemcpyHostToDevice));
                CUDA(cudaMemcpy(sum.data(), second.memory(), second.memoryBytes(), cudaMemcpyHostToDevice));
                args.a.data = source.data() + (static_cast<char*>(first.tensor().data) - first.memory());
                args.b.data = args.dst.data = sum.data() + (static_cast<char*>(second.tensor().data) - second.memory());
                args.device = 0;
                CHECK(flashring_combine(&args) == FLASHRING_OK, "%s", flashring_last_error());
                CUDA(cudaMemcpy(second.memory(), sum.data(), second.memoryBytes(), cudaMemcpyDeviceToHost));
                CHECK(second.sameBits(expected), "combine %s += %s, order %d", nameOf(dst), nameOf(a),
                      static_cast<int>(order));
            }
    return cases;
}

long checkRefusals() {
    Case c = causalCase(FLASHRING_BFLOAT16, 8, 64);
    Results r(c);
    Step step(c, r, FLASHRING_KERNEL_AUTO, 0, 8);
    int32_t row;
    step.raw.device = flashring_device_count();
    CHECK(flashring_select(&step.raw, FLASHRING_FORWARD, &row) == FLASHRING_UNSUPPORTED,
          "a device that is not there was accepted");
    step.raw.device = 0;
    step.raw.kernel = FLASHRING_KERNEL_AVX2;
    CHECK(flashring_select(&step.raw, FLASHRING_FORWARD, &row) == FLASHRING_UNSUPPORTED,
          "a CPU kernel was accepted on CUDA");
    step.raw.kernel = FLASHRING_KERNEL_MMA;
    step.raw.dtype = FLASHRING_FLOAT32;
    CHECK(flashring_select(&step.raw, FLASHRING_FORWARD, &row) == FLASHRING_UNSUPPORTED, "float32 was accepted by mma");
    step.raw.kernel = FLASHRING_KERNEL_WGMMA;
    step.raw.dtype = FLASHRING_BFLOAT16;
    const int32_t plain = flashring_select(&step.raw, FLASHRING_BACKWARD, &row);  // whether there is wgmma at all
    step.raw.deterministic = 1;
    CHECK(flashring_select(&step.raw, FLASHRING_BACKWARD, &row) == plain,
          "a deterministic backward step was not taken by wgmma");
    return 4;
}

}  // namespace

int main(int count, char** arguments) {
    long seeds = 20;
    uint64_t from = 1;
    bool small = false;
    bool decodeAlone = false, scoresAlone = false;
    const char* only = nullptr;
    for (int i = 1; i < count; ++i) {
        if (!std::strcmp(arguments[i], "--small")) small = true;
        if (!std::strcmp(arguments[i], "--decode")) decodeAlone = true;
        if (!std::strcmp(arguments[i], "--scores")) scoresAlone = true;
        if (!std::strcmp(arguments[i], "--dtype") && i + 1 < count) only = arguments[++i];
        if (!std::strcmp(arguments[i], "--seeds") && i + 1 < count) seeds = std::atol(arguments[++i]);
        if (!std::strcmp(arguments[i], "--from") && i + 1 < count) from = std::strtoull(arguments[++i], nullptr, 10);
    }
    skipWithoutDevice();
    std::printf("tiles for %d KB of shared memory a block\n", flashring_device_tiles(0) >> 10);
    if (decodeAlone)
        return finish("decode",
                      checkDecode(FLASHRING_BFLOAT16, seeds, from) + checkDecode(FLASHRING_FLOAT16, seeds, from));
    if (scoresAlone) return finish("scores", checkAllScores(seeds, from, small ? 150 : 600));
    long cases = checkRefusals() + checkCombine();
    const std::pair<int64_t, int64_t> wide[] = {{320, 320}, {512, 512}, {128, 512}, {512, 264}};
    for (int32_t dtype = 0; dtype < 4 && !only; ++dtype) {
        cases += checkReference(dtype, 0, 0, seeds, from);
        for (const auto& d : wide) cases += checkReference(dtype, d.first, d.second, seeds, from);
    }
    const int64_t dims[][2] = {{64, 64}, {96, 96}, {128, 128}, {192, 128}, {192, 192}, {256, 256}, {0, 0}};
    const int64_t longest = small ? 150 : 600;
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) {
        if (only && std::strcmp(only, nameOf(dtype))) continue;
        cases += checkDecode(dtype, 4 * seeds, from) + checkLatent(dtype);
        for (const auto& d : wide)  // forward on mma
            cases += checkFast(FLASHRING_KERNEL_AUTO, dtype, d.first, d.second, longest, seeds / 2, from);
        cases += checkNonFinite(FLASHRING_KERNEL_AUTO, dtype, 512, 264, longest, seeds / 2, from);
        for (const auto& d : dims) {
            for (const int32_t kernel : {FLASHRING_KERNEL_AUTO, FLASHRING_KERNEL_MMA}) {
                cases += checkFast(kernel, dtype, d[0], d[1], longest, seeds, from);
                cases += checkNonFinite(kernel, dtype, d[0], d[1], longest, seeds, from);
            }
            cases += checkManyTiles(dtype, d[0], d[1], small);
            cases += checkManyDocuments(dtype, d[0], d[1], small);
        }
    }
    if (!only) cases += checkAllScores(seeds, from, longest);
    cases += checkDeterministic(small ? 2 : 20) + checkQueued(small);
    return finish("cuda", cases);
}
