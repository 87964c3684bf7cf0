// Batch-invariant decode steps on a GPU: a batch row has the same bits alone as among others, whatever those hold and
// however long the cache might become; and they are right. --seeds N (per type), --from SEED.
#include <cstring>

#include "cuda/comparison.h"
#include "cuda/device_cache.h"

namespace {

Outcome onDevice(CacheCase& c, Cache how, uint64_t seed, bool invariant) {
    DeviceCache device(c, how, seed);
    device.raw.batch_invariant = invariant;
    device.place();
    device.queue();
    return device.results();
}

// Row b of a case as a batch of its own, in a cache with room for more.
CacheCase rowAlone(const CacheCase& c, int64_t b, std::mt19937_64& random) {
    CacheCase own = c;
    own.batch = 1;
    own.capacity = c.capacity + pick(random, 0, 2000);
    own.lengths = {static_cast<int32_t>(c.length(b))};
    own.begins = {static_cast<int32_t>(c.begin(b))};
    own.queryLengths = {static_cast<int32_t>(c.queriesOf(b))};
    own.q = Buffer(c.dtype, 1, c.queries, c.heads(), c.headDim, Order::Padded);
    own.k = Buffer(c.dtype, 1, own.capacity, c.keyHeads, c.headDim, c.order);
    own.v = Buffer(c.dtype, 1, own.capacity, c.keyHeads, c.valueDim, c.order);
    own.k.fill(NAN);
    own.v.fill(NAN);
    const auto copy = [&](Buffer& to, const Buffer& from, int64_t first, int64_t last) {
        for (int64_t s = first; s < last; ++s)
            for (int64_t h = 0; h < from.heads(); ++h)
                for (int64_t d = 0; d < from.dim(); ++d) to.set(0, s, h, d, from.get(b, s, h, d));
    };
    copy(own.q, c.q, 0, c.queries);
    copy(own.k, c.k, c.begin(b), c.length(b));
    copy(own.v, c.v, c.begin(b), c.length(b));
    return own;
}

// Whether row b of a batch has the bits of a row alone.
bool sameRow(const Outcome& batch, int64_t b, const Outcome& alone) {
    const auto same = [&](const Buffer& whole, const Buffer& row) {
        bool equal = true;
        for (int64_t i = 0; i < row.seq(); ++i)
            for (int64_t h = 0; h < row.heads(); ++h)
                for (int64_t d = 0; d < row.dim(); ++d) equal = equal && whole.get(b, i, h, d) == row.get(0, i, h, d);
        return equal;
    };
    return same(batch.out, alone.out) && same(batch.acc, alone.acc) && same(batch.lse, alone.lse);
}

CacheCase drawBatch(std::mt19937_64& random, int32_t dtype) {
    static const int64_t groups[] = {1, 4, 8, 16, 32, 64}, dims[] = {24, 64, 128, 256};
    CacheCase c = drawCacheCase(random, dtype, 1800);
    const int64_t group = groups[pick(random, 0, 5)];
    reshape(c, group, dims[pick(random, 0, 3)]);
    c.left = pick(random, 0, 3) ? -1 : pick(random, 0, 700);
    c.draw(random);
    return c;
}

long checkRandom(int32_t dtype, long seeds, uint64_t from) {
    long cases = 0;
    for (uint64_t seed = from; seed < from + static_cast<uint64_t>(seeds); ++seed) {
        std::mt19937_64 random(seed);
        CacheCase c = drawBatch(random, dtype);
        const std::string context = "--from " + std::to_string(seed) + " " + c.describe();
        const Outcome batch = onDevice(c, Cache::Numbered, seed, true);
        const Outcome plain = onDevice(c, Cache::Contiguous, seed, false);
        checkClose(context, "acc", batch.acc, plain.acc, mmaBars(dtype).acc);
        checkClose(context, "lse", batch.lse, plain.lse, mmaBars(dtype).lse);
        for (int64_t b = 0; b < c.batch; ++b) {
            CacheCase own = rowAlone(c, b, random);
            CHECK(sameRow(batch, b, onDevice(own, Cache::Contiguous, seed, true)), "%s: row %lld differs alone",
                  context.c_str(), static_cast<long long>(b));
            ++cases;
        }
    }
    std::printf("%s: %ld rows\n", nameOf(dtype), cases);
    return cases;
}

// One long row and many short ones: the long one is cut among few blocks then, and among all where it is alone.
long checkLong() {
    long cases = 0;
    bool differs = false;  // without the mode; by how many blocks there are, not with every group
    for (const int64_t group : {4, 32, 64}) {
        CacheCase c = smallCase(FLASHRING_BFLOAT16, {100, 100, 3, 6000, 77}, 6000, group);
        std::mt19937_64 random(3);
        CacheCase own = rowAlone(c, 3, random);
        const Outcome batch = onDevice(c, Cache::Contiguous, 1, true),
                      alone = onDevice(own, Cache::Contiguous, 1, true);
        CHECK(sameRow(batch, 3, alone), "group %lld: the long row differs alone", static_cast<long long>(group));
        const Outcome plain = onDevice(c, Cache::Contiguous, 1, false),
                      plainAlone = onDevice(own, Cache::Contiguous, 1, false);
        differs = differs || !sameRow(plain, 3, plainAlone);
        ++cases;
    }
    CHECK(differs, "without the mode the long row has the same bits, too: a weak test");
    return cases;
}

}  // namespace

int main(int count, char** arguments) {
    long seeds = 20;
    uint64_t from = 1;
    for (int i = 1; i < count; ++i) {
        if (!std::strcmp(arguments[i], "--seeds") && i + 1 < count) seeds = std::atol(arguments[++i]);
        if (!std::strcmp(arguments[i], "--from") && i + 1 < count) from = std::strtoull(arguments[++i], nullptr, 10);
    }
    skipWithoutDevice();
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) cases += checkRandom(dtype, seeds, from);
    return finish("cuda invariant", cases + checkLong());
}
