// A warp's 16 rows: the state that earlier steps left of them, and what lse and output become at their end.
#ifndef FLASHRING_CUDA_SM90_STATE_CUH
#define FLASHRING_CUDA_SM90_STATE_CUH

#include "common/outputs.cuh"
#include "sm90/arguments.h"
#include "sm90/ptx.cuh"
#include "sm90/softmax.cuh"
#include "sm90/tiles.h"

namespace flashring {

// Loads lse of this lane's two rows, of the 16 that a warp holds from `first` on; -inf where there is none yet.
template <bool kResume>
__device__ __forceinline__ void loadLse(const flashring_step& step, Lse (&lse)[2], int first, int head, int batch) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int query = first + half * 8 + threadIdx.x % 32 / 4;
        const bool resumes = kResume && query >= 0 && query < step.q_len;
        lse[half] = resumes ? loadLse(step, batch, query, head) : Lse{-INFINITY, 0};
    }
}

// reference + ln(sum). The sum's power of two is split off: for the rest the fast logarithm is within 2^-22.
__device__ __forceinline__ Lse lseOf(float reference, float sum) {
    const int power = (__float_as_int(sum) & 0x7f800000) - __float_as_int(1.0f);  // times 2^23
    const float rest = log2Fast(sum * __int_as_float(__float_as_int(1.0f) - power));
    return addLog(reference, fmaf(static_cast<float>(power), 0x1p-23f, rest) * static_cast<float>(M_LN2));
}

__device__ __forceinline__ float inverseOf(float sum) { return sum == 0 ? 0 : reciprocalFast(sum); }

// Brings acc of a tile into the L2 cache, long before its consumers load it. Run by one warp.
template <int kQueries>
__device__ __forceinline__ void prefetchEarlier(const Arguments& a, int first, int head, int batch) {
    const flashring_step& step = a.step;
    if (a.wideOutputs) {
        const int end = min(first + kQueries, static_cast<int>(step.q_len));
#pragma unroll 1
        for (int query = max(first, 0) + static_cast<int>(threadIdx.x % 32); query < end; query += 32) {
            prefetchBytes(row<float>(step.acc, batch, query, head), static_cast<int>(step.value_dim) * 4);
        }
    }
}

// The same pointer, hidden from the compiler: offsets then become part of the instructions instead of addresses of
// their own.
template <class T>
__device__ __forceinline__ T* opaque(T* pointer) {
    asm("" : "+l"(pointer));
    return pointer;
}

// Two floats that start on 8 bytes, where they exist. They are read once, so past the first cache. In assembly, because
// the compiler would branch around each load.
__device__ __forceinline__ void loadPairIf(bool exists, const float* source, float& first, float& second) {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "setp.ne.s32 p, %3, 0;\n"
        "@p ld.global.L1::no_allocate.v2.f32 {%0, %1}, [%2];\n"
        "}"
        : "+f"(first), "+f"(second) : "l"(source), "r"(static_cast<int>(exists)) : "memory");
}

// Loads acc of a warp's 16 rows from `first` on into `out`, which is 0 and stays 0 where state says that there is none
// yet. Pairs go straight to the accumulators, so that nothing waits for them before it uses them.
template <int kColumns>
__device__ __forceinline__ void loadEarlier(const Arguments& a, float (&out)[kColumns / 2],
                                            const SoftmaxRow (&state)[2], int first, int head, int batch) {
    const int lane = threadIdx.x % 32, columns = static_cast<int>(a.step.value_dim);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float* const own =
            opaque(row<const float>(a.step.acc, batch, first + half * 8 + lane / 4, head) + lane % 4 * 2);
        const int rest = state[half].reference == -INFINITY ? 0 : columns - lane % 4 * 2;
        if (a.vectorOutputs) {
#pragma unroll
            for (int n = 0; n < kColumns / 8; ++n) {
                loadPairIf(n * 8 < rest, own + n * 8, out[n * 4 + half * 2], out[n * 4 + half * 2 + 1]);
            }
        } else {
#pragma unroll
            for (int n = 0; n < kColumns / 8; ++n) {
                const float2 pair = loadPair(own, n * 8, rest, false);
                out[n * 4 + half * 2] = pair.x;
                out[n * 4 + half * 2 + 1] = pair.y;
            }
        }
    }
}

// The same from a stage of the ring: swizzled boxes of 64 rows and 32 columns, in which this warp's 16 rows start at
// `row`.
template <int kColumns>
__device__ __forceinline__ void readEarlier(const char* boxes, int row, float (&out)[kColumns / 2],
                                            const EarlierRow (&earlier)[2]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const char* const own = boxes + (row + half * 8 + lane / 4) * 128 + lane % 2 * 8;
        const bool counts = earlier[half].reference != -INFINITY;
        const float factor = earlier[half].sum;
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
            const int word = (n % 4 * 2 + lane % 4 / 2) ^ lane / 4;
            const float2 pair = *reinterpret_cast<const float2*>(own + n / 4 * kStateBoxBytes + word * 16);
            out[n * 4 + half * 2] = counts ? pair.x * factor : 0;
            out[n * 4 + half * 2 + 1] = counts ? pair.y * factor : 0;
        }
    }
}

}  // namespace flashring

#endif
