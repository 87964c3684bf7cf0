// How gradients leave a block: dQ, which blocks share, by additions that may take turns; dK and dV by themselves.
#ifndef FLASHRING_CUDA_SM80_GRADIENTS_CUH
#define FLASHRING_CUDA_SM80_GRADIENTS_CUH

#include "common/outputs.cuh"
#include "sm80/mma.cuh"

namespace flashring {

// Blocks that share a query tile add to its dQ in the order of their keys: `turn` counts those that have.
__device__ inline void awaitTurn(const int32_t* turn, int32_t own) {
    if (threadIdx.x == 0) {
        int32_t now;
        do {
            asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(now) : "l"(turn) : "memory");
        } while (now != own);
    }
    __syncthreads();
}

__device__ inline void passTurn(int32_t* turn, int32_t own) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(turn), "r"(own + 1) : "memory");
    }
}

// first ? a : b, as one instruction: the compiler would gather such choices into branches.
__device__ inline float choose(int first, float a, float b) {
    float r;
    asm("{ .reg .pred p; setp.ne.s32 p, %3, 0; selp.f32 %0, %1, %2, p; }" : "=f"(r) : "f"(a), "f"(b), "r"(first));
    return r;
}

// Adds scale * acc to rows of dq. Where the device adds four neighbours at once and all of it lies inside (and rows
// start on 16 bytes: `vector`), lanes of a quad swap so that each has four: half as many lines of memory for an
// instruction to touch as with pairs.
template <int kM, int kN>
__device__ void addToDq(float (&acc)[kM][kN][4], float* dq, int64_t stride, int rows, int firstDim, int dim,
                        float scale, bool vector) {
    static_assert(kN % 2 == 0, "columns are swapped in pairs");
    const int lane = threadIdx.x % 32, odd = lane % 2;
    const auto rowOf = [&](int m, int half) { return m * 16 + half * 8 + lane / 4; };
    if (kAddsFour && vector && rows >= kM * 16 && firstDim + kN * 8 <= dim) {
        float* const target = dq + firstDim + odd * 8 + lane % 4 / 2 * 4;
#pragma unroll
        for (int m = 0; m < kM; ++m) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
#pragma unroll
                for (int n = 0; n < kN; n += 2) {
                    const float l0 = acc[m][n][half * 2] * scale, l1 = acc[m][n][half * 2 + 1] * scale;
                    const float r0 = acc[m][n + 1][half * 2] * scale, r1 = acc[m][n + 1][half * 2 + 1] * scale;
                    const float x = __shfl_xor_sync(~0u, choose(odd, l0, r0), 1),
                                y = __shfl_xor_sync(~0u, choose(odd, l1, r1), 1);
                    addFour(target + rowOf(m, half) * stride + n * 8, choose(odd, x, l0), choose(odd, y, l1),
                            choose(odd, r0, x), choose(odd, r1, y));
                }
            }
        }
        return;
    }
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float* const target = dq + rowOf(m, half) * stride;
            forEachPair(acc, m, half, [&](int col, float x, float y) {
                if (rowOf(m, half) < rows && firstDim + col < dim) {
                    atomicAdd(target + firstDim + col, x * scale);
                }
                if (rowOf(m, half) < rows && firstDim + col + 1 < dim) {
                    atomicAdd(target + firstDim + col + 1, y * scale);
                }
            });
        }
    }
}

// Writes (or adds) scale * acc to rows of dk or dv.
template <int kM, int kN>
__device__ void storeGradient(float (&acc)[kM][kN][4], float* target, int64_t stride, int rows, int firstDim, int dim,
                              float scale, bool add, bool vector) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int j = m * 16 + half * 8 + static_cast<int>(threadIdx.x) % 32 / 4;
            if (j < rows) {
                forEachPair(acc, m, half, [&](int col, float x, float y) {
                    const float2 before = add ? loadPair(target + j * stride, firstDim + col, dim, vector) : float2{};
                    storePair(target + j * stride, firstDim + col, dim, vector, fmaf(x, scale, before.x),
                              fmaf(y, scale, before.y));
                });
            }
        }
    }
}

}  // namespace flashring

#endif
