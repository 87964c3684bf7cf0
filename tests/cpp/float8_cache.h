// Caches whose elements are bytes, e4m3, and the format by its definition, independently of the library.
#ifndef FLASHRING_TESTS_FLOAT8_CACHE_H
#define FLASHRING_TESTS_FLOAT8_CACHE_H

#include "cache_case.h"

inline double decode8(int bits) {
    const int exponent = bits >> 3 & 15, mantissa = bits & 7;
    if (exponent == 15 && mantissa == 7) return NAN;
    const double magnitude = std::ldexp(exponent ? 8 + mantissa : mantissa, (exponent ? exponent : 1) - 10);
    return bits & 0x80 ? -magnitude : magnitude;
}

// The nearest, of two the even one; beyond the largest that one.
inline int encode8(double value) {
    static const std::vector<double> magnitudes = [] {
        std::vector<double> table;
        for (int bits = 0; bits < 0x7f; ++bits) table.push_back(decode8(bits));
        return table;
    }();
    if (std::isnan(value)) return 0x7f;
    const double magnitude = std::min(std::fabs(value), magnitudes.back());
    const auto above = std::lower_bound(magnitudes.begin(), magnitudes.end(), magnitude);
    auto best = static_cast<int>(above - magnitudes.begin());
    if (*above != magnitude) {
        const double below = magnitude - magnitudes[static_cast<size_t>(best - 1)], rest = *above - magnitude;
        best -= below < rest || (below == rest && best % 2 != 0);
    }
    return std::signbit(value) ? best | 0x80 : best;
}

// Any byte that is not NaN, times a scale: exact in bfloat16 where the scale has up to 4 bits.
inline double draw8(std::mt19937_64& random, double scale) {
    std::normal_distribution<double> normal;
    return decode8(encode8(normal(random))) * scale;
}

// The bytes of a buffer of values that are multiples of their head's scale; what lies between them is NaN.
class Bytes {
public:
    Bytes(Buffer& from, const std::vector<float>& scales) {
        flashring_tensor tensor = from.tensor();
        const int64_t last = (from.batch() - 1) * tensor.stride_batch + (from.seq() - 1) * tensor.stride_seq +
                             (from.heads() - 1) * tensor.stride_head + from.dim();
        bytes_.assign(static_cast<size_t>(last), 0x7f);
        from.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            bytes_[static_cast<size_t>(b * tensor.stride_batch + s * tensor.stride_seq + h * tensor.stride_head + d)] =
                static_cast<uint8_t>(
                    encode8(from.get(b, s, h, d) / static_cast<double>(scales[static_cast<size_t>(h)])));
        });
    }

    uint8_t* data() { return bytes_.data(); }
    const std::vector<uint8_t>& all() const { return bytes_; }
    bool operator==(const Bytes& other) const { return bytes_ == other.bytes_; }

private:
    std::vector<uint8_t> bytes_{};
};

// A cache stored in some way, as bytes.
struct Float8Cache {
    Stored of;
    std::vector<float> keyScales, valueScales;
    Bytes k, v;
    std::vector<const void*> keyPages{}, valuePages{};

    Float8Cache(const CacheCase& c, Cache how, uint64_t seed, std::vector<float> scalesOfKeys,
                std::vector<float> scalesOfValues)
        : of(c, how, seed),
          keyScales(std::move(scalesOfKeys)),
          valueScales(std::move(scalesOfValues)),
          k(of.k, keyScales),
          v(of.v, valueScales) {
        const auto moved = [](const std::vector<const void*>& pages, Buffer& from, Bytes& to) {
            std::vector<const void*> result = pages;
            const char* const first = static_cast<const char*>(from.tensor().data);
            for (const void*& page : result) {
                if (page != reinterpret_cast<const void*>(uintptr_t{1})) {
                    page = to.data() + (static_cast<const char*>(page) - first) / 2;
                }
            }
            return result;
        };
        keyPages = moved(of.keyPages, of.k, k);
        valuePages = moved(of.valuePages, of.v, v);
    }

    template <class Struct>
    void setOn(Struct& raw, const CacheCase& c) {
        of.setOn(raw, c);
        raw.kv_dtype = FLASHRING_KV_FLOAT8_E4M3;
        raw.k_scales = keyScales.data();
        raw.v_scales = valueScales.data();
        if (of.kind == Cache::Addressed) {
            raw.k_pages = const_cast<decltype(raw.k_pages)>(keyPages.data());
            raw.v_pages = const_cast<decltype(raw.v_pages)>(valuePages.data());
        } else {
            raw.k.data = k.data();
            raw.v.data = v.data();
        }
    }
};

// Scales of up to 4 bits, so that what the bytes stand for is exact in 16 bits.
inline std::vector<float> drawScales(std::mt19937_64& random, int64_t heads) {
    static const float some[] = {1, 0.5f, 0.25f, 1.5f, 0.75f, 2, 0.1875f};
    std::vector<float> scales;
    for (int64_t g = 0; g < heads; ++g) scales.push_back(some[pick(random, 0, 6)]);
    return scales;
}

// The case with keys and values that bytes stand for.
inline void drawBytes(CacheCase& c, std::mt19937_64& random, const std::vector<float>& keyScales,
                      const std::vector<float>& valueScales) {
    const auto draw = [&](Buffer& buffer, const std::vector<float>& scales) {
        buffer.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            buffer.set(b, s, h, d, draw8(random, static_cast<double>(scales[static_cast<size_t>(h)])));
        });
    };
    draw(c.k, keyScales);
    draw(c.v, valueScales);
    c.hide(NAN);
}

#endif
