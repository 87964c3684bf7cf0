// Short caches on Hopper: the blocks of a key head are a cluster, and what the teams of sm80/decode.cuh have left they
// merge themselves after a barrier, where a kernel of its own would take as long as the reading.
#ifndef FLASHRING_CUDA_SM90_DECODE_CLUSTER_CUH
#define FLASHRING_CUDA_SM90_DECODE_CLUSTER_CUH

#include "sm80/decode.cuh"

namespace flashring {

// A barrier of a cluster, behind which all see what each has written before it.
__device__ inline void syncCluster() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// The states of a query of a batch row. Run by a whole warp.
__device__ inline RowStates statesOf(const DecodeArguments& a, const DecodeCut& cut, int batch, int query) {
    if (!a.ownRows) {
        const int tiles = cut.tiles / static_cast<int>(a.step.batch);
        return {a.step, cut, batch * tiles, (batch + 1) * tiles, batch, query};
    }
    int before = 0, after = 0;
    forEachRow(a, [&](int row, int tiles, int first, const DecodeSpan&) {
        before = row == batch ? first : before;
        after = row == batch ? first + tiles : after;
        return false;
    });
    return {a.step, cut, __shfl_sync(~0u, before, batch % 32), __shfl_sync(~0u, after, batch % 32), batch, query};
}

// Teams fill a block, which is as large as the merge asks for, and leave the memory that it shares.
constexpr bool clustersMerge(int dim) {
    constexpr int kBytes = static_cast<int>(SharedMemory::KB227) - kDecodeStaticBytes;
    const DecodeTile tile = decodeTile(dim, 0);
    const int teams = kMaxDecodeThreads / tile.teamThreads(), bytes = teams * tile.teamBytes(dim);
    return bytes <= kBytes && bytes >= static_cast<int>(sizeof(MergeShared));
}
static_assert(kMaxDecodeThreads == kMergeWarps * 32 && clustersMerge(64) && clustersMerge(kHopperDecodeDim));

template <class Element, int kDim>
__global__ void __cluster_dims__(kClusterBlocks, 1, 1) __launch_bounds__(kMaxDecodeThreads, 1)
    decodeClusterKernel(const __grid_constant__ DecodeArguments a) {
    extern __shared__ __align__(16) char memory[];
    waitForEarlierKernel();
    letNextKernelStart();
    const DecodeCut cut = decode<Element, kDim, 0, false>(a);
    syncCluster();
    const BlockPlace place = placeOfBlock(a);
    const int count = static_cast<int>(a.step.batch) * a.rows, warps = count <= kClusterBlocks ? kMergeWarps : 2,
              together = kMergeWarps / warps;
    MergeShared& shared = *reinterpret_cast<MergeShared*>(memory);
    for (int first = place.number * together; first < count; first += kClusterBlocks * together) {
        const int row = first + static_cast<int>(threadIdx.x) / 32 / warps, batch = row / a.rows, packed = row % a.rows;
        const bool exists = row < count;
        const int query = packed / a.group;
        const RowStates states = exists ? statesOf(a, cut, batch, query) : RowStates{};
        mergeRow<Element>(a, shared, states, batch, query, place.keyHead * a.group + packed % a.group, exists, warps);
        __syncthreads();
    }
}

template <class Element>
void clusterDecode(const DecodeArguments& a) {
    const auto start = [&](void (*kernel)(DecodeArguments), const DecodeTile& tile) {
        launch(kernel, "decode kernel of clusters", Start::Early, a.blocks * a.step.kv_heads,
               a.teams * tile.teamThreads(), a.teams * tile.teamBytes(a.pitch), a.step.stream, a);
    };
    a.pitch == 64 ? start(decodeClusterKernel<Element, 64>, decodeTile(64, 0))
                  : start(decodeClusterKernel<Element, 128>, decodeTile(128, 0));
}

}  // namespace flashring

#endif
