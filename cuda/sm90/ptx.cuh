// What the Hopper kernels need of PTX (ISA 8.0 and newer, sm_90a) beside products: barriers in shared memory, the
// tensor copy engine, registers that move between warpgroups. Addresses are those of shared memory.
#ifndef FLASHRING_CUDA_SM90_PTX_CUH
#define FLASHRING_CUDA_SM90_PTX_CUH

#include <cuda.h>

#include <cstdint>

#include "common/ptx.cuh"
#include "rounding.h"

namespace flashring {

// ---- mbarriers: a phase ends when `count` threads have arrived and all bytes that were announced have come ----

__device__ inline void initBarrier(uint32_t barrier, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

// Shows initialised barriers to the copy engine; a __syncthreads() shows them to the block.
__device__ inline void publishBarriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ inline void arriveExpecting(uint32_t barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Waits for the end of the phase of this parity (0 first). A fresh barrier counts as having ended a phase of parity 1.
__device__ inline void wait(uint32_t barrier, uint32_t parity) {
    uint32_t ended;
    do {
        asm volatile(
            "{\n"
            ".reg .pred p;\n"
            "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
            "selp.u32 %0, 1, 0, p;\n"
            "}"
            : "=r"(ended)
            : "r"(barrier), "r"(parity)
            : "memory");
    } while (!ended);
}

// A position in a ring of kStages buffers, and the parity of the barriers there.
template <int kStages>
struct RingIndex {
    uint32_t stage = 0, parity = 0;

    __device__ void advance() {
        if (++stage == kStages) {
            stage = 0;
            parity ^= 1;
        }
    }

    __device__ RingIndex next() const {
        RingIndex following = *this;
        following.advance();
        return following;
    }
};

// ---- the tensor copy engine ----

// Fills a box of the map's shape in shared memory from element (column, row, head, batch) on; arrives as bytes at
// barrier.
__device__ inline void copyBox(uint32_t target, const CUtensorMap& map, int column, int row, int head, int batch,
                               uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
        "[%6];" ::"r"(target),
        "l"(&map), "r"(column), "r"(row), "r"(head), "r"(batch), "r"(barrier)
        : "memory");
}

// Writes a box of the map's shape in shared memory to the tensor; what lies beyond the tensor's end is left out. A box
// that begins before the tensor is an illegal instruction. Each thread that wrote to the box needs orderBeforeCopies(),
// and all a barrier, before.
__device__ inline void storeBox(const CUtensorMap& map, int column, int row, int head, int batch, uint32_t source) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(&map),
                 "r"(column), "r"(row), "r"(head), "r"(batch), "r"(source)
                 : "memory");
}

// Adds it, each element atomically.
__device__ inline void addBox(const CUtensorMap& map, int column, int row, int head, int batch, uint32_t source) {
    asm volatile(
        "cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(
            &map),
        "r"(column), "r"(row), "r"(head), "r"(batch), "r"(source)
        : "memory");
}

// Adds `bytes` bytes of float32, each element atomically. Addresses and size are multiples of 16.
__device__ inline void addBytes(float* target, uint32_t source, int bytes) {
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(target),
                 "r"(source), "r"(bytes)
                 : "memory");
}

__device__ inline void commitBoxes() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Waits until the boxes that this thread has committed have been read from shared memory.
__device__ inline void waitForBoxes() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

// Orders this thread's reads and writes of shared memory before what the copy engine and products do there after a
// barrier.
__device__ inline void orderBeforeCopies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The same for global memory, too.
__device__ inline void orderAllBeforeCopies() { asm volatile("fence.proxy.async;" ::: "memory"); }

__device__ inline void prefetchMap(const CUtensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Brings `bytes` bytes into the L2 cache. Address and size are multiples of 16.
__device__ inline void prefetchBytes(const void* memory, int bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(memory), "r"(bytes) : "memory");
}

// ---- warpgroups ----

// The value of lane 0: tells the compiler that all lanes have the same, so that it computes addresses once a warp.
__device__ inline int uniform(int value) { return __shfl_sync(~0u, value, 0); }

template <int kRegisters>
__device__ void raiseRegisters() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ void lowerRegisters() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

__device__ inline void beginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until no more than kPending batches of products are under way.
template <int kPending>
__device__ void waitForProducts() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Named barriers 1 to 15 among `threads` threads, those that only arrive included.
__device__ inline void syncNamed(int barrier, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ inline void arriveNamed(int barrier, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Whether the predicate holds for any of the `threads` threads of a named barrier, all of which wait here.
__device__ inline bool anyNamed(int barrier, int threads, bool holds) {
    int any;
    asm volatile(
        "{\n"
        ".reg .pred p, q;\n"
        "setp.ne.s32 p, %1, 0;\n"
        "bar.red.or.pred q, %2, %3, p;\n"
        "selp.s32 %0, 1, 0, q;\n"
        "}"
        : "=r"(any)
        : "r"(static_cast<int>(holds)), "r"(barrier), "r"(threads)
        : "memory");
    return any != 0;
}

// Four 8 x 8 matrices of 16-bit elements to shared memory; lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void storeMatrices(uint32_t address, const uint32_t (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(r[0]),
                 "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}

// Tiles lie in shared memory as panels of 64 columns, 128 bytes a row, the 16-byte words of each row permuted by its
// number modulo 8 (the copy engine's 128-byte swizzle); panels start on 1,024 bytes.
constexpr int kPanelColumns = 64;

constexpr int panels(int columns) { return ceilDiv(columns, kPanelColumns); }
constexpr int panelBytes(int rows) { return rows * kPanelColumns * 2; }

// A tile of panels as an operand (PTX ISA, matrix descriptor): 8 rows are 1,024 bytes, panels `panelStride` bytes
// apart.
__device__ inline uint64_t describe(uint32_t address, int panelStride) {
    return uint64_t{1} << 62 | uint64_t{1024 >> 4} << 32 | static_cast<uint64_t>(panelStride >> 4) << 16 |
           (address & 0x3ffff) >> 4;
}

// What a number of bytes adds to a descriptor.
constexpr uint64_t described(int bytes) { return static_cast<uint64_t>(bytes) >> 4; }

// Says for this warp that it is done with what the barrier guards.
__device__ __forceinline__ void releaseBarrier(const uint64_t& barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
        arrive(sharedAddress(&barrier));
    }
}

// 16 rows of a warp, from `row` on of a tile in panels of 64 rows, as the first operand of products.
template <int kSteps>
__device__ __forceinline__ void loadOwnRows(uint32_t (&operand)[kSteps][4], const char* tile, int row) {
    const int lane = threadIdx.x % 32;
    const uint32_t base = sharedAddress(tile) + (row + lane % 16) * 128;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
        loadMatrices<false>(operand[k],
                            base + k / 4 * panelBytes(64) + ((k % 4 * 32 + lane / 16 * 16) ^ (lane % 8 * 16)));
    }
}

}  // namespace flashring

#endif
