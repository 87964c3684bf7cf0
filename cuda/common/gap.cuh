// The widest run of keys that none of a tile's queries sees, which the threads of a block look for together.
#ifndef FLASHRING_CUDA_COMMON_GAP_CUH
#define FLASHRING_CUDA_COMMON_GAP_CUH

namespace flashring {

// In shared memory, 0 at first: the gap's length in the upper half and its first key in the lower one, so that the
// largest is the widest.
using WidestGap = unsigned long long;

// Offers the keys [from, to) between those of one query and those of the next. Gaps of `narrowest` keys or fewer do not
// count.
__device__ inline void offerGap(WidestGap& widest, int from, int to, int narrowest) {
    if (to - from > narrowest) {
        atomicMax(&widest, static_cast<WidestGap>(to - from) << 32 | static_cast<unsigned>(from));
    }
}

struct Gap {
    int begin, end;
};

// The gap, empty at `end` where there is none; after a barrier.
__device__ inline Gap gapOf(WidestGap widest, int end) {
    const int length = static_cast<int>(widest >> 32), begin = length ? static_cast<int>(widest & 0xffffffff) : end;
    return {begin, begin + length};
}

}  // namespace flashring

#endif
