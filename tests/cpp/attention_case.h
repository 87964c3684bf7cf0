// One attention problem: its operands, how to run it through flashring.h, and its mask by definition.
#ifndef FLASHRING_TESTS_ATTENTION_CASE_H
#define FLASHRING_TESTS_ATTENTION_CASE_H

#include <algorithm>
#include <memory>
#include <random>
#include <string>

#include "buffers.h"

struct Mask {
    int64_t left = -1, right = -1;
    std::vector<int64_t> cuSeqlens{}, prefixLengths{};
};

inline std::vector<int64_t> positionsOf(const std::vector<flashring_range>& ranges) {
    std::vector<int64_t> positions;
    for (const auto& range : ranges)
        for (int64_t n = 0; n < range.length; ++n) positions.push_back(range.start + n * range.stride);
    return positions;
}

// The drawing in flashring.h, one pair at a time.
inline bool sees(const Mask& mask, int64_t q, int64_t k) {
    int64_t start = 0, end = INT64_MAX, prefix = mask.prefixLengths.empty() ? 0 : mask.prefixLengths[0];
    if (!mask.cuSeqlens.empty()) {
        size_t i = 0;
        while (i + 1 < mask.cuSeqlens.size() && !(mask.cuSeqlens[i] <= q && q < mask.cuSeqlens[i + 1])) ++i;
        if (i + 1 >= mask.cuSeqlens.size()) return false;
        start = mask.cuSeqlens[i];
        end = mask.cuSeqlens[i + 1];
        prefix = mask.prefixLengths.empty() ? 0 : mask.prefixLengths[i];
    }
    const bool inDocument = start <= k && k < end;
    const bool notTooOld = mask.left < 0 || k >= q - mask.left;
    const bool notTooNew = mask.right < 0 || k <= q + mask.right || k < start + prefix;
    return inDocument && notTooOld && notTooNew;
}

struct Shape {
    int64_t batch = 1, qLen = 1, kvLen = 1, qHeads = 1, kvHeads = 1, headDim = 1, valueDim = 1;
};

struct Case {
    int32_t dtype = FLASHRING_FLOAT64;
    Shape shape{};
    Mask mask{};
    std::vector<flashring_range> qRanges{}, kvRanges{};
    Order order = Order::BSHD;
    double scale = 1;
    double softcap = 0;
    std::vector<double> sinks{}, slopes{};  // of each query head, or none
    bool keepsLow = true;  // what rounding takes from lse goes from step to step
    Buffer q{}, k{}, v{}, dout{};

    // Operands drawn from N(0, 1).
    void draw(std::mt19937_64& random) {
        q = Buffer(dtype, shape.batch, shape.qLen, shape.qHeads, shape.headDim, order);
        k = Buffer(dtype, shape.batch, shape.kvLen, shape.kvHeads, shape.headDim, order);
        v = Buffer(dtype, shape.batch, shape.kvLen, shape.kvHeads, shape.valueDim, order);
        dout = Buffer(dtype, shape.batch, shape.qLen, shape.qHeads, shape.valueDim, order);
        std::normal_distribution<double> normal;
        for (Buffer* buffer : {&q, &k, &v, &dout}) {
            buffer->forEach(
                [&](int64_t b, int64_t s, int64_t h, int64_t d) { buffer->set(b, s, h, d, normal(random)); });
        }
    }

    std::string describe() const {
        char text[400];
        std::snprintf(text, sizeof text,
                      "%s b%lld q%lld kv%lld h%lld/%lld d%lld/%lld left %lld right %lld docs %zu prefixes %zu order %d",
                      nameOf(dtype), static_cast<long long>(shape.batch), static_cast<long long>(shape.qLen),
                      static_cast<long long>(shape.kvLen), static_cast<long long>(shape.qHeads),
                      static_cast<long long>(shape.kvHeads), static_cast<long long>(shape.headDim),
                      static_cast<long long>(shape.valueDim), static_cast<long long>(mask.left),
                      static_cast<long long>(mask.right),
                      mask.cuSeqlens.empty() ? size_t{0} : mask.cuSeqlens.size() - 1, mask.prefixLengths.size(),
                      static_cast<int>(order));
        return text;
    }
};

struct Results {
    Buffer out, acc, lse, delta, dq, dk, dv, lseLow, dsinks;

    Results(const Case& c, int32_t dtype) {
        const Shape& s = c.shape;
        const int32_t wide = accType(dtype);
        out = Buffer(dtype, s.batch, s.qLen, s.qHeads, s.valueDim, c.order);
        acc = Buffer(wide, s.batch, s.qLen, s.qHeads, s.valueDim, c.order);
        lse = Buffer(wide, s.batch, s.qLen, s.qHeads, 1, c.order);
        delta = Buffer(wide, s.batch, s.qLen, s.qHeads, 1, c.order);
        dq = Buffer(wide, s.batch, s.qLen, s.qHeads, s.headDim, c.order);
        dk = Buffer(wide, s.batch, s.kvLen, s.kvHeads, s.headDim, c.order);
        dv = Buffer(wide, s.batch, s.kvLen, s.kvHeads, s.valueDim, c.order);
        lseLow = Buffer(wide, s.batch, s.qLen, s.qHeads, 1, c.order);
        dsinks = Buffer(wide, 1, 1, s.qHeads, 1, Order::BSHD);
    }

    explicit Results(const Case& c) : Results(c, c.dtype) {}

    bool intact() const {
        return out.intact() && acc.intact() && lse.intact() && delta.intact() && dq.intact() && dk.intact() &&
               dv.intact() && lseLow.intact() && dsinks.intact();
    }
};

// The step struct for queries of a case against the keys [first, first + count) of it. Keeps the ranges and the
// workspace alive.
class Step {
public:
    flashring_step raw{};

    Step(Case& c, Results& r, int32_t kernel, int64_t first, int64_t count)
        : kvRanges_(slice(c.kvRanges, first, count)), sinks_(ofHeads(c, c.sinks)), slopes_(ofHeads(c, c.slopes)) {
        const Shape& s = c.shape;
        raw.size = sizeof raw;
        raw.device = FLASHRING_HOST;
        raw.dtype = c.dtype;
        raw.kernel = kernel;
        raw.deterministic = 1;
        raw.batch = s.batch;
        raw.q_len = s.qLen;
        raw.kv_len = count;
        raw.q_heads = s.qHeads;
        raw.kv_heads = s.kvHeads;
        raw.head_dim = s.headDim;
        raw.value_dim = s.valueDim;
        raw.softmax_scale = c.scale;
        raw.q_positions = {c.qRanges.data(), static_cast<int64_t>(c.qRanges.size())};
        raw.kv_positions = {kvRanges_.data(), static_cast<int64_t>(kvRanges_.size())};
        raw.mask = {c.mask.left, c.mask.right, c.mask.cuSeqlens.empty() ? nullptr : c.mask.cuSeqlens.data(),
                    c.mask.cuSeqlens.empty() ? 0 : static_cast<int64_t>(c.mask.cuSeqlens.size()) - 1,
                    c.mask.prefixLengths.empty() ? nullptr : c.mask.prefixLengths.data()};
        raw.q = c.q.tensor();
        raw.k = from(c.k, first, sizeOf(c.dtype));
        raw.v = from(c.v, first, sizeOf(c.dtype));
        raw.out = r.out.tensor();
        raw.acc = r.acc.tensor();
        raw.lse = r.lse.tensor();
        raw.dout = c.dout.tensor();
        raw.delta = r.delta.tensor();
        raw.dq = r.dq.tensor();
        raw.dk = from(r.dk, first, sizeOf(accType(c.dtype)));
        raw.dv = from(r.dv, first, sizeOf(accType(c.dtype)));
        raw.softcap = c.softcap;
        raw.sinks = c.sinks.empty() ? nullptr : sinks_.tensor().data;
        raw.alibi_slopes = c.slopes.empty() ? nullptr : slopes_.tensor().data;
        raw.dsinks = c.sinks.empty() ? nullptr : r.dsinks.tensor().data;
    }

    int32_t forward(int32_t flags) { return run(flashring_forward_step, FLASHRING_FORWARD, flags); }
    int32_t backward(int32_t flags) { return run(flashring_backward_step, FLASHRING_BACKWARD, flags); }
    int32_t delta() { return flashring_delta(&raw); }

private:
    static flashring_tensor from(Buffer& buffer, int64_t first, int64_t size) {
        flashring_tensor tensor = buffer.tensor();
        tensor.data = static_cast<char*>(tensor.data) + first * tensor.stride_seq * size;
        return tensor;
    }

    static Buffer ofHeads(const Case& c, const std::vector<double>& values) {
        Buffer buffer(accType(c.dtype), 1, 1, static_cast<int64_t>(values.size()), 1, Order::BSHD);
        buffer.forEach(
            [&](int64_t, int64_t, int64_t h, int64_t) { buffer.set(0, 0, h, 0, values[static_cast<size_t>(h)]); });
        return buffer;
    }

    static std::vector<flashring_range> slice(const std::vector<flashring_range>& ranges, int64_t first,
                                              int64_t count) {
        std::vector<flashring_range> result;
        for (flashring_range range : ranges) {
            const int64_t skip = std::min(first, range.length);
            first -= skip;
            const int64_t length = std::min(count, range.length - skip);
            count -= length;
            result.push_back({range.start + skip * range.stride, length, range.stride});
        }
        return result;
    }

    int32_t run(int32_t (*call)(const flashring_step*), int32_t direction, int32_t flags) {
        raw.flags = flags;
        int64_t bytes = 0;
        if (const int32_t status = flashring_workspace_bytes(&raw, direction, &bytes)) return status;
        workspace_.reset(static_cast<char*>(flashring_host_allocate(bytes + 64)));
        std::memset(workspace_.get(), 0x5a, static_cast<size_t>(bytes + 64));
        raw.workspace = workspace_.get();
        raw.workspace_bytes = bytes;
        const int32_t status = call(&raw);
        for (int64_t i = bytes; i < bytes + 64; ++i) CHECK(workspace_.get()[i] == 0x5a, "wrote past the workspace");
        return status;
    }

    struct Free {
        void operator()(char* memory) const { flashring_host_free(memory); }
    };

    std::vector<flashring_range> kvRanges_;
    Buffer sinks_, slopes_;
    std::unique_ptr<char, Free> workspace_;
};

// Forward, delta and backward, in blocks of keys that end at `splits` (ascending) and at kvLen.
inline void run(Case& c, Results& r, int32_t kernel, std::vector<int64_t> splits = {}) {
    splits.push_back(c.shape.kvLen);
    const auto require = [&](int32_t status, const char* what) {
        CHECK(status == FLASHRING_OK, "%s: %s: %s", what, c.describe().c_str(), flashring_last_error());
    };
    int64_t first = 0;
    for (size_t i = 0; i < splits.size(); ++i) {
        Step step(c, r, kernel, first, splits[i] - first);
        if (c.keepsLow && splits.size() > 1) step.raw.lse_low = r.lseLow.tensor();
        const int32_t flags = (i > 0 ? FLASHRING_RESUME : 0) | (i + 1 == splits.size() ? FLASHRING_FINISH : 0);
        require(step.forward(flags), "forward");
        first = splits[i];
    }
    Step whole(c, r, kernel, 0, c.shape.kvLen);
    require(whole.delta(), "delta");
    first = 0;
    for (size_t i = 0; i < splits.size(); ++i) {
        Step step(c, r, kernel, first, splits[i] - first);
        require(step.backward(i > 0 ? FLASHRING_ADD_DQ : 0), "backward");
        first = splits[i];
    }
}

// The rows of the capability table that this machine can run, forward and backward where `both`; where
// FLASHRING_TEST_KERNEL names a kernel, its rows alone, and without any the test is skipped.
inline std::vector<flashring_capability> availableRows(bool both = true) {
    std::vector<flashring_capability> rows;
    const char* const only = std::getenv("FLASHRING_TEST_KERNEL");
    for (int32_t i = 0; i < flashring_capability_count(); ++i) {
        flashring_capability row{};
        row.size = sizeof row;
        CHECK(flashring_capability_get(i, &row) == FLASHRING_OK, "%s", flashring_last_error());
        if (row.available && !row.cuda && (row.backward || !both) && (!only || std::string(only) == row.name))
            rows.push_back(row);
    }
    if (only && rows.empty()) {
        std::printf("skipped: this machine cannot run %s\n", only);
        std::exit(77);
    }
    return rows;
}

// How far results may lie from exact ones on operands of order 1, relative to max(1, |result|).
struct Bars {
    double out, state, gradient;  // out; acc, lse and dv; dq and dk, which see the rounding of out through delta
};

inline Bars barsOf(const flashring_capability& row) {
    if (row.kernel == FLASHRING_KERNEL_AMX || row.kernel == FLASHRING_KERNEL_AVX512BF16) {
        return {2e-2, 2e-2, 1e-1};  // P and dS are rounded to bfloat16
    }
    switch (row.dtype) {
        case FLASHRING_FLOAT64: return {1e-12, 1e-12, 1e-12};
        case FLASHRING_FLOAT32: return {2e-5, 2e-5, 2e-5};
        case FLASHRING_BFLOAT16: return {8e-3, 2e-5, 8e-2};
        default: return {1e-3, 2e-5, 1e-2};
    }
}

// ---- random cases ----

inline int64_t pick(std::mt19937_64& random, int64_t first, int64_t last) {
    return std::uniform_int_distribution<int64_t>(first, last)(random);
}

// `length` positions below about `total` in one of the layouts of a ring: contiguous, zigzag, striped.
inline std::vector<flashring_range> drawRanges(std::mt19937_64& random, int64_t length) {
    switch (pick(random, 0, 3)) {
        case 0: return {{pick(random, 0, length), length, 1}};
        case 1: {
            const int64_t head = length / 2, start = pick(random, 0, length + 1);
            return {{start, head, 1}, {start + head + pick(random, 0, 2 * length), length - head, 1}};
        }
        case 2: return {{pick(random, 0, 3), length, pick(random, 2, 4)}};
        default: return {{0, length, 1}};
    }
}

inline Mask drawMask(std::mt19937_64& random, int64_t span) {
    Mask mask;
    if (pick(random, 0, 2)) mask.right = pick(random, 0, 3) ? 0 : pick(random, 0, span / 4 + 1);
    if (pick(random, 0, 3) == 0) mask.left = pick(random, 0, span / 2 + 1);
    if (pick(random, 0, 1)) {
        mask.cuSeqlens = {0};
        while (mask.cuSeqlens.back() < span && mask.cuSeqlens.size() < 9) {
            mask.cuSeqlens.push_back(mask.cuSeqlens.back() + pick(random, 0, span / 3 + 1));
        }
    }
    if (pick(random, 0, 3) == 0) {
        const size_t count = mask.cuSeqlens.empty() ? 1 : mask.cuSeqlens.size() - 1;
        for (size_t i = 0; i < count; ++i) mask.prefixLengths.push_back(pick(random, 0, span / 3 + 1));
    }
    return mask;
}

inline Case drawCase(std::mt19937_64& random, int32_t dtype, int64_t longest) {
    static const int64_t dims[] = {1, 2, 3, 7, 16, 17, 40, 64, 80, 96, 128, 192, 256};
    Case c;
    c.dtype = dtype;
    c.shape.batch = pick(random, 1, 2);
    c.shape.qLen = pick(random, 0, longest);
    c.shape.kvLen = pick(random, 0, 3) ? c.shape.qLen : pick(random, 0, longest);
    c.shape.kvHeads = pick(random, 1, 2);
    c.shape.qHeads = c.shape.kvHeads * pick(random, 1, 3);
    c.shape.headDim = dims[pick(random, 0, 12)];
    c.shape.valueDim = pick(random, 0, 2) ? c.shape.headDim : dims[pick(random, 0, 12)];
    c.scale = 1 / std::sqrt(static_cast<double>(c.shape.headDim));
    c.qRanges = drawRanges(random, c.shape.qLen);
    c.kvRanges = pick(random, 0, 1) && c.shape.kvLen == c.shape.qLen ? c.qRanges : drawRanges(random, c.shape.kvLen);
    c.mask = drawMask(random, 2 * longest);
    c.order = static_cast<Order>(pick(random, 0, 2));
    c.draw(random);
    return c;
}

#endif
