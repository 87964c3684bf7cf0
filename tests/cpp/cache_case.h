// A decode step over a cache whose batch rows have lengths of their own, in one piece or in pages, and an oracle that
// knows the definitions in flashring.h alone.
#ifndef FLASHRING_TESTS_CACHE_CASE_H
#define FLASHRING_TESTS_CACHE_CASE_H

#include <climits>
#include <numeric>

#include "attention_case.h"

enum class Cache { Contiguous, Numbered, Addressed };

struct CacheCase {
    int32_t dtype = FLASHRING_FLOAT32;
    int64_t batch = 1, queries = 1, capacity = 1, keyHeads = 1, group = 1, headDim = 8, valueDim = 8;
    int64_t left = -1, right = 0;
    std::vector<int32_t> lengths{}, begins{}, queryLengths{};  // empty: null in the step
    int64_t pageSize = 16;
    Order order = Order::BSHD;  // of a page: BHSD has all keys of a head side by side
    Order outOrder = Order::Padded;
    double scale = 0.3, softcap = 0;
    std::vector<double> sinks{};  // [heads]; empty: null in the step
    Buffer q{}, k{}, v{};  // k and v as if in one piece, of `capacity` keys

    int64_t heads() const { return keyHeads * group; }
    int64_t length(int64_t b) const { return lengths.empty() ? capacity : lengths[static_cast<size_t>(b)]; }
    int64_t begin(int64_t b) const { return begins.empty() ? 0 : begins[static_cast<size_t>(b)]; }
    int64_t queriesOf(int64_t b) const { return queryLengths.empty() ? queries : queryLengths[static_cast<size_t>(b)]; }
    int64_t pagesOfRow() const { return (capacity + pageSize - 1) / pageSize; }

    // The drawing in flashring.h, one pair at a time.
    bool sees(int64_t b, int64_t i, int64_t j) const {
        const int64_t position = length(b) - queriesOf(b) + i;
        return i < queriesOf(b) && j >= begin(b) && j < length(b) && (left < 0 || j >= position - left) &&
               (right < 0 || j <= position + right);
    }

    bool seen(int64_t b, int64_t j) const {
        for (int64_t i = 0; i < queries; ++i) {
            if (sees(b, i, j)) return true;
        }
        return false;
    }

    // Operands from N(0, 1); of keys that nobody sees, `unseen`.
    void draw(std::mt19937_64& random, double unseen = NAN) {
        q = Buffer(dtype, batch, queries, heads(), headDim, Order::Padded);
        k = Buffer(dtype, batch, capacity, keyHeads, headDim, order);
        v = Buffer(dtype, batch, capacity, keyHeads, valueDim, order);
        std::normal_distribution<double> normal;
        const auto any = [&](Buffer& buffer) {
            buffer.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) { buffer.set(b, s, h, d, normal(random)); });
        };
        any(q);
        any(k);
        any(v);
        hide(unseen);
    }

    void hide(double unseen) {
        for (Buffer* buffer : {&k, &v}) {
            for (int64_t b = 0; b < batch; ++b)
                for (int64_t j = 0; j < capacity; ++j) {
                    if (seen(b, j)) continue;
                    for (int64_t h = 0; h < keyHeads; ++h)
                        for (int64_t d = 0; d < buffer->dim(); ++d) buffer->set(b, j, h, d, unseen);
                }
        }
    }

    // As the step reads them, which are exact in float32.
    const void* sinksOfStep() {
        if (dtype == FLASHRING_FLOAT64 || sinks.empty()) return sinks.empty() ? nullptr : sinks.data();
        narrowSinks_.assign(sinks.begin(), sinks.end());
        return narrowSinks_.data();
    }

    std::string describe() const {
        char text[300];
        std::snprintf(text, sizeof text,
                      "%s b%lld q%lld cap%lld h%lld/%lld d%lld/%lld left %lld right %lld page %lld order %d length "
                      "%lld softcap %g sinks %zu",
                      nameOf(dtype), static_cast<long long>(batch), static_cast<long long>(queries),
                      static_cast<long long>(capacity), static_cast<long long>(heads()),
                      static_cast<long long>(keyHeads), static_cast<long long>(headDim),
                      static_cast<long long>(valueDim), static_cast<long long>(left), static_cast<long long>(right),
                      static_cast<long long>(pageSize), static_cast<int>(order), static_cast<long long>(length(0)),
                      softcap, sinks.size());
        return text;
    }

private:
    std::vector<float> narrowSinks_{};
};

inline void* pageOf(Buffer& buffer, int64_t page, int32_t dtype) {
    const flashring_tensor tensor = buffer.tensor();
    return static_cast<char*>(tensor.data) + page * tensor.stride_batch * sizeOf(dtype);
}

// The cache as a step reads it: in one piece, or in pages that lie in an order drawn by `seed`, with more of them than
// are needed. Entries of pages that nobody sees are wild: -1, INT_MAX, or another row's page (vLLM 42494).
struct Stored {
    Buffer k{}, v{};
    std::vector<int32_t> table{};
    std::vector<const void*> keyPages{}, valuePages{};
    int64_t stride = 0, pages = 0;
    Cache kind;

    Stored(const CacheCase& c, Cache how, uint64_t seed, double spare = NAN) : kind(how) {
        if (how == Cache::Contiguous) {
            k = c.k;
            v = c.v;
            return;
        }
        std::mt19937_64 random(seed);
        stride = c.pagesOfRow() + pick(random, 0, 2);
        pages = c.batch * c.pagesOfRow() + 2;
        std::vector<int32_t> order(static_cast<size_t>(pages));
        std::iota(order.begin(), order.end(), 0);
        std::shuffle(order.begin(), order.end(), random);
        k = Buffer(c.dtype, pages, c.pageSize, c.keyHeads, c.headDim, c.order);
        v = Buffer(c.dtype, pages, c.pageSize, c.keyHeads, c.valueDim, c.order);
        k.fill(spare);
        v.fill(spare);
        table.resize(static_cast<size_t>(c.batch * stride));
        keyPages.resize(table.size());
        valuePages.resize(table.size());
        size_t next = 0;
        for (int64_t b = 0; b < c.batch; ++b) {
            for (int64_t p = 0; p < stride; ++p) {
                const size_t entry = static_cast<size_t>(b * stride + p);
                bool used = false;
                for (int64_t j = p * c.pageSize; j < std::min(c.capacity, (p + 1) * c.pageSize); ++j)
                    used = used || c.seen(b, j);
                if (!used) {
                    const int32_t wild[] = {-1, INT_MAX, order[0]};
                    table[entry] = wild[pick(random, 0, 2)];
                    keyPages[entry] = valuePages[entry] = reinterpret_cast<const void*>(uintptr_t{1});
                    continue;
                }
                const int32_t page = order[next++];
                table[entry] = page;
                keyPages[entry] = pageOf(k, page, c.dtype);
                valuePages[entry] = pageOf(v, page, c.dtype);
                const auto fill = [&](Buffer& to, const Buffer& from) {
                    for (int64_t j = p * c.pageSize; j < std::min(c.capacity, (p + 1) * c.pageSize); ++j)
                        for (int64_t h = 0; h < from.heads(); ++h)
                            for (int64_t d = 0; d < from.dim(); ++d)
                                to.set(page, j % c.pageSize, h, d, from.get(b, j, h, d));
                };
                fill(k, c.k);
                fill(v, c.v);
            }
        }
    }

    template <class Struct>
    void setOn(Struct& raw, const CacheCase& c) {
        raw.k = k.tensor();
        raw.v = v.tensor();
        if (kind == Cache::Contiguous) return;
        raw.page_size = c.pageSize;
        raw.page_table_stride = stride;
        if (kind == Cache::Numbered) {
            raw.page_table = table.data();
            raw.pages = pages;
        } else {
            raw.k_pages = const_cast<decltype(raw.k_pages)>(keyPages.data());
            raw.v_pages = const_cast<decltype(raw.v_pages)>(valuePages.data());
            raw.k.data = raw.v.data = nullptr;
        }
    }
};

// What a step leaves; out as a rule in strides that are not those of dense splits (FlashAttention 2550), lse as the
// natural logarithm (vLLM 47079, SGLang 33064).
struct Outcome {
    Buffer out, acc, lse;

    Outcome(const CacheCase& c, int32_t dtype)
        : out(dtype, c.batch, c.queries, c.heads(), c.valueDim, c.outOrder),
          acc(accType(dtype), c.batch, c.queries, c.heads(), c.valueDim, Order::BSHD),
          lse(accType(dtype), c.batch, c.queries, c.heads(), 1, Order::BSHD) {}
    explicit Outcome(const CacheCase& c) : Outcome(c, c.dtype) {}

    bool sameBits(const Outcome& other) const {
        return out.sameBits(other.out) && acc.sameBits(other.acc) && lse.sameBits(other.lse);
    }
    bool intact() const { return out.intact() && acc.intact() && lse.intact(); }
};

// The step on the host, without workspace.
inline flashring_step stepOf(CacheCase& c, Stored& cache, Outcome& r, int32_t kernel, int32_t flags) {
    flashring_step raw{};
    raw.size = sizeof raw;
    raw.device = FLASHRING_HOST;
    raw.dtype = c.dtype;
    raw.kernel = kernel;
    raw.flags = flags;
    raw.batch = c.batch;
    raw.q_len = c.queries;
    raw.kv_len = c.capacity;
    raw.q_heads = c.heads();
    raw.kv_heads = c.keyHeads;
    raw.head_dim = c.headDim;
    raw.value_dim = c.valueDim;
    raw.softmax_scale = c.scale;
    raw.softcap = c.softcap;
    raw.sinks = c.sinksOfStep();
    raw.mask.left = c.left;
    raw.mask.right = c.right;
    raw.kv_lengths = c.lengths.empty() ? nullptr : c.lengths.data();
    raw.kv_begins = c.begins.empty() ? nullptr : c.begins.data();
    raw.q_lengths = c.queryLengths.empty() ? nullptr : c.queryLengths.data();
    raw.q = c.q.tensor();
    raw.out = r.out.tensor();
    raw.acc = r.acc.tensor();
    raw.lse = r.lse.tensor();
    cache.setOn(raw, c);
    return raw;
}

// The whole softmax in float64, with the state in `earlier`, where it is given, or else the sink as one more key.
inline Outcome oracle(const CacheCase& c, const Outcome* earlier = nullptr) {
    Outcome r(c, FLASHRING_FLOAT64);
    std::vector<double> score(static_cast<size_t>(c.capacity)), sum(static_cast<size_t>(c.valueDim));
    for (int64_t b = 0; b < c.batch; ++b)
        for (int64_t i = 0; i < c.queries; ++i)
            for (int64_t h = 0; h < c.heads(); ++h) {
                const double before = earlier           ? earlier->lse.get(b, i, h)
                                      : c.sinks.empty() ? -INFINITY
                                                        : c.sinks[static_cast<size_t>(h)];
                double top = before, total = 0;
                for (int64_t j = 0; j < c.capacity; ++j) {
                    if (!c.sees(b, i, j)) continue;
                    double dot = 0;
                    for (int64_t d = 0; d < c.headDim; ++d) dot += c.q.get(b, i, h, d) * c.k.get(b, j, h / c.group, d);
                    score[static_cast<size_t>(j)] =
                        c.softcap > 0 ? c.softcap * std::tanh(c.scale * dot / c.softcap) : c.scale * dot;
                    top = std::max(top, score[static_cast<size_t>(j)]);
                }
                std::fill(sum.begin(), sum.end(), 0);
                if (before != -INFINITY) {
                    total = std::exp(before - top);
                    for (int64_t d = 0; d < c.valueDim; ++d)
                        sum[static_cast<size_t>(d)] = earlier ? total * earlier->acc.get(b, i, h, d) : 0;
                }
                for (int64_t j = 0; j < c.capacity; ++j) {
                    if (!c.sees(b, i, j)) continue;
                    const double p = std::exp(score[static_cast<size_t>(j)] - top);
                    total += p;
                    for (int64_t d = 0; d < c.valueDim; ++d)
                        sum[static_cast<size_t>(d)] += p * c.v.get(b, j, h / c.group, d);
                }
                r.lse.set(b, i, h, 0, total == 0 ? -INFINITY : top + std::log(total));
                for (int64_t d = 0; d < c.valueDim; ++d) {
                    const double value = total == 0 ? 0 : sum[static_cast<size_t>(d)] / total;
                    r.out.set(b, i, h, d, value);
                    r.acc.set(b, i, h, d, value);
                }
            }
    return r;
}

// A softcap, sinks or both; one sink in six is none.
inline void drawScores(CacheCase& c, std::mt19937_64& random) {
    std::uniform_real_distribution<double> logarithm(-1, 4), sink(-3, 5);
    const int64_t drawn = pick(random, 1, 3);
    if (drawn & 1) c.softcap = std::exp(logarithm(random));  // scores are of order 1
    for (int64_t h = 0; drawn & 2 && h < c.heads(); ++h)
        c.sinks.push_back(pick(random, 0, 5) ? static_cast<float>(sink(random)) : -INFINITY);
}

// Lengths around the borders of pages, of tiles and of pieces; groups, dims, windows, ragged queries. Every row within
// `capacity`.
inline CacheCase drawCacheCase(std::mt19937_64& random, int32_t dtype, int64_t longest) {
    static const int64_t groups[] = {1, 3, 4, 7, 8}, dims[] = {8, 16, 40, 64, 80, 128},
                         pageSizes[] = {1, 8, 16, 24, 64, 128};
    CacheCase c;
    c.dtype = dtype;
    c.batch = pick(random, 1, 5);
    c.group = groups[pick(random, 0, 4)];
    c.keyHeads = pick(random, 1, 3);
    c.queries = pick(random, 0, 2) ? pick(random, 1, std::min(int64_t{8}, 64 / c.group)) : 1;
    c.headDim = dims[pick(random, 0, 5)];
    c.valueDim = pick(random, 0, 2) ? c.headDim : dims[pick(random, 0, 5)];
    c.pageSize = pageSizes[pick(random, 0, 5)];
    c.capacity = pick(random, 1, longest);
    c.left = pick(random, 0, 2) ? -1 : pick(random, 0, 200);
    c.right = pick(random, 0, 4) ? 0 : pick(random, -1, 2);
    c.order = static_cast<Order>(pick(random, 0, 2));
    c.scale = 1 / std::sqrt(static_cast<double>(c.headDim));
    for (int64_t b = 0; b < c.batch; ++b) {
        const int64_t edges[] = {0,
                                 1,
                                 c.queries - 1,
                                 c.pageSize - 1,
                                 c.pageSize,
                                 c.pageSize + 1,
                                 1023,
                                 1024,
                                 1025,
                                 c.capacity,
                                 pick(random, 0, c.capacity)};
        c.lengths.push_back(static_cast<int32_t>(std::clamp(edges[pick(random, 0, 10)], int64_t{0}, c.capacity)));
        c.queryLengths.push_back(static_cast<int32_t>(pick(random, 0, 1) ? c.queries : pick(random, 0, c.queries)));
        c.begins.push_back(static_cast<int32_t>(pick(random, 0, 2) ? 0 : pick(random, 0, c.lengths.back())));
    }
    if (pick(random, 0, 3) == 0) c.queryLengths.clear();
    if (pick(random, 0, 3) == 0) c.begins.clear();
    c.draw(random);
    return c;
}

// The same rows with other groups and dims, and as many queries as the decode kernels pack at most. To be drawn anew.
inline void reshape(CacheCase& c, int64_t group, int64_t dim) {
    c.group = group;
    c.queries = std::min(c.queries, 64 / group);
    for (int32_t& count : c.queryLengths) count = std::min(count, static_cast<int32_t>(c.queries));
    c.headDim = c.valueDim = dim;
    c.scale = 1 / std::sqrt(static_cast<double>(dim));
}

inline constexpr Cache kCaches[] = {Cache::Contiguous, Cache::Numbered, Cache::Addressed};

// Random numbers of 2 key heads and 16 dims over batch rows of these lengths.
inline CacheCase smallCase(int32_t dtype, std::vector<int32_t> lengths, int64_t capacity, int64_t group = 4,
                           int64_t queries = 1) {
    CacheCase c;
    c.dtype = dtype;
    c.batch = static_cast<int64_t>(lengths.size());
    c.queries = queries;
    c.capacity = capacity;
    c.keyHeads = 2;
    c.group = group;
    c.headDim = c.valueDim = 16;
    c.lengths = std::move(lengths);
    c.scale = 0.25;
    std::mt19937_64 random(5);
    c.draw(random);
    return c;
}

#endif
