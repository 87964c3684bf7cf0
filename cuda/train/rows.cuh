// Kernels that reduce rows: norms and the loss.
#ifndef FLASHRING_CUDA_TRAIN_ROWS_CUH
#define FLASHRING_CUDA_TRAIN_ROWS_CUH

#include "train/lanes.cuh"

namespace flashring::train {

// out = x / rms(x) * weight of a row, inverse = 1 / rms(x). A block has a row.
template <class T>
__device__ void rmsNorm(const T* x, const T* weight, T* out, float* inverse, Index width, double epsilon) {
    x += Index{blockIdx.x} * width;
    out += Index{blockIdx.x} * width;
    const bool packed = width % kLanes<T> == 0 && aligned(x, weight, out);
    float squares = 0;
    columns<T>(width, packed, [&](auto lanes, Index j) {
        constexpr int N = decltype(lanes)::value;
        float value[N];
        load<N>(x + j, value);
#pragma unroll
        for (int i = 0; i < N; i++) {
            squares += value[i] * value[i];
        }
    });
    const float norm = 1.0f / sqrtf(blockSum(squares) / static_cast<float>(width) + static_cast<float>(epsilon));
    columns<T>(width, packed, [&](auto lanes, Index j) {
        constexpr int N = decltype(lanes)::value;
        float value[N];
        float scale[N];
        load<N>(x + j, value);
        load<N>(weight + j, scale);
#pragma unroll
        for (int i = 0; i < N; i++) {
            value[i] *= norm * scale[i];
        }
        store<N>(value, out + j);
    });
    if (threadIdx.x == 0) {
        inverse[blockIdx.x] = norm;
    }
}

// dx = plus + the norm's gradient; plus may be null, and dx may be plus or x. A block has every gridDim.x-th row and
// leaves in its row of partial [gridDim.x][width] what these add to the gradient of the weight. Shared memory: a row of
// float, or none if rows are too wide.
template <class T>
__device__ void rmsNormGrad(const T* dout, const T* x, const T* weight, const float* inverse, const T* plus, T* dx,
                            float* partial, Index rows, Index width, bool inShared) {
    extern __shared__ __align__(16) float own[];
    partial += Index{blockIdx.x} * width;
    float* sums = inShared ? own : partial;
    const bool packed = width % kLanes<T> == 0 && aligned(dout, x, weight, plus, dx, partial);
    columns<T>(width, packed, [&](auto lanes, Index j) {
        constexpr int N = decltype(lanes)::value;
        const float zeros[N] = {};
        store<N>(zeros, sums + j);
    });
    for (Index row = blockIdx.x; row < rows; row += gridDim.x) {
        const Index at = row * width;
        const float norm = inverse[row];
        float dot = 0;
        columns<T>(width, packed, [&](auto lanes, Index j) {
            constexpr int N = decltype(lanes)::value;
            float gradient[N];
            float value[N];
            float scale[N];
            float sum[N];
            load<N>(dout + at + j, gradient);
            load<N>(x + at + j, value);
            load<N>(weight + j, scale);
            load<N>(sums + j, sum);
#pragma unroll
            for (int i = 0; i < N; i++) {
                dot += gradient[i] * scale[i] * value[i];
                sum[i] += gradient[i] * value[i] * norm;
            }
            store<N>(sum, sums + j);
        });
        const float along = blockSum(dot) * norm * norm * norm / static_cast<float>(width);
        columns<T>(width, packed, [&](auto lanes, Index j) {
            constexpr int N = decltype(lanes)::value;
            float gradient[N];
            float value[N];
            float scale[N];
            float result[N] = {};
            load<N>(dout + at + j, gradient);
            load<N>(x + at + j, value);
            load<N>(weight + j, scale);
            if (plus != nullptr) {
                load<N>(plus + at + j, result);
            }
#pragma unroll
            for (int i = 0; i < N; i++) {
                result[i] += gradient[i] * scale[i] * norm - value[i] * along;
            }
            store<N>(result, dx + at + j);
        });
    }
    if (inShared) {
        columns<T>(width, packed, [&](auto lanes, Index j) {
            constexpr int N = decltype(lanes)::value;
            float sum[N];
            load<N>(own + j, sum);
            store<N>(sum, partial + j);
        });
    }
}

// losses = cross-entropy of a row of logits, which its gradient times scale replaces; 0 where the label is negative. A
// block has a row.
template <class T>
__device__ void crossEntropy(T* logits, const Index* labels, double* losses, Index vocabulary, double scale) {
    logits += Index{blockIdx.x} * vocabulary;
    const Index label = labels[blockIdx.x];
    const bool packed = vocabulary % kLanes<T> == 0 && aligned(logits);
    const float factor = static_cast<float>(scale);
    if (label < 0) {
        columns<T>(vocabulary, packed, [&](auto lanes, Index j) {
            constexpr int N = decltype(lanes)::value;
            const float zeros[N] = {};
            store<N>(zeros, logits + j);
        });
        if (threadIdx.x == 0) {
            losses[blockIdx.x] = 0;
        }
        return;
    }
    const float chosen = widen(logits[label]);  // read before a thread replaces it: the sums below wait for all
    float most = -INFINITY;
    float sum = 0;  // of exp(logit - most)
    columns<T>(vocabulary, packed, [&](auto lanes, Index j) {
        constexpr int N = decltype(lanes)::value;
        float value[N];
        load<N>(logits + j, value);
        float higher = most;
#pragma unroll
        for (int i = 0; i < N; i++) {
            higher = fmaxf(higher, value[i]);
        }
        if (higher != most) {
            sum *= expf(most - higher);
            most = higher;
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            sum += value[i] == -INFINITY ? 0 : expf(value[i] - most);
        }
    });
    const float highest = blockMax(most);
    const float total = blockSum(sum == 0 ? 0 : sum * expf(most - highest));
    const float share = factor / total;
    columns<T>(vocabulary, packed, [&](auto lanes, Index j) {
        constexpr int N = decltype(lanes)::value;
        float value[N];
        load<N>(logits + j, value);
#pragma unroll
        for (int i = 0; i < N; i++) {
            value[i] = expf(value[i] - highest) * share - (j + i == label ? factor : 0);
        }
        store<N>(value, logits + j);
    });
    if (threadIdx.x == 0) {
        losses[blockIdx.x] = static_cast<double>(highest) - chosen + log(static_cast<double>(total));
    }
}

}  // namespace flashring::train

#endif
