// Strided test tensors of any dtype, pre-filled with NaN and fenced by canaries.
#ifndef FLASHRING_TESTS_BUFFERS_H
#define FLASHRING_TESTS_BUFFERS_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "flashring.h"

#ifdef __SANITIZE_ADDRESS__
constexpr int kThinning = 4;  // instrumented code is slow: it runs a quarter of the random cases
#else
constexpr int kThinning = 1;
#endif

inline int failures = 0;

#define CHECK(condition, ...)                                       \
    do {                                                            \
        if (!(condition)) {                                         \
            std::fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);    \
            std::fprintf(stderr, __VA_ARGS__);                      \
            std::fprintf(stderr, "\n");                             \
            if (++failures > 20) std::exit(1);                      \
        }                                                           \
    } while (0)

inline int finish(const char* what, long cases) {
    std::printf("%s: %ld cases, %d failures\n", what, cases, failures);
    return failures ? 1 : 0;
}

inline int64_t sizeOf(int32_t dtype) { return dtype == FLASHRING_FLOAT64 ? 8 : dtype == FLASHRING_FLOAT32 ? 4 : 2; }

inline int32_t accType(int32_t dtype) { return dtype == FLASHRING_FLOAT64 ? FLASHRING_FLOAT64 : FLASHRING_FLOAT32; }

inline const char* nameOf(int32_t dtype) {
    static const char* const names[] = {"float64", "float32", "bfloat16", "float16"};
    return names[dtype];
}

// A 16-bit float by the definition of its format, independently of the library.
inline double decode16(int32_t dtype, int bits) {
    const int mantissaBits = dtype == FLASHRING_BFLOAT16 ? 7 : 10, exponentBits = 15 - mantissaBits;
    const int bias = (1 << (exponentBits - 1)) - 1, special = (1 << exponentBits) - 1;
    const int exponent = (bits >> mantissaBits) & special, mantissa = bits & ((1 << mantissaBits) - 1);
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == special) {
        return mantissa ? NAN : sign * INFINITY;
    }
    const double fraction = std::ldexp(mantissa, -mantissaBits) + (exponent ? 1 : 0);
    return sign * std::ldexp(fraction, (exponent ? exponent : 1) - bias);
}

inline std::vector<double> decodeTable(int32_t dtype) {
    std::vector<double> table;
    for (int bits = 0; bits < 65536; ++bits) table.push_back(decode16(dtype, bits));
    return table;
}

inline double decode(int32_t dtype, const char* address) {
    if (dtype == FLASHRING_FLOAT64) {
        double value;
        std::memcpy(&value, address, 8);
        return value;
    }
    if (dtype == FLASHRING_FLOAT32) {
        float value;
        std::memcpy(&value, address, 4);
        return value;
    }
    static const std::vector<double> bfloat16 = decodeTable(FLASHRING_BFLOAT16),
                                     float16 = decodeTable(FLASHRING_FLOAT16);
    uint16_t bits;
    std::memcpy(&bits, address, 2);
    return (dtype == FLASHRING_BFLOAT16 ? bfloat16 : float16)[bits];
}

inline void encode(int32_t dtype, char* address, double value) {
    if (dtype == FLASHRING_FLOAT64) {
        std::memcpy(address, &value, 8);
        return;
    }
    if (dtype == FLASHRING_FLOAT32) {
        const float narrow = static_cast<float>(value);
        std::memcpy(address, &narrow, 4);
        return;
    }
    const int mantissaBits = dtype == FLASHRING_BFLOAT16 ? 7 : 10, exponentBits = 15 - mantissaBits;
    const int bias = (1 << (exponentBits - 1)) - 1, special = (1 << exponentBits) - 1;
    uint16_t bits = std::signbit(value) ? 0x8000 : 0;
    const double magnitude = std::fabs(value);
    if (std::isnan(value)) {
        bits |= special << mantissaBits | 1 << (mantissaBits - 1);
    } else if (std::isinf(value)) {
        bits |= special << mantissaBits;
    } else if (magnitude > 0) {
        const int exponent = std::max(std::ilogb(magnitude), 1 - bias);
        const long units = std::lrint(std::ldexp(magnitude, mantissaBits - exponent));  // ties to even
        const long word = (static_cast<long>(exponent + bias - 1) << mantissaBits) + units;
        bits |= static_cast<uint16_t>(std::min(word, static_cast<long>(special) << mantissaBits));
    }
    std::memcpy(address, &bits, 2);
}

enum class Order { BSHD, BHSD, Padded };

class Buffer {
public:
    Buffer() = default;

    Buffer(int32_t dtype, int64_t batch, int64_t seq, int64_t heads, int64_t dim, Order order)
        : dtype_(dtype), batch_(batch), seq_(seq), heads_(heads), dim_(dim) {
        if (order == Order::BHSD) {
            seqStride_ = dim;
            headStride_ = dim * seq;
        } else {
            const int64_t pad = order == Order::Padded ? 3 : 0;
            headStride_ = dim + pad;
            seqStride_ = headStride_ * heads + pad;
        }
        batchStride_ = order == Order::BHSD ? headStride_ * heads : seqStride_ * seq;
        bytes_.assign(static_cast<size_t>(2 * kFence + batchStride_ * batch * sizeOf(dtype)), kCanary);
        fill(NAN);
    }

    flashring_tensor tensor() { return {bytes_.data() + kFence, batchStride_, seqStride_, headStride_}; }

    double get(int64_t b, int64_t s, int64_t h, int64_t d = 0) const {
        return decode(dtype_, bytes_.data() + at(b, s, h, d));
    }
    void set(int64_t b, int64_t s, int64_t h, int64_t d, double value) {
        encode(dtype_, bytes_.data() + at(b, s, h, d), value);
    }

    template <class Body>  // body(b, s, h, d)
    void forEach(const Body& body) const {
        for (int64_t b = 0; b < batch_; ++b)
            for (int64_t s = 0; s < seq_; ++s)
                for (int64_t h = 0; h < heads_; ++h)
                    for (int64_t d = 0; d < dim_; ++d) body(b, s, h, d);
    }

    void fill(double value) {
        const size_t size = static_cast<size_t>(sizeOf(dtype_));
        char element[8];
        encode(dtype_, element, value);
        forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            std::memcpy(bytes_.data() + at(b, s, h, d), element, size);
        });
    }

    // Every byte outside the elements still holds the canary.
    bool intact() const {
        Buffer holes = *this;
        holes.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            std::memset(holes.bytes_.data() + at(b, s, h, d), kCanary, static_cast<size_t>(sizeOf(dtype_)));
        });
        for (const char byte : holes.bytes_) {
            if (byte != kCanary) return false;
        }
        return true;
    }

    // Elements, holes and fences.
    char* memory() { return bytes_.data(); }
    size_t memoryBytes() const { return bytes_.size(); }

    bool sameBits(const Buffer& other) const { return bytes_ == other.bytes_; }

    int64_t batch() const { return batch_; }
    int64_t seq() const { return seq_; }
    int64_t heads() const { return heads_; }
    int64_t dim() const { return dim_; }

private:
    static constexpr int64_t kFence = 256;
    static constexpr char kCanary = 0x5a;

    size_t at(int64_t b, int64_t s, int64_t h, int64_t d) const {
        return static_cast<size_t>(kFence + (b * batchStride_ + s * seqStride_ + h * headStride_ + d) * sizeOf(dtype_));
    }

    int32_t dtype_ = FLASHRING_FLOAT32;
    int64_t batch_ = 0, seq_ = 0, heads_ = 0, dim_ = 0;
    int64_t batchStride_ = 0, seqStride_ = 0, headStride_ = 0;
    std::vector<char> bytes_;
};

// The largest |a - b| / max(1, |b|), with where it is; a NaN or infinity on one side only counts as infinite.
struct Difference {
    double largest = 0;
    int64_t b = 0, s = 0, h = 0, d = 0;
};

inline Difference difference(const Buffer& a, const Buffer& b) {
    Difference result;
    a.forEach([&](int64_t i, int64_t s, int64_t h, int64_t d) {
        const double x = a.get(i, s, h, d), y = b.get(i, s, h, d);
        const bool same = x == y || (std::isnan(x) && std::isnan(y));
        const double error = same                                   ? 0
                             : std::isfinite(x) && std::isfinite(y) ? std::fabs(x - y) / std::max(1.0, std::fabs(y))
                                                                    : INFINITY;
        if (error > result.largest) result = {error, i, s, h, d};
    });
    return result;
}

inline void checkClose(const std::string& context, const char* name, const Buffer& actual, const Buffer& expected,
                       double most) {
    const Difference worst = difference(actual, expected);
    CHECK(worst.largest <= most, "%s: %s differs by %g at (%lld, %lld, %lld, %lld), at most %g allowed",
          context.c_str(), name, worst.largest, static_cast<long long>(worst.b), static_cast<long long>(worst.s),
          static_cast<long long>(worst.h), static_cast<long long>(worst.d), most);
}

#endif
