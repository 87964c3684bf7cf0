// Kernels over elements: embeddings, rotary positions, SwiGLU, sums and the optimizer.
#ifndef FLASHRING_CUDA_TRAIN_ELEMENTS_CUH
#define FLASHRING_CUDA_TRAIN_ELEMENTS_CUH

#include "train/lanes.cuh"

namespace flashring::train {

// out = table[tokens] of a row. A block has a row.
template <class T>
__device__ void embed(const Index* tokens, const T* table, T* out, Index width) {
    table += tokens[blockIdx.x] * width;
    out += Index{blockIdx.x} * width;
    columns<T>(width, width % kLanes<T> == 0 && aligned(table, out), [&](auto lanes, Index j) {
        constexpr int N = decltype(lanes)::value;
        float value[N];
        load<N>(table + j, value);
        store<N>(value, out + j);
    });
}

// Adds the rows of dout of one token to its row of dtable, in their order. Block x has a token, block y some columns.
template <class T>
__device__ void embedGrad(const Index* tokens, const Index* order, const Index* starts, const T* dout, float* dtable,
                          Index width) {
    const Index column = Index{blockIdx.y} * blockDim.x + threadIdx.x;
    if (column >= width) {
        return;
    }
    const Index start = starts[blockIdx.x];
    const Index end = starts[blockIdx.x + 1];
    float* to = dtable + tokens[order[start]] * width + column;
    double sum = *to;
#pragma unroll 4
    for (Index i = start; i < end; i++) {
        sum += widen(dout[order[i] * width + column]);
    }
    *to = static_cast<float>(sum);
}

// table [rows][headDim] = cosines, then sines of position * base^(-2 pair / headDim), in float64 up to the rounding.
__device__ inline void angles(const Index* positions, float* table, Index rows, Index headDim, double base) {
    const Index half = headDim / 2;
    for (Index i = globalThread(); i < rows * half; i += globalThreads()) {
        const Index row = i / half;
        const Index pair = i % half;
        const double frequency = pow(base, -static_cast<double>(pair) / static_cast<double>(half));
        double sine;
        double cosine;
        sincos(static_cast<double>(positions[row]) * frequency, &sine, &cosine);
        table[row * headDim + pair] = static_cast<float>(cosine);
        table[row * headDim + half + pair] = static_cast<float>(sine);
    }
}

// The generator of InitialValues: SplitMix64 (Steele, Lea and Flood 2014).
constexpr unsigned long long kSplitMix = 0x9E3779B97F4A7C15ull;

__device__ inline unsigned long long mixed(unsigned long long value) {
    value += kSplitMix;
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9ull;
    value = (value ^ value >> 27) * 0x94D049BB133111EBull;
    return value ^ value >> 31;
}

// Normal values of a stream from its element first on, in float64 up to the rounding; ones where deviation is 0.
__device__ inline void initialValues(float* to, Index count, Index stream, Index first, double deviation) {
    for (Index i = globalThread(); i < count; i += globalThreads()) {
        const auto draw = [&](Index number) {
            return static_cast<double>(mixed(stream + static_cast<unsigned long long>(number) * kSplitMix) >> 11) *
                   0x1p-53;
        };
        const double radius = draw(2 * (first + i));
        const double turn = draw(2 * (first + i) + 1);
        const double value = deviation * sqrt(-2.0 * log(1.0 - radius)) * cospi(2.0 * turn);
        to[i] = deviation == 0 ? 1.0f : static_cast<float>(value);
    }
}

// Turns the pairs (i, i + headDim / 2) of the first heads of a row of qkv; sign -1 turns back. A block has a row.
template <class T>
__device__ void rope(T* qkv, const float* table, Index heads, Index stride, Index headDim, float sign) {
    qkv += Index{blockIdx.x} * stride;
    table += Index{blockIdx.x} * headDim;
    const int half = static_cast<int>(headDim / 2);
    const bool packed = half % kLanes<T> == 0 && aligned(qkv, table);
    const auto turn = [&](auto lanes) {
        constexpr int N = decltype(lanes)::value;
        const int packs = half / N;
        const int all = static_cast<int>(heads) * packs;
        for (int i = threadIdx.x; i < all; i += blockDim.x) {
            const int pair = i % packs * N;
            T* at = qkv + static_cast<Index>(i / packs) * headDim + pair;
            float low[N];
            float high[N];
            float cosine[N];
            float sine[N];
            load<N>(at, low);
            load<N>(at + half, high);
            load<N>(table + pair, cosine);
            load<N>(table + half + pair, sine);
#pragma unroll
            for (int k = 0; k < N; k++) {
                const float turned = low[k] * cosine[k] - sign * (high[k] * sine[k]);
                high[k] = high[k] * cosine[k] + sign * (low[k] * sine[k]);
                low[k] = turned;
            }
            store<N>(low, at);
            store<N>(high, at + half);
        }
    };
    if (packed) {
        turn(std::integral_constant<int, kLanes<T>>{});
    } else {
        turn(std::integral_constant<int, 1>{});
    }
}

// out = silu(gate) * up of a row. A block has a row.
template <class T>
__device__ void swiglu(const T* gateUp, T* out, Index width) {
    gateUp += Index{blockIdx.x} * 2 * width;
    out += Index{blockIdx.x} * width;
    columns<T>(width, width % kLanes<T> == 0 && aligned(gateUp, out), [&](auto lanes, Index j) {
        constexpr int N = decltype(lanes)::value;
        float gate[N];
        float up[N];
        load<N>(gateUp + j, gate);
        load<N>(gateUp + width + j, up);
#pragma unroll
        for (int i = 0; i < N; i++) {
            up[i] *= gate[i] / (1 + expf(-gate[i]));
        }
        store<N>(up, out + j);
    });
}

// Replaces a row of gate and up by its gradient. A block has a row.
template <class T>
__device__ void swigluGrad(T* gateUp, const T* dout, Index width) {
    gateUp += Index{blockIdx.x} * 2 * width;
    dout += Index{blockIdx.x} * width;
    columns<T>(width, width % kLanes<T> == 0 && aligned(gateUp, dout), [&](auto lanes, Index j) {
        constexpr int N = decltype(lanes)::value;
        float gate[N];
        float up[N];
        float gradient[N];
        load<N>(gateUp + j, gate);
        load<N>(gateUp + width + j, up);
        load<N>(dout + j, gradient);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float sigmoid = 1 / (1 + expf(-gate[i]));
            const float byGate = gradient[i] * up[i] * sigmoid * (1 + gate[i] * (1 - sigmoid));
            up[i] = gradient[i] * gate[i] * sigmoid;
            gate[i] = byGate;
        }
        store<N>(gate, gateUp + j);
        store<N>(up, gateUp + width + j);
    });
}

template <class T>
__device__ void roundElements(const float* from, T* to, Index count) {
    for (Index i = globalThread(); i < count; i += globalThreads()) {
        to[i] = narrow<T>(from[i]);
    }
}

// out += the sum of the rows of partial [parts][width]. A thread has a column.
__device__ inline void addRows(const float* partial, float* out, Index parts, Index width) {
    const Index column = globalThread();
    if (column >= width) {
        return;
    }
    double sum = out[column];
#pragma unroll 8
    for (Index part = 0; part < parts; part++) {
        sum += partial[part * width + column];
    }
    out[column] = static_cast<float>(sum);
}

// partial[block] = the block's part of the sum of squares; the same grid gives the same bits.
__device__ inline void squareSum(const float* values, Index count, double* partial) {
    double sum = 0;
    for (Index i = globalThread(); i < count; i += globalThreads()) {
        const double value = values[i];
        sum += value * value;
    }
    sum = blockSum(sum);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
    }
}

// result = the sum of the values. One block.
__device__ inline void sumAll(const double* values, Index count, double* result) {
    double sum = 0;
    for (Index i = threadIdx.x; i < count; i += blockDim.x) {
        sum += values[i];
    }
    sum = blockSum(sum);
    if (threadIdx.x == 0) {
        *result = sum;
    }
}

// A step of AdamW, in float64 up to the rounding, unless the gradients' square sum is not finite.
template <class T>
__device__ void adamW(const float* gradients, float* master, float* mean, float* meanSquare, T* weights, Index count,
                      const double* squares, double rate, double beta1, double beta2, double epsilon, double decay,
                      double clip, double meanScale, double squareScale) {
    const double square = *squares;
    if (!isfinite(square)) {
        return;
    }
    const double factor = fmin(1.0, clip / (sqrt(square) + 1e-6));
    for (Index i = globalThread(); i < count; i += globalThreads()) {
        const double gradient = gradients[i] * factor;
        const double m = beta1 * mean[i] + (1 - beta1) * gradient;
        const double v = beta2 * meanSquare[i] + (1 - beta2) * gradient * gradient;
        const double before = master[i];
        const double change = decay * before + m * meanScale / (sqrt(v * squareScale) + epsilon);
        const float value = static_cast<float>(before - rate * change);
        mean[i] = static_cast<float>(m);
        meanSquare[i] = static_cast<float>(v);
        master[i] = value;
        weights[i] = narrow<T>(value);
    }
}

}  // namespace flashring::train

#endif
