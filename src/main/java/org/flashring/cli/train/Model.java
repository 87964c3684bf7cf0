package org.flashring.cli.train;

import org.flashring.cli.support.ShapeOptions;
import org.flashring.internal.Checks;

/**
 * The size of a {@link Transformer}. What is wrong with it is said of the options that it comes from.
 *
 * @param layers blocks of attention and MLP
 * @param heads query heads
 * @param kvHeads key and value heads, a divisor of heads
 * @param dim width of the residual stream, a multiple of 2 * heads, at most 16,384
 */
record Model(int layers, int heads, int kvHeads, int dim) {
    private static final int WIDEST = 1 << 14; // a matrix then fits into a Java array

    /** @throws IllegalArgumentException if sizes do not fit together */
    Model {
        Checks.atLeast("--layers", layers, 1);
        ShapeOptions.requireGroups(heads, kvHeads);
        Checks.between("--dim", dim, 1, WIDEST);
        if (dim % (2L * heads) != 0) {
            throw Checks.broken(
                    "--dim",
                    dim,
                    "be a multiple of 2 * --heads = " + 2L * heads + ", because rotary positions turn pairs");
        }
        long widest = heads * ShapeOptions.largestHeadDim();
        if (dim > widest) {
            throw Checks.broken(
                    "--dim",
                    dim,
                    "be at most " + widest + ", or --heads be more: kernels serve heads of up to "
                            + ShapeOptions.largestHeadDim());
        }
    }

    int headDim() {
        return dim / heads;
    }

    /**
     * Returns the width of the gated MLP, 8/3 dim to a multiple of 16: its three matrices cost as much as two of 4 dim.
     */
    int hidden() {
        return (8 * dim / 3 + 15) / 16 * 16;
    }
}
