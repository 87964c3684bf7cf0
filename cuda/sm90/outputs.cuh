// Stores a warp's 16 rows of output: straight from registers, or through shared memory and the copy engine.
#ifndef FLASHRING_CUDA_SM90_OUTPUTS_CUH
#define FLASHRING_CUDA_SM90_OUTPUTS_CUH

#include "sm90/row_alone.cuh"
#include "sm90/sloped.cuh"
#include "sm90/state.cuh"

namespace flashring {

// ---- straight from registers ----

// In assembly, because the compiler would branch around the store.
__device__ __forceinline__ void storeIf(bool holds, float* target, float x) {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "setp.ne.s32 p, %2, 0;\n"
        "@p st.global.f32 [%0], %1;\n"
        "}" ::"l"(target),
        "f"(x), "r"(static_cast<int>(holds))
        : "memory");
}

__device__ __forceinline__ void storeWord(void* target, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(target), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
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

// Lane l of a quad holds columns {0, 1} + 8 n + 2 l of a row as out[4 n], out[4 n + 1], which is half a word of 16
// bytes. For every two n, neighbours swap halves, so that each holds whole words: for even n columns 0 to 3 + 8 n + 8
// (l % 2) + 4 (l / 2).
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

// Stores a row of 16-bit elements. The quad's lanes swap pairs until each holds all 8 columns of one n in 4.
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

// Stores a row of float32. Consumes `out`.
template <int kColumns>
__device__ __forceinline__ void storeWords(float* row, int columns, float* out) {
    const int lane = threadIdx.x % 4, first = lane % 2 * 8 + lane / 2 * 4;
    float* const target = opaque(row + first);
    swapHalves<kColumns>(out);
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
        if (n * 8 < columns - first) {
            storeWord(target + n * 8, __float_as_uint(out[n * 4]), __float_as_uint(out[n * 4 + 1]),
                      __float_as_uint(out[n * 4 + 4]), __float_as_uint(out[n * 4 + 5]));
        }
    }
}

// Stores the leading columns of this lane's two rows, of the 16 that a warp holds from `first` on. Consumes `out`.
// kWide stores 16 bytes at a time; rare cases do with pairs, which take less code.
template <class T, int kColumns, bool kWide>
__device__ __forceinline__ void storeRows(const Arguments& a, const flashring_tensor& tensor, const int (&columns)[2],
                                          float (&out)[kColumns / 2], int first, int head, int batch) {
    T* const upper = row<T>(tensor, batch, first, head) + threadIdx.x % 32 / 4 * tensor.stride_seq;
    T* const rows[] = {upper, upper + 8 * tensor.stride_seq};
    if (kWide && a.wideOutputs) {
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

// ---- through the copy engine ----

// Distance in shared memory between boxes of 16 rows and 128 bytes, which lie as rows of panels do.
constexpr int kBoxStride = panelBytes(64);

__device__ __forceinline__ void writePair(uint32_t target, float first, float second) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(target), "f"(first), "f"(second) : "memory");
}

// Writes one box of the output to shared memory, rounded to Element.
template <class Element, int kColumns>
__device__ __forceinline__ void writeBox(uint32_t target, int box, const float (&out)[kColumns / 2]) {
    const int lane = threadIdx.x % 32;
    if constexpr (sizeof(Element) == 2) {
#pragma unroll
        for (int k = box * 4; k < box * 4 + 4 && k < kColumns / 16; ++k) {
            uint32_t words[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                words[i] = pack<Element>(out[k * 8 + i * 2], out[k * 8 + i * 2 + 1]);
            }
            storeMatrices(target + lane % 16 * 128 + ((k % 4 * 32 + lane / 16 * 16) ^ (lane % 8 * 16)), words);
        }
    } else {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int n = box * 4; n < box * 4 + 4 && n < kColumns / 8; ++n) {
                const uint32_t word = (n % 4 * 2 + lane % 4 / 2) ^ lane / 4;
                writePair(target + (half * 8 + lane / 4) * 128 + word * 16 + lane % 2 * 8, out[n * 4 + half * 2],
                          out[n * 4 + half * 2 + 1]);
            }
        }
    }
}

// Hands a warp's rows to the copy engine through `staging`, which holds kBoxes boxes. Waits first until the engine has
// read those that are there.
template <class T, int kColumns, int kBoxes>
__device__ __forceinline__ void storeBoxes(const CUtensorMap& map, uint32_t staging, const float (&out)[kColumns / 2],
                                           int first, int head, int batch) {
    constexpr int kBoxColumns = 128 / sizeof(T), kAll = ceilDiv(kColumns, kBoxColumns);
#pragma unroll
    for (int from = 0; from < kAll; from += kBoxes) {
        waitForBoxes();
        __syncwarp();
#pragma unroll
        for (int box = from; box < from + kBoxes && box < kAll; ++box) {
            writeBox<T, kColumns>(staging + (box - from) * kBoxStride, box, out);
        }
        orderBeforeCopies();
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
#pragma unroll 1
            for (int box = from; box < from + kBoxes && box < kAll; ++box) {
                storeBox(map, box * kBoxColumns, first, head, batch, staging + (box - from) * kBoxStride);
            }
            commitBoxes();
        }
        __syncwarp();
    }
}

// ---- a tile's end ----

// What is stored for a lane's two rows beside their output. It is known with the last weights, before the last products
// are done.
struct RowEnds {
    int first, head, batch;  // of the 16 rows of the warp
    int columns[2];          // 0 for a row that does not exist
    float inverses[2];       // of the sums
    bool numbers[2];         // else the row is rightly NaN
    bool lost[2];            // the row's weights are too small to count (sloped.cuh)
    Lse lse;                 // lane 0 of each quad has that of the first row, lane 1 of the second
    float* lseTarget;
};

// A sink is one more key, of weight e^(sink - reference) and no value; steps that resume find it in lse.
template <class Config>
__device__ __forceinline__ RowEnds endsOf(const Arguments& a, const SoftmaxRow (&state)[2], int first, int head,
                                          int batch) {
    const flashring_step& step = a.step;
    const int lane = threadIdx.x % 32, query = first + lane / 4;
    const bool second = lane % 4 == 1;
    RowEnds ends{first, head, batch};
    float sums[2], references[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float sum = state[half].sum;
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        references[half] = state[half].reference;
        const int own = query + half * 8;
        bool lost = false;
        if constexpr (Config::kShaping == Shaping::Alibi) {
            if (own >= 0 && own < step.q_len && a.lo[own] < a.hi[own]) {
                references[half] = withDistance(references[half], slopeOf(step, head), a.queryPositions[own],
                                                a.keyPositions[a.hi[own] - 1]);
                lost = sum < kLeastSlopedSum;
            }
        }
        float decay = 1;
        if (!Config::kResumes && step.sinks) {
            const float sink = startLse(step, batch, query, head).high, common = fmaxf(references[half], sink);
            const float shift = common == -INFINITY ? 0 : common;
            decay = expDifference(references[half], shift);
            sum = fmaf(sum, decay, expDifference(sink, shift));
            references[half] = common;
        }
        sums[half] = sum;
        ends.columns[half] = query >= 0 && own < step.q_len ? static_cast<int>(step.value_dim) : 0;
        ends.inverses[half] = decay * inverseOf(sum);
        ends.numbers[half] = sum == sum;
        ends.lost[half] = lost;
    }
    ends.lse = lseOf(second ? references[1] : references[0], second ? sums[1] : sums[0]);
    ends.lseTarget = opaque(row<float>(step.lse, batch, first, head) + (lane / 4 + second * 8) * step.lse.stride_seq);
    return ends;
}

// Stores a warp's 16 rows. Both rows of a lane are worked on side by side, since in short sequences the end of a tile
// is a large part of it. `staging` holds kBoxes boxes; with 0 there is none.
template <class Element, int kColumns, int kBoxes, Shaping kShaping>
__device__ __forceinline__ void writeRows(const HopperArguments& h, float (&out)[kColumns / 2], const RowEnds& ends,
                                          uint32_t staging) {
    const flashring_step& step = h.a.step;
    const int lane = threadIdx.x % 32, query = ends.first + lane / 4;
    float probes[2][2] = {};
    int columns[2] = {ends.columns[0], ends.columns[1]};
    bool strange[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
            probes[half][0] = fmaf(out[n * 4 + half * 2], 0.0f, probes[half][0]);
            probes[half][1] = fmaf(out[n * 4 + half * 2 + 1], 0.0f, probes[half][1]);
        }
        strange[half] = probes[half][0] + probes[half][1] != 0 && ends.numbers[half] && columns[half] > 0;
        if constexpr (kShaping == Shaping::Alibi) {
            strange[half] |= ends.lost[half];
        }
    }
    unsigned alone[2] = {};
    if (__any_sync(~0u, strange[0] || strange[1])) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            alone[half] = __ballot_sync(
                ~0u, strange[half] && ((kShaping == Shaping::Alibi && ends.lost[half]) ||
                                       spoilt<kColumns>(h.a, out + half * 2, query + half * 8, ends.head, ends.batch)));
            columns[half] = alone[half] >> (lane / 4 * 4) & 0xf ? 0 : columns[half];
        }
    }
    const bool whole = (alone[0] | alone[1]) == 0;
    const bool hasLse = lane % 4 < 2 && (lane % 4 == 1 ? columns[1] : columns[0]) > 0;
    storeIf(hasLse, ends.lseTarget, ends.lse.high);
    if (step.lse_low.data) {
        float* const upper = row<float>(step.lse_low, ends.batch, ends.first, ends.head);
        storeIf(hasLse, upper + (lane / 4 + lane % 4 * 8) * step.lse_low.stride_seq, ends.lse.low);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
            out[n * 4 + half * 2] *= ends.inverses[half];
            out[n * 4 + half * 2 + 1] *= ends.inverses[half];
        }
    }
    const bool boxable = whole && ends.first >= 0 && ends.first < step.q_len;
    const auto store = [&](auto element, bool boxed, const CUtensorMap& map, const flashring_tensor& tensor) {
        using T = decltype(element);
        if constexpr (kBoxes > 0) {
            if (boxed && boxable) {
                return storeBoxes<T, kColumns, kBoxes>(map, staging, out, ends.first, ends.head, ends.batch);
            }
        }
        storeRows<T, kColumns, kBoxes == 0>(h.a, tensor, columns, out, ends.first, ends.head, ends.batch);
    };
    if (step.flags & FLASHRING_FINISH) {
        store(Element{}, h.boxedOut, h.outBoxes, step.out);
    }
    if (step.acc.data) {
        store(float{}, h.boxedAcc, h.accBoxes, step.acc);
    }
    for (int r = 0; !whole && r < 16; ++r) {
        if ((r < 8 ? alone[0] : alone[1]) >> (r % 8 * 4) & 0xf) {
            writeRowAlone<Element, kColumns, kShaping>(h.a, ends.first + r, ends.head, ends.batch);
        }
    }
}

}  // namespace flashring

#endif
