// What the kernels share that compute dK and dV apart from dQ on Hopper.
//
// A hidden pair has weight 0, and 0 * NaN carries NaN to keys that must not see it. So where a block has met a border
// of the mask, the keys whose gradients are not finite in the end are computed again, pair by pair; and queries where
// dQ is computed.
#ifndef FLASHRING_CUDA_SM90_SEPARATE_PARTS_CUH
#define FLASHRING_CUDA_SM90_SEPARATE_PARTS_CUH

#include <math.h>

#include "common/early_start.cuh"
#include "sm90/backward_copies.cuh"
#include "sm90/backward_outputs.cuh"
#include "sm90/key_rows.cuh"
#include "sm90/pairwise.cuh"
#include "sm90/wgmma.cuh"

namespace flashring {

// A tile of kRows rows, by boxes of 64.
template <int kRows>
__device__ __forceinline__ void copyBoxes(char* tile, const CUtensorMap& map, int dim, int first, int head, int batch,
                                          uint64_t& full) {
    constexpr int kBoxes = kRows / 64;  // a panel
    arriveExpecting(sharedAddress(&full), panels(dim) * panelBytes(kRows));
    for (int box = 0; box < panels(dim) * kBoxes; ++box) {
        copyBox(sharedAddress(tile) + box * panelBytes(64), map, box / kBoxes * kPanelColumns,
                first + box % kBoxes * 64, head, batch, sharedAddress(&full));
    }
}

__device__ __forceinline__ void waitForBarrier(const uint64_t& barrier, uint32_t parity) {
    wait(sharedAddress(&barrier), parity);
}

// Address of a tile that stays: computed anew each time, as many descriptors kept in registers would leave none.
__device__ __forceinline__ uint32_t addressAnew(const char* tile) {
    uint32_t address;
    asm volatile("mov.u32 %0, %1;" : "=r"(address) : "r"(sharedAddress(tile)));
    return address;
}

// gradient += operand (64 rows, 64 columns) times a tile of 64 rows
template <class Element, int kDim>
__device__ __forceinline__ void multiplyOperand(float (&gradient)[kDim / 2], const uint32_t (&operand)[4][4],
                                                const char* tile) {
    const uint64_t b = describe(sharedAddress(tile), panelBytes(64));
    beginProducts();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        Wgmma<kDim>::template registers<Element, 1, 1>(gradient, operand[k], b + described(k * 16 * 128));
    }
}

// Rounds a pair of this lane's row `half` to where operand n * 8 columns on has it.
template <class Element>
__device__ __forceinline__ void packPair(uint32_t (&operand)[4][4], int n, int half, float first, float second) {
    operand[n / 2][n % 2 * 2 + half] = pack<Element>(first, second);
}

// Of a warp's 16 rows of an accumulator those that hold anything not finite, as bits.
template <int kCount>
__device__ __forceinline__ uint32_t rowsNotFinite(const float (&gradient)[kCount]) {
    uint32_t rows = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float probe = 0;
#pragma unroll
        for (int i = 0; i < kCount / 4; ++i) {
            probe = fmaf(gradient[i * 4 + half * 2], 0.0f, fmaf(gradient[i * 4 + half * 2 + 1], 0.0f, probe));
        }
        const uint32_t lanes = __ballot_sync(~0u, probe != 0);
#pragma unroll
        for (int row = 0; row < 8; ++row) {
            rows |= (lanes >> row * 4 & 15 ? 1u : 0) << (half * 8 + row);
        }
    }
    return rows;
}

// A row among a warp's 16 in its boxes of 32 columns; each lane has every 32nd column.
template <int kColumns>
__device__ __forceinline__ void stageRow(const float (&sum)[kColumns], float scale, char* boxes, int row) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
        *reinterpret_cast<float*>(boxes + i * kGradientBoxBytes + row * 128 + (lane / 4 ^ row % 8) * 16 +
                                  lane % 4 * 4) = sum[i] * scale;
    }
}

// A key's dV (kScores) or dK, pair by pair.
template <class Element, Shaping kShaping, bool kScores, int kColumns>
__device__ __forceinline__ void addPairsOfKey(const HopperBackwardArguments& h, const BackwardWork& work, int key,
                                              float (&sum)[kColumns]) {
    const flashring_step& step = h.a.step;
#pragma unroll 1
    for (int head = work.firstHead; head < work.lastHead; ++head) {
#pragma unroll 1
        for (int i = work.firstQuery; i < work.lastQuery && h.a.lo[i] <= key; ++i) {
            if (key >= h.a.hi[i]) {
                continue;
            }
            const PairWeight weight = weighPair<Element, kShaping>(h.a, i, key, head, work.batch);
            if (!addRow(sum, kScores ? weight.p : weight.ds,
                        row<const Element>(kScores ? step.dout : step.q, work.batch, i, head),
                        kScores ? step.value_dim : step.head_dim)) {
                return;
            }
        }
    }
}

// Sends a warp's 16 keys' dV (kScores) or dK from `key` on, which exists, by way of kDim / 32 boxes.
template <class Element, class Config, bool kScores, int kDim = kScores ? Config::kDims.value : Config::kDims.key>
__device__ __forceinline__ void sendKeys(const float (&gradient)[kDim / 2], const HopperBackwardArguments& h,
                                         const BackwardWork& work, int key, char* boxes, bool bordered) {
    const int length = static_cast<int>(h.a.step.kv_len);
    const float scale = kScores ? 1 : static_cast<float>(h.a.step.softmax_scale);
    stageGradient<kDim>(gradient, scale, boxes);
    if (bordered) {
        const uint32_t spoilt = rowsNotFinite(gradient);
        __syncwarp();
#pragma unroll 1
        for (int i = 0; i < 16 && key + i < length; ++i) {
            if (spoilt >> i & 1) {
                float sum[kDim / 32] = {};
                addPairsOfKey<Element, Config::kShaping, kScores>(h, work, key + i, sum);
                stageRow(sum, scale, boxes, i);
            }
        }
    }
    sendGradient<kDim>(kScores ? h.dv : h.dk, boxes, key, work.keyHead, work.batch, h.addsDkv);
}

}  // namespace flashring

#endif
