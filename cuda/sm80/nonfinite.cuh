// NaN and infinity in the operands of the tensor cores (kernels.h): where a border of the mask and such a value meet in
// a tile, the products find 0 in its place, and the block adds it to the results of those who see it at the end.
#ifndef FLASHRING_CUDA_SM80_NONFINITE_CUH
#define FLASHRING_CUDA_SM80_NONFINITE_CUH

#include <math.h>

#include "common/attention.h"
#include "sm80/shared_tile.cuh"

namespace flashring {

// The bits of the exponent, all of which are set in NaN and infinity.
template <class Element>
constexpr uint32_t kExponent = 0x7c00;
template <>
inline constexpr uint32_t kExponent<__nv_bfloat16> = 0x7f80;

// The pair with zeros for what is not finite.
template <class Element>
__device__ inline uint32_t finitePart(uint32_t pair) {
    constexpr uint32_t kFirst = kExponent<Element>, kSecond = kFirst << 16;
    return ((pair & kFirst) == kFirst ? 0 : pair & 0xffff) | ((pair & kSecond) == kSecond ? 0 : pair & 0xffff0000);
}

// sum += 0 * pair, each half by itself.
template <class Element>
__device__ void addZeroTimes(uint32_t& sum, uint32_t pair) {
    if constexpr (__is_same(Element, __nv_bfloat16)) {
        asm("fma.rn.bf16x2 %0, %1, %2, %0;" : "+r"(sum) : "r"(pair), "r"(0));
    } else {
        asm("fma.rn.f16x2 %0, %1, %2, %0;" : "+r"(sum) : "r"(pair), "r"(0));
    }
}

// Whether any of the words that this thread has filled holds NaN or infinity: only of those, 0 * x is not 0.
template <class Element, int kThreads, int kRows, int kCols>
__device__ bool anyNonFinite(const SharedTile<kRows, kCols>& tile) {
    uint32_t sums[4] = {};
    Share<kThreads, kRows, kCols>::forEachWord(tile, [&](uint4& word) {
        addZeroTimes<Element>(sums[0], word.x);
        addZeroTimes<Element>(sums[1], word.y);
        addZeroTimes<Element>(sums[2], word.z);
        addZeroTimes<Element>(sums[3], word.w);
    });
    return (sums[0] | sums[1] | sums[2] | sums[3]) != 0;
}

// Puts 0 in place of what is not finite in the words that this thread has filled.
template <class Element, int kThreads, int kRows, int kCols>
__device__ void clearNonFinite(const SharedTile<kRows, kCols>& tile) {
    Share<kThreads, kRows, kCols>::forEachWord(tile, [](uint4& word) {
        word = {finitePart<Element>(word.x), finitePart<Element>(word.y), finitePart<Element>(word.z),
                finitePart<Element>(word.w)};
    });
}

// Whether local query i sees local key j; either may lie past the end.
__device__ inline bool sees(const Arguments& a, int i, int j) {
    return i < a.step.q_len && a.lo[i] <= j && j < a.hi[i];
}

// Calls add(r, c, sum) for the elements [rows, dim] of a result that the non-finite elements of `source` reach: of its
// rows k in [0, depth) those with met(r, k). Weights are left out: none of them makes such an element finite. Run by
// the whole block, with a barrier since the result was written. Rare, so short and slow.
template <int kThreads, class Element, class Met, class Add>
__device__ void addNonFinite(const Element* source, int64_t stride, int rows, int depth, int dim, const Met& met,
                             const Add& add) {
    for (int n = threadIdx.x; n < rows * dim; n += kThreads) {
        const int r = n / dim, c = n % dim;
        float sum = 0;
        for (int k = 0; k < depth; ++k) {
            const float value = met(r, k) ? static_cast<float>(source[k * stride + c]) : 0;
            sum += fabsf(value) < INFINITY ? 0 : value;
        }
        if (sum != 0) {
            add(r, c, sum);
        }
    }
}

// The largest bfloat16: times half the largest float32 it is infinite, times 0 it is 0.
constexpr uint32_t kMark = 0x7f7f;

template <class Element>
__device__ uint32_t marksOf(uint32_t pair) {
    const uint32_t finite = finitePart<Element>(pair), gone = finite ^ pair;
    return (gone & 0xffff ? kMark : 0) | (gone >> 16 ? kMark << 16 : 0);
}

// Moves what is not finite among the values out of the products' way: 0 takes its place, and `marks` gets kMark where
// it was, 0 elsewhere.
template <class Element, int kThreads, class Tile>
__device__ void markNonFinite(const Tile& values, const Tile& marks) {
    const auto offset = marks.memory - values.memory;
    Share<kThreads, Tile::kTileRows, Tile::kTileCols>::forEachWord(values, [&](uint4& word) {
        uint4& mark = *reinterpret_cast<uint4*>(reinterpret_cast<char*>(&word) + offset);
        mark = {marksOf<Element>(word.x), marksOf<Element>(word.y), marksOf<Element>(word.z), marksOf<Element>(word.w)};
        word = {finitePart<Element>(word.x), finitePart<Element>(word.y), finitePart<Element>(word.z),
                finitePart<Element>(word.w)};
    });
}

}  // namespace flashring

#endif
