// How results leave the Hopper backward kernel: by way of shared memory and the copy engine.
#ifndef FLASHRING_CUDA_SM90_BACKWARD_OUTPUTS_CUH
#define FLASHRING_CUDA_SM90_BACKWARD_OUTPUTS_CUH

#include "sm90/backward_copies.cuh"

namespace flashring {

// Adds kColumns columns of a warp's 16 queries of dQ to what is gathered, by way of `staging`.
template <int kColumns>
__device__ __forceinline__ void addGathered(const float (&dq)[kColumns / 2], char* staging, float* target) {
    const int lane = threadIdx.x % 32;
    if (lane == 0) {
        waitForBoxes();
    }
    __syncwarp();
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
        *reinterpret_cast<float4*>(staging + n * 512 + lane * 16) = {dq[n * 4], dq[n * 4 + 1], dq[n * 4 + 2],
                                                                     dq[n * 4 + 3]};
    }
    orderBeforeCopies();
    __syncwarp();
    if (lane == 0) {
        addBytes(target, sharedAddress(staging), kColumns * 64);
        commitBoxes();
    }
}

// A box of 16 keys and 32 columns of dk or dv.
constexpr int kGradientBoxBytes = 16 * 128;

// scale * gradient, a warp's 16 rows, to kDim / 32 boxes of shared memory.
template <int kDim>
__device__ __forceinline__ void stageGradient(const float (&gradient)[kDim / 2], float scale, char* boxes) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = half * 8 + lane / 4, word = n % 4 * 2 + lane % 4 / 2;  // of 16 bytes, swizzled
            *reinterpret_cast<float2*>(boxes + n / 4 * kGradientBoxBytes + row * 128 + (word ^ row % 8) * 16 +
                                       lane % 2 * 8) = {gradient[n * 4 + half * 2] * scale,
                                                        gradient[n * 4 + half * 2 + 1] * scale};
        }
    }
}

// Writes those boxes to a gradient from `row` on, or adds them. Rows past the end are left out.
template <int kDim>
__device__ __forceinline__ void sendGradient(const CUtensorMap& map, const char* boxes, int row, int head, int batch,
                                             bool add) {
    orderBeforeCopies();
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
        for (int box = 0; box < kDim / 32; ++box) {
            const uint32_t source = sharedAddress(boxes + box * kGradientBoxBytes);
            add ? addBox(map, box * 32, row, head, batch, source) : storeBox(map, box * 32, row, head, batch, source);
        }
        commitBoxes();
    }
}

// Writes scale * gradient to a warp's 16 rows of dk or dv from `key` on, or adds it, by way of kDim / 32 boxes. Rows
// past the end are left out.
template <int kDim>
__device__ __forceinline__ void storeGradient(const float (&gradient)[kDim / 2], float scale, const CUtensorMap& map,
                                              char* boxes, int key, const BackwardWork& work, bool add) {
    stageGradient<kDim>(gradient, scale, boxes);
    sendGradient<kDim>(map, boxes, key, work.keyHead, work.batch, add);
}

// Zeros in a tile of shared memory, by kThreads threads.
template <int kThreads, int kBytes>
__device__ __forceinline__ void clearTile(char (&tile)[kBytes], int thread) {
#pragma unroll 1
    for (int i = thread * 16; i < kBytes; i += kThreads * 16) {
        *reinterpret_cast<uint4*>(tile + i) = {};
    }
}

// Zeros in the block's rows of dk or dv.
template <int kThreads>
__device__ __forceinline__ void clearRows(const flashring_step& step, const flashring_tensor& target, int dim,
                                          const BackwardWork& work, int keys, int thread) {
    const int rows = min(keys, static_cast<int>(step.kv_len) - work.firstKey);
#pragma unroll 1
    for (int i = thread; i < rows * dim; i += kThreads) {
        row<float>(target, work.batch, work.firstKey + i / dim, work.keyHead)[i % dim] = 0;
    }
}

}  // namespace flashring

#endif
