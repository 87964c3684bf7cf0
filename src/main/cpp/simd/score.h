// What becomes of scaled products before the softmax (flashring.h): softcap, then ALiBi, alike in both directions.
#ifndef FLASHRING_SIMD_SCORE_H
#define FLASHRING_SIMD_SCORE_H

#include "kernels.h"
#include "simd/tiles.h"

namespace flashring {
namespace {

// tanh x near 0 as x + x^3 P(x^2) (float), x + x^3 P(x^2) / Q(x^2) (double): Cephes (Moshier 1989), tanhf.c and tanh.c.
template <class T>
Vec<T> tanhNear(Vec<T> x) {
    const Vec<T> square = x * x;
    if constexpr (sizeof(T) == sizeof(float)) {
        const Vec<T> p = (((square * -5.70498872745e-3f + 2.06390887954e-2f) * square + -5.37397155531e-2f) * square +
                          1.33314422036e-1f) * square + -3.33332819422e-1f;
        return x + x * square * p;
    } else {
        const Vec<T> p =
            (square * -9.64399179425052238628e-1 + -9.92877231001918586564e1) * square + -1.61468768441708447952e3;
        const Vec<T> q = ((square + 1.12811678491632931402e2) * square + 2.23548839060100448583e3) * square +
                         4.84406305325125486048e3;
        return x + x * square * (p / q);
    }
}

// Within 2^-22 (float), 2^-51 (double) of tanh x, relative. NaN stays NaN.
template <class T>
Vec<T> tanh(Vec<T> x) {
    const Vec<T> size = x < 0 ? -x : x;
    const Vec<T> square = exp<T>(2 * minimum(opaque(broadcast<T>(20)), size));  // from 20 on the result is 1
    const Vec<T> far = 1 - 2 / (square + 1);
    return size < static_cast<T>(0.625) ? tanhNear<T>(x) : (x < 0 ? -far : far);
}

// Of the scores of one head.
template <class T>
struct Shaping {
    T softcap, slope;  // 0: none

    Shaping(const flashring_step& step, int64_t head)
        : softcap(static_cast<T>(step.softcap)),
          slope(step.alibi_slopes ? static_cast<const T*>(step.alibi_slopes)[head] : 0) {}

    bool any() const { return softcap != 0 || slope != 0; }

    // A row of scaled products becomes scores. distances[lane] is that of query and key, where there is a slope. Where
    // `growth` is given, it gets dscore / d(scaled product).
    void row(T* scores, int64_t lanes, const T* distances, T* growth = nullptr) const {
        for (int64_t lane = 0; lane < lanes; lane += kLanes<T>) {
            Vec<T> score = load(scores + lane);
            if (softcap != 0) {
                const Vec<T> bounded = flashring::tanh<T>(score / softcap);
                score = softcap * bounded;
                if (growth) {
                    store<T>(growth + lane, 1 - bounded * bounded);
                }
            }
            if (slope != 0) {
                score -= slope * load(distances + lane);
            }
            store<T>(scores + lane, score);
        }
    }
};

// How far one token after the other is from the `count` tokens of a tile, which are in the vector lanes. 0 without
// positions.
template <class T>
class Distances {
public:
    Distances(const int64_t* positions, int64_t first, int64_t count)
        : lanes_(positions ? positions + first : nullptr),
          count_(count),
          near_(lanes_ && lanes_[count - 1] - lanes_[0] < kExact) {
        for (int64_t n = 0; lanes_ && n < count; ++n) {
            offsets_[n] = static_cast<T>(lanes_[n] - lanes_[0]);
        }
    }

    // Those from positions[token], each rounded once. Valid until the next call.
    const T* from(const int64_t* positions, int64_t token) {
        if (!lanes_) {
            return distances_;
        }
        const int64_t own = positions[token] - lanes_[0];
        if (near_ && own > -kExact && own < kExact) {
            for (int64_t n = 0; n < kTile; ++n) {
                distances_[n] = absolute(offsets_[n] - static_cast<T>(own));
            }
        } else {  // offsets are rounded, too
            for (int64_t n = 0; n < count_; ++n) {
                distances_[n] = absolute(static_cast<T>(lanes_[n] - positions[token]));
            }
        }
        return distances_;
    }

private:
    static constexpr int64_t kExact = INT64_C(1) << (sizeof(T) == sizeof(float) ? 24 : 53);  // integers below are

    static T absolute(T x) { return x < 0 ? -x : x; }

    const int64_t* const lanes_;  // their positions
    const int64_t count_;
    const bool near_;
    alignas(kVectorBytes) T offsets_[kTile] = {};
    alignas(kVectorBytes) T distances_[kTile] = {};
};

}  // namespace
}  // namespace flashring

#endif
