// What forward kernels keep of a row between tiles of keys.
#ifndef FLASHRING_CUDA_SM80_ROW_STATE_CUH
#define FLASHRING_CUDA_SM80_ROW_STATE_CUH

#include <math.h>

namespace flashring {

// A maximum of the scores, which may be a little behind, and the sum of the weights against it; each lane of a quad
// holds its own part of the sum.
struct RowState {
    float maximum, sum;
};

// A row that has seen nothing yet may weigh against anything.
__device__ inline float shiftOf(float maximum) { return maximum == -INFINITY ? 0 : maximum; }

}  // namespace flashring

#endif
