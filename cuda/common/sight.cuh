// Which local keys a local query sees, from positions and mask in device memory.
#ifndef FLASHRING_CUDA_COMMON_SIGHT_CUH
#define FLASHRING_CUDA_COMMON_SIGHT_CUH

#include "flashring.h"
#include "visibility.h"

namespace flashring {

// Ranges of positions. The first one, often the only one, is loaded before it is needed.
class Ranges {
public:
    __device__ explicit Ranges(const flashring_positions& positions)
        : positions_(positions), first_(positions.count > 0 ? positions.ranges[0] : flashring_range{}) {}

    // The global position of local token i, or -1 where the ranges end before it.
    __device__ int64_t positionOf(int64_t i) const {
        for (int64_t r = 0; r < positions_.count; ++r) {
            const flashring_range range = at(r);
            if (i < range.length) {
                return range.start + i * range.stride;
            }
            i -= range.length;
        }
        return -1;
    }

    // The local tokens whose global position is below the bound.
    __device__ int64_t tokensBelow(int64_t bound) const {
        int64_t count = 0;
        for (int64_t r = 0; r < positions_.count; ++r) {
            const flashring_range range = at(r);
            const int64_t inside = countBelow(range, bound);
            count += inside;
            if (inside < range.length) {
                break;
            }
        }
        return count;
    }

private:
    __device__ flashring_range at(int64_t r) const { return r == 0 ? first_ : positions_.ranges[r]; }

    const flashring_positions& positions_;
    const flashring_range first_;
};

// The first document that ends after position q.
__device__ inline int64_t documentOf(const flashring_mask& mask, int64_t q) {
    int64_t first = 0, last = mask.cu_seqlens ? mask.documents : 0;
    while (first < last) {
        const int64_t middle = (first + last) / 2;
        if (mask.cu_seqlens[middle + 1] <= q) {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    return first;
}

struct Sight {
    const flashring_step& step;
    const Ranges queries, keys;

    __device__ explicit Sight(const flashring_step& s) : step(s), queries(s.q_positions), keys(s.kv_positions) {}

    // The local keys that local query i sees.
    __device__ Interval operator()(int64_t i) const {
        const int64_t q = queries.positionOf(i);
        if (q < 0) {
            return {0, 0};
        }
        const Interval seen = visible(step.mask, documentAt(step.mask, documentOf(step.mask, q)), q);
        const int64_t first = min(keys.tokensBelow(seen.first), step.kv_len);
        return {first, max(first, min(keys.tokensBelow(seen.last), step.kv_len))};
    }
};

}  // namespace flashring

#endif
