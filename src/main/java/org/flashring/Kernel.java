package org.flashring;

/** An implementation of the attention step, in the order of {@code flashring_kernel} in the native interface. */
public enum Kernel {
    /** The first row of the capability table that serves the step. */
    AUTO,
    /** The plain formula, slow, for comparison. */
    REFERENCE,
    /** Baseline x86-64 vectors. */
    SIMD128,
    /** AVX2 with FMA. */
    AVX2,
    /** AVX-512. */
    AVX512,
    /** AVX-512 with bfloat16 tile products. */
    AMX,
    /** CUDA tensor cores, warp by warp; compute capability 8.0 and newer. */
    MMA,
    /** Hopper's warpgroups and copy engine; compute capability 9.0, rows on 16 bytes. */
    WGMMA,
    /** AVX-512 with bfloat16 dot products, which take denormals for 0. */
    AVX512BF16,
    /**
     * Few queries against many keys, which are split over the multiprocessors of a GPU of compute capability 8.0 or
     * newer, or over the host's cores, with AVX2; forward where queries times query heads of a key head are at most 64.
     */
    DECODE;

    /** Returns the number that stands for this kernel in the native interface. */
    public int code() {
        return ordinal();
    }
}
