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
                          1.33314422036e-1f) *
                             square +
                         -3.33332819422e-1f;
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

    // A row of scaled products becomes scores. `own` is the position of what the row belongs to, others[lane] that of
    // the lanes. Where `growth` is given, it gets dscore / d(scaled product).
    void row(T* scores, int64_t lanes, T own, const T* others, T* growth = nullptr) const {
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
                const Vec<T> distance = load(others + lane) - own;
                score -= slope * (distance < 0 ? -distance : distance);
            }
            store<T>(scores + lane, score);
        }
    }
};

// Position `token` from an origin; 0 without positions. Exact up to 2^24 (float), 2^53 (double).
template <class T>
T positionFrom(int64_t origin, const int64_t* positions, int64_t token) {
    return positions ? static_cast<T>(positions[token] - origin) : 0;
}

// Those of a tile in the vector lanes, then zeros.
template <class T>
struct LanePositions {
    alignas(kVectorBytes) T of[kTile] = {};

    LanePositions(int64_t origin, const int64_t* positions, int64_t first, int64_t count) {
        for (int64_t n = 0; n < count; ++n) {
            of[n] = positionFrom<T>(origin, positions, first + n);
        }
    }
};

}  // namespace
}  // namespace flashring

#endif
