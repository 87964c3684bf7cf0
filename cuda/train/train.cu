// The kernels of training's dense layers, which Java launches by these names. Ops says what each does; blocks have 256
// threads but for the loss and the sum, which have 1,024.
#include "train/elements.cuh"
#include "train/rows.cuh"

using flashring::train::Index;
namespace train = flashring::train;

#define FLASHRING_TRAIN(T, name)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        embed_##name(const Index* tokens, const T* table, T* out, Index width) {                                      \
        train::embed(tokens, table, out, width);                                                                      \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        embedGrad_##name(const Index* tokens, const Index* order, const Index* starts, const T* dout, float* dtable,  \
                         Index width) {                                                                               \
        train::embedGrad(tokens, order, starts, dout, dtable, width);                                                 \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        rmsNorm_##name(const T* x, const T* weight, T* out, float* inverse, Index width, double epsilon) {            \
        train::rmsNorm(x, weight, out, inverse, width, epsilon);                                                      \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        rmsNormGrad_##name(const T* dout, const T* x, const T* weight, const float* inverse, const T* plus, T* dx,    \
                           float* partial, Index rows, Index width, Index inShared) {                                 \
        train::rmsNormGrad(dout, x, weight, inverse, plus, dx, partial, rows, width, inShared != 0);                  \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        rope_##name(T* qkv, const float* table, Index heads, Index stride, Index headDim, Index back) {               \
        train::rope(qkv, table, heads, stride, headDim, back != 0 ? -1.0f : 1.0f);                                    \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256) swiglu_##name(const T* gateUp, T* out, Index width) {           \
        train::swiglu(gateUp, out, width);                                                                            \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256) swigluGrad_##name(T* gateUp, const T* dout, Index width) {      \
        train::swigluGrad(gateUp, dout, width);                                                                       \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(1024)                                                                \
        crossEntropy_##name(T* logits, const Index* labels, double* losses, Index vocabulary, double scale) {         \
        train::crossEntropy(logits, labels, losses, vocabulary, scale);                                               \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256) round_##name(const float* from, T* to, Index count) {           \
        train::roundElements(from, to, count);                                                                        \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        adamW_##name(const float* gradients, float* master, float* mean, float* meanSquare, T* weights, Index count,  \
                     const double* squares, double rate, double beta1, double beta2, double epsilon, double decay,    \
                     double clip, double meanScale, double squareScale) {                                             \
        train::adamW(gradients, master, mean, meanSquare, weights, count, squares, rate, beta1, beta2, epsilon,       \
                     decay, clip, meanScale, squareScale);                                                            \
    }

FLASHRING_TRAIN(__nv_bfloat16, bf16)
FLASHRING_TRAIN(float, f32)

extern "C" __global__ void __launch_bounds__(256)
    initial(float* to, Index count, Index stream, Index first, double deviation) {
    train::initialValues(to, count, stream, first, deviation);
}

extern "C" __global__ void __launch_bounds__(256)
    angles(const Index* positions, float* table, Index rows, Index headDim, double base) {
    train::angles(positions, table, rows, headDim, base);
}

extern "C" __global__ void __launch_bounds__(256)
    addRows(const float* partial, float* out, Index parts, Index width) {
    train::addRows(partial, out, parts, width);
}

extern "C" __global__ void __launch_bounds__(256) squareSum(const float* values, Index count, double* partial) {
    train::squareSum(values, count, partial);
}

extern "C" __global__ void __launch_bounds__(1024) sum(const double* values, Index count, double* result) {
    train::sumAll(values, count, result);
}
