// Binary search by a whole block.
#ifndef FLASHRING_CUDA_SM80_BLOCK_SEARCH_CUH
#define FLASHRING_CUDA_SM80_BLOCK_SEARCH_CUH

#include "rounding.h"

namespace flashring {

// How many leading indices of [0, length) satisfy a predicate that holds for a prefix of them. Run by the whole block.
template <int kThreads, class Predicate>
__device__ int prefixLength(int length, const Predicate& holds) {
    int begin = 0, end = length;
    while (begin < end) {
        const int part = ceilDiv(end - begin, kThreads);
        const int last = begin + (static_cast<int>(threadIdx.x) + 1) * part - 1;
        begin += part * __syncthreads_count(last < end && holds(last));
        end = min(begin + part - 1, end);
    }
    return begin;
}

}  // namespace flashring

#endif
