// What the training kernels share: bf16 and float32 elements as float, 16 bytes at a time, and sums over a block.
#ifndef FLASHRING_CUDA_TRAIN_LANES_CUH
#define FLASHRING_CUDA_TRAIN_LANES_CUH

#include <cuda_bf16.h>

#include <type_traits>

namespace flashring::train {

using Index = long long;  // every parameter of a kernel has 8 bytes, so that one array holds those of all

template <class T>
constexpr int kLanes = 16 / sizeof(T);

__device__ inline float widen(float value) { return value; }
__device__ inline float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class T>
__device__ T narrow(float value) {
    if constexpr (std::is_same_v<T, float>) {
        return value;
    } else {
        return __float2bfloat16_rn(value);
    }
}

template <class... T>
__device__ bool aligned(const T*... pointers) {
    return ((reinterpret_cast<size_t>(pointers) | ...) & 15) == 0;
}

// Loads of more than one element take a multiple of 16 bytes, from an address that is one.
template <int N, class T>
__device__ void load(const T* from, float (&to)[N]) {
    if constexpr (N == 1) {
        to[0] = widen(from[0]);
    } else {
        constexpr int kPacks = N / kLanes<T>;
        alignas(16) T elements[N];
#pragma unroll
        for (int i = 0; i < kPacks; i++) {
            reinterpret_cast<uint4*>(elements)[i] = reinterpret_cast<const uint4*>(from)[i];
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            to[i] = widen(elements[i]);
        }
    }
}

template <int N, class T>
__device__ void store(const float (&from)[N], T* to) {
    if constexpr (N == 1) {
        to[0] = narrow<T>(from[0]);
    } else {
        constexpr int kPacks = N / kLanes<T>;
        alignas(16) T elements[N];
#pragma unroll
        for (int i = 0; i < N; i++) {
            elements[i] = narrow<T>(from[i]);
        }
#pragma unroll
        for (int i = 0; i < kPacks; i++) {
            reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(elements)[i];
        }
    }
}

// Calls body(N, first column) for this thread's columns of a row, N = kLanes<T> or 1 of them at a time. A thread has
// the same columns each time.
template <class T, class Body>
__device__ void columns(Index width, bool packed, const Body& body) {
    constexpr int kMany = kLanes<T>;
    if (packed) {
        for (Index j = Index{threadIdx.x} * kMany; j < width; j += Index{blockDim.x} * kMany) {
            body(std::integral_constant<int, kMany>{}, j);
        }
    } else {
        for (Index j = threadIdx.x; j < width; j += blockDim.x) {
            body(std::integral_constant<int, 1>{}, j);
        }
    }
}

// Combines the values of all threads of the block, whose number is a multiple of 32, in one order. All threads call it
// and get the result.
template <class Value, class Combine>
__device__ Value combined(Value value, Value neutral, const Combine& combine) {
    __shared__ Value warps[32];
    const int lane = threadIdx.x % 32;
    for (int distance = 16; distance > 0; distance /= 2) {
        value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
    }
    __syncthreads();  // an earlier call's readers are done
    if (lane == 0) {
        warps[threadIdx.x / 32] = value;
    }
    __syncthreads();
    value = lane < static_cast<int>(blockDim.x / 32) ? warps[lane] : neutral;
    for (int distance = 16; distance > 0; distance /= 2) {
        value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
    }
    return value;
}

template <class Value>
__device__ Value blockSum(Value value) {
    return combined(value, Value{0}, [](Value a, Value b) { return a + b; });
}

__device__ inline float blockMax(float value) {
    return combined(value, -INFINITY, [](float a, float b) { return fmaxf(a, b); });
}

__device__ inline Index globalThread() { return Index{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ inline Index globalThreads() { return Index{gridDim.x} * blockDim.x; }

}  // namespace flashring::train

#endif
