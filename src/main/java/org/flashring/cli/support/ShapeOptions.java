package org.flashring.cli.support;

import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.internal.Checks;
import org.flashring.kernel.Capability;

/** Shapes as options give them, so that what is wrong with one is said of the option. */
public final class ShapeOptions {
    private ShapeOptions() {}

    /**
     * Returns the shape of attention.
     *
     * @param kvHeads null for as many as {@code heads}
     * @param dimOption name of the option that {@code headDim} comes from
     * @throws IllegalArgumentException if an option is out of range
     */
    public static AttentionShape shape(
            long batch, long heads, Long kvHeads, String dimOption, long headDim, DType dtype) {
        Checks.atLeast("--batch", batch, 1);
        requireGroups(heads, kvHeads == null ? heads : kvHeads);
        Checks.between(dimOption, headDim, 1, largestHeadDim());
        return AttentionShape.of(batch, heads, kvHeads == null ? heads : kvHeads, headDim, dtype);
    }

    /** Throws IllegalArgumentException unless query heads can be shared out evenly over key heads. */
    public static void requireGroups(long heads, long kvHeads) {
        Checks.atLeast("--heads", heads, 1);
        Checks.atLeast("--kv-heads", kvHeads, 1);
        if (heads % kvHeads != 0) {
            throw Checks.broken("--heads", heads, "be a multiple of --kv-heads = " + kvHeads);
        }
    }

    /** Returns the largest head that a kernel serves. */
    public static long largestHeadDim() {
        return Capability.all().stream().mapToInt(Capability::maxHeadDim).max().orElseThrow();
    }
}
