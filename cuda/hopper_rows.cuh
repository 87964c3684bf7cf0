// A warp's share of the output and its state: from earlier steps into registers, and from there to global memory.
#ifndef FLASHRING_CUDA_HOPPER_ROWS_CUH
#define FLASHRING_CUDA_HOPPER_ROWS_CUH

#include "hopper.h"
#include "hopper_ptx.cuh"
#include "hopper_softmax.cuh"
#include "hopper_tiles.h"
#include "outputs.cuh"

namespace flashring {

// lse of the two rows of this lane in the 16 of a warp that start at this query; -inf where there is none yet.
template <bool kResume>
__device__ __forceinline__ void loadLse(const flashring_step& step, float (&lse)[2], int first, int head, int batch) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int query = first + half * 8 + threadIdx.x % 32 / 4;
        const bool resumes = kResume && query >= 0 && query < step.q_len;
        lse[half] = resumes ? *row<const float>(step.lse, batch, query, head) : -INFINITY;
    }
}

// ln(2^reference sum). The sum's power of two joins the reference: of what is left, the fast logarithm errs by 2^-22 at most.
__device__ __forceinline__ float lseOf(float reference, float sum) {
    const int power = (__float_as_int(sum) & 0x7f800000) - __float_as_int(1.0f);  // times 2^23
    const float rest = log2Fast(sum * __int_as_float(__float_as_int(1.0f) - power));
    return (fmaf(static_cast<float>(power), 0x1p-23f, reference) + rest) * static_cast<float>(M_LN2);
}

__device__ __forceinline__ float inverseOf(float sum) { return sum == 0 ? 0 : reciprocalFast(sum); }

// Brings acc of a tile into the L2 cache, long before its consumers load it: run by a warp.
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

// The pointer itself. What is added to it then becomes part of the instruction; else the compiler computes each address anew.
template <class T>
__device__ __forceinline__ T* opaque(T* pointer) {
    asm("" : "+l"(pointer));
    return pointer;
}

// Two floats that start on 8 bytes, where they exist. Read once, so past the first cache; as one piece, or the compiler branches
// round each.
__device__ __forceinline__ void loadPairIf(bool exists, const float* source, float& first, float& second) {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "setp.ne.s32 p, %3, 0;\n"
        "@p ld.global.L1::no_allocate.v2.f32 {%0, %1}, [%2];\n"
        "}"
        : "+f"(first), "+f"(second) : "l"(source), "r"(static_cast<int>(exists)) : "memory");
}

__device__ __forceinline__ void storeWord(void* target, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(target), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}

// Asks for acc of the 16 rows of a warp that start at this query; out, all 0, stays so where state says that there is none yet.
// Pairs go straight to the registers that products add to, so that nothing waits for them before it uses them.
template <int kColumns>
__device__ __forceinline__ void loadEarlier(const Arguments& a, float (&out)[kColumns / 2], const SoftmaxRow (&state)[2], int first,
                                            int head, int batch) {
    const int lane = threadIdx.x % 32, columns = static_cast<int>(a.step.value_dim);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float* const own = opaque(row<const float>(a.step.acc, batch, first + half * 8 + lane / 4, head) + lane % 4 * 2);
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

// The same from a stage of the ring: boxes of 64 rows and 32 columns, swizzled; this warp's 16 rows start at `row`.
template <int kColumns>
__device__ __forceinline__ void readEarlier(const char* boxes, int row, float (&out)[kColumns / 2], const SoftmaxRow (&state)[2]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const char* const own = boxes + (row + half * 8 + lane / 4) * 128 + lane % 2 * 8;
        const bool counts = state[half].reference != -INFINITY;
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
            const int word = (n % 4 * 2 + lane % 4 / 2) ^ lane / 4;
            const float2 pair = *reinterpret_cast<const float2*>(own + n / 4 * kStateBoxBytes + word * 16);
            out[n * 4 + half * 2] = counts ? pair.x * kEarlierSum : 0;
            out[n * 4 + half * 2 + 1] = counts ? pair.y * kEarlierSum : 0;
        }
    }
}

// Computes one row anew, a key at a time, and writes it: run by a warp. A value that is not finite reaches every row of a
// tile through the product, also those that do not see it, as its weight of 0 makes NaN of it.
template <class Element, int kColumns>
__device__ __forceinline__ void writeRowAlone(const Arguments& a, int query, int head, int batch) {
    const flashring_step& step = a.step;
    const int lane = threadIdx.x % 32, keyHead = head / static_cast<int>(step.q_heads / step.kv_heads);
    const int dim = static_cast<int>(step.head_dim), columns = static_cast<int>(step.value_dim);
    const Element* const q = row<const Element>(step.q, batch, query, head);
    float reference = -INFINITY, sum = 0, out[kColumns / 32] = {};
    const auto add = [&](float score, const auto* value) {
        const float common = fmaxf(reference, score), shift = common == -INFINITY ? 0 : common;
        const float decay = exp2Fast(reference - shift), weight = exp2Fast(score - shift);
        reference = common;
        sum = fmaf(sum, decay, weight);
#pragma unroll
        for (int i = 0; i < kColumns / 32; ++i) {
            const int column = i * 32 + lane;
            out[i] = fmaf(weight, column < columns ? static_cast<float>(value[column]) : 0, out[i] * decay);
        }
    };
    for (int key = a.lo[query]; key < a.hi[query]; ++key) {
        const Element* const k = row<const Element>(step.k, batch, key, keyHead);
        float score = 0;
#pragma unroll 1
        for (int d = lane; d < dim; d += 32) {
            score = fmaf(static_cast<float>(q[d]), static_cast<float>(k[d]), score);
        }
        for (int distance = 16; distance > 0; distance /= 2) {
            score += __shfl_xor_sync(~0u, score, distance);
        }
        add(score * a.scaleLog2, row<const Element>(step.v, batch, key, keyHead));
    }
    float* const lse = row<float>(step.lse, batch, query, head);
    float* const acc = row<float>(step.acc, batch, query, head);
    if (step.flags & FLASHRING_RESUME && *lse != -INFINITY) {
        add(*lse * static_cast<float>(M_LOG2E), acc);
    }
    __syncwarp();  // every lane has read lse
    if (lane == 0) {
        *lse = lseOf(reference, sum);
    }
#pragma unroll
    for (int i = 0; i < kColumns / 32; ++i) {
        const int column = i * 32 + lane;
        const float x = out[i] * inverseOf(sum);
        if (column < columns && step.acc.data) {
            acc[column] = x;
        }
        if (column < columns && step.flags & FLASHRING_FINISH) {
            row<Element>(step.out, batch, query, head)[column] = Element(x);
        }
    }
}

// Whether an element of this lane's share of a row is not finite and was so far: what earlier steps left so stays so by right.
template <int kColumns>
__device__ __forceinline__ bool spoilt(const Arguments& a, const float* out, int query, int head, int batch) {
    const flashring_step& step = a.step;
    const bool resumed = step.flags & FLASHRING_RESUME && *row<const float>(step.lse, batch, query, head) != -INFINITY;
    const int pair = threadIdx.x % 4 * 2, rest = resumed ? static_cast<int>(step.value_dim) - pair : 0;
    const float* const acc = row<const float>(step.acc, batch, query, head) + pair;
    bool found = false;
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
        const float2 before = loadPair(acc, n * 8, rest, a.vectorOutputs);
        found |= !(fabsf(out[n * 4]) < INFINITY) && fabsf(before.x) < INFINITY;
        found |= !(fabsf(out[n * 4 + 1]) < INFINITY) && fabsf(before.y) < INFINITY;
    }
    return found;
}

// Lane i of each quad gives element j to lane j, and gets as element j what lane j had as element i.
__device__ __forceinline__ void transposeQuad(uint32_t (&x)[4]) {
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2) {
        const bool upper = threadIdx.x & bit;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (!(i & bit)) {
                const uint32_t other = __shfl_xor_sync(~0u, upper ? x[i] : x[i | bit], bit);
                (upper ? x[i] : x[i | bit]) = other;
            }
        }
    }
}

// Lane l of a quad holds columns {0, 1} + 8 n + 2 l of a row as out[4 n], out[4 n + 1]: half a word of 16 bytes. Neighbours swap
// halves of every two n, so that each has whole words, columns 0 to 3 + 8 n + 8 (l % 2) + 4 (l / 2) for an even n.
template <int kColumns>
__device__ __forceinline__ void swapHalves(float* out) {
    const bool odd = threadIdx.x % 2;
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
#pragma unroll
        for (int i = n * 4; i < n * 4 + 2; ++i) {
            const float other = __shfl_xor_sync(~0u, odd ? out[i] : out[i + 4], 1);
            (odd ? out[i] : out[i + 4]) = other;
        }
    }
}

// Writes a row of 16-bit elements: the quad's lanes swap pairs until each has all 8 columns of one n in 4.
template <int kColumns, class Element>
__device__ __forceinline__ void storeWords(Element* row, int columns, const float* out) {
    const int first = threadIdx.x % 4 * 8;
    Element* const target = opaque(row + first);
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 4) {
        uint32_t pairs[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            pairs[i] = pack<Element>(out[(n + i) * 4], out[(n + i) * 4 + 1]);
        }
        transposeQuad(pairs);
        if (n * 8 < columns - first) {
            storeWord(target + n * 8, pairs[0], pairs[1], pairs[2], pairs[3]);
        }
    }
}

// Writes a row of float32; out is used up.
template <int kColumns>
__device__ __forceinline__ void storeWords(float* row, int columns, float* out) {
    const int lane = threadIdx.x % 4, first = lane % 2 * 8 + lane / 2 * 4;
    float* const target = opaque(row + first);
    swapHalves<kColumns>(out);
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
        if (n * 8 < columns - first) {
            storeWord(target + n * 8, __float_as_uint(out[n * 4]), __float_as_uint(out[n * 4 + 1]), __float_as_uint(out[n * 4 + 4]),
                      __float_as_uint(out[n * 4 + 5]));
        }
    }
}

// Writes so many columns of each of a lane's two rows in the 16 of a warp that start at this query.
template <class T, int kColumns>
__device__ __forceinline__ void storeRows(const Arguments& a, const flashring_tensor& tensor, const int (&columns)[2],
                                          float (&out)[kColumns / 2], int first, int head, int batch) {
    T* const upper = row<T>(tensor, batch, first, head) + threadIdx.x % 32 / 4 * tensor.stride_seq;
    T* const rows[] = {upper, upper + 8 * tensor.stride_seq};
    if (a.wideOutputs) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            storeWords<kColumns>(rows[half], columns[half], out + half * 2);
        }
        return;
    }
    const int pairs = threadIdx.x % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
            const float* const pair = out + n * 4 + half * 2;
            storePair(rows[half] + pairs, n * 8, columns[half] - pairs, a.vectorOutputs, pair[0], pair[1]);
        }
    }
}

// Writes the 16 rows of a warp that start at this query; out is used up. Both rows of a lane go side by side, straight through:
// in short sequences a tile's end is a large part of it.
template <class Element, int kColumns>
__device__ __forceinline__ void writeRows(const Arguments& a, float (&out)[kColumns / 2], const SoftmaxRow (&state)[2], int first,
                                          int head, int batch) {
    const flashring_step& step = a.step;
    const int lane = threadIdx.x % 32, query = first + lane / 4, length = static_cast<int>(step.q_len);
    float sums[2], probes[2] = {};
    int columns[2];
    bool strange[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float sum = state[half].sum;
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        sums[half] = sum;
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
            probes[half] = fmaf(out[n * 4 + half * 2], 0.0f, probes[half]);
            probes[half] = fmaf(out[n * 4 + half * 2 + 1], 0.0f, probes[half]);
        }
        columns[half] = query >= 0 && query + half * 8 < length ? static_cast<int>(step.value_dim) : 0;
        strange[half] = probes[half] != 0 && sum == sum && columns[half] > 0;  // where the sum is NaN so is the row, by right
    }
    unsigned alone[2] = {};
    if (__any_sync(~0u, strange[0] || strange[1])) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            alone[half] = __ballot_sync(~0u, strange[half] && spoilt<kColumns>(a, out + half * 2, query + half * 8, head, batch));
            columns[half] = alone[half] >> (lane / 4 * 4) & 0xf ? 0 : columns[half];
        }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float inverse = inverseOf(sums[half]);
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
            out[n * 4 + half * 2] *= inverse;
            out[n * 4 + half * 2 + 1] *= inverse;
        }
    }
    // Lane 0 of each quad writes lse of the first row, lane 1 of the second.
    const bool second = lane % 4 == 1;
    const float lse = lseOf(second ? state[1].reference : state[0].reference, second ? sums[1] : sums[0]);
    if (lane % 4 < 2 && (second ? columns[1] : columns[0]) > 0) {
        row<float>(step.lse, batch, first, head)[(lane / 4 + second * 8) * step.lse.stride_seq] = lse;
    }
    if (step.flags & FLASHRING_FINISH) {
        storeRows<Element, kColumns>(a, step.out, columns, out, first, head, batch);
    }
    if (step.acc.data) {
        storeRows<float, kColumns>(a, step.acc, columns, out, first, head, batch);
    }
    for (int r = 0; (alone[0] | alone[1]) && r < 16; ++r) {
        if ((r < 8 ? alone[0] : alone[1]) >> (r % 8 * 4) & 0xf) {
            writeRowAlone<Element, kColumns>(a, first + r, head, batch);
        }
    }
}

}  // namespace flashring

#endif
