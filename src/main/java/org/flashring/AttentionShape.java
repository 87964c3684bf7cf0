package org.flashring;

import org.flashring.internal.Checks;

/**
 * The shape of an attention layer, its lengths apart. Query head h uses key head h / (queryHeads / kvHeads): multi-head
 * where the two are equal, grouped-query where kvHeads is smaller, multi-query where it is 1.
 *
 * @param batch rows that share lengths, layout and mask
 * @param queryHeads heads of q, a multiple of kvHeads
 * @param kvHeads heads of k and v
 * @param headDim size of a head of q and k
 * @param valueDim size of a head of v and of the output
 * @param dtype element type of q, k, v and the output
 */
public record AttentionShape(long batch, long queryHeads, long kvHeads, long headDim, long valueDim, DType dtype) {
    /** @throws IllegalArgumentException unless sizes are at least 1, and queryHeads is a multiple of kvHeads */
    public AttentionShape {
        Checks.atLeast("batch", batch, 1);
        Checks.atLeast("queryHeads", queryHeads, 1);
        Checks.atLeast("kvHeads", kvHeads, 1);
        Checks.atLeast("headDim", headDim, 1);
        Checks.atLeast("valueDim", valueDim, 1);
        Checks.notNull("dtype", dtype);
        if (queryHeads % kvHeads != 0) {
            throw Checks.broken("queryHeads", queryHeads, "be a multiple of kvHeads = " + kvHeads);
        }
    }

    /** Returns a shape whose value dim equals its head dim. */
    public static AttentionShape of(long batch, long queryHeads, long kvHeads, long headDim, DType dtype) {
        return new AttentionShape(batch, queryHeads, kvHeads, headDim, headDim, dtype);
    }

    @Override
    public String toString() {
        return "B" + batch + " H" + queryHeads + (kvHeads == queryHeads ? "" : "/" + kvHeads) + " D" + headDim
                + (valueDim == headDim ? "" : "/" + valueDim) + " " + dtype;
    }
}
