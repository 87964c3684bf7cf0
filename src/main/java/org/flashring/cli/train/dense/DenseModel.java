package org.flashring.cli.train.dense;

/**
 * The size of a Llama-shaped model: RMSNorm before each block, rotary positions, grouped-query attention, a SwiGLU MLP
 * and an output layer of its own.
 *
 * @param layers blocks of attention and MLP
 * @param heads query heads
 * @param kvHeads key and value heads, a divisor of heads
 * @param headDim size of a head, even because rotary positions turn pairs
 * @param dim width of the residual stream
 * @param hidden width of the MLP
 * @param vocabulary number of tokens
 * @param epsilon added to the mean square of a norm
 * @param ropeBase of the angles of rotary positions
 */
public record DenseModel(
        int layers,
        int heads,
        int kvHeads,
        int headDim,
        int dim,
        int hidden,
        int vocabulary,
        double epsilon,
        double ropeBase) {
    private static final double EPSILON = 1e-6;
    private static final double ROPE_BASE = 10_000;

    /** @throws IllegalArgumentException if a size is not positive or sizes do not fit together */
    public DenseModel {
        atLeastOne("layers", layers);
        atLeastOne("heads", heads);
        atLeastOne("kvHeads", kvHeads);
        atLeastOne("dim", dim);
        atLeastOne("hidden", hidden);
        atLeastOne("vocabulary", vocabulary);
        if (heads % kvHeads != 0) {
            throw new IllegalArgumentException("heads is " + heads + "; it must be a multiple of kvHeads = " + kvHeads);
        }
        if (headDim < 2 || headDim % 2 != 0) {
            throw new IllegalArgumentException("headDim is " + headDim + "; it must be even and at least 2");
        }
    }

    private static void atLeastOne(String name, int value) {
        if (value < 1) {
            throw new IllegalArgumentException(name + " is " + value + "; it must be at least 1");
        }
    }

    /** Returns a model with the usual epsilon and base, whose heads share its width. */
    public static DenseModel of(int layers, int heads, int kvHeads, int dim, int hidden, int vocabulary) {
        return new DenseModel(
                layers, heads, kvHeads, dim / Math.max(1, heads), dim, hidden, vocabulary, EPSILON, ROPE_BASE);
    }

    /** Returns the same with heads and an MLP of other sizes. */
    public DenseModel with(int otherHeadDim, int otherHidden) {
        return new DenseModel(layers, heads, kvHeads, otherHeadDim, dim, otherHidden, vocabulary, epsilon, ropeBase);
    }

    /** Returns the elements of a token's queries, or of its attention's output. */
    long queryWidth() {
        return (long) heads * headDim;
    }

    /** Returns the elements of a token's queries, keys and values. */
    long qkvWidth() {
        return (heads + 2L * kvHeads) * headDim;
    }
}
