package org.flashring.nd4j;

import org.flashring.AttentionShape;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.attention.AttentionCalls;
import org.flashring.attention.PooledAttention;
import org.flashring.device.Device;
import org.nd4j.linalg.api.ndarray.INDArray;

/**
 * Exact attention of ND4J's arrays on one device in O(length) memory.
 *
 * <pre>{@code
 * INDArray out = Nd4jAttention.scaledDotProductAttention(q, k, v, Mask.causal());   // inference
 *
 * AttentionPass pass = Nd4jAttention.forward(q, k, v, Mask.causal());               // training
 * AttentionGradients gradients = pass.backward(dout);
 * }</pre>
 *
 * Inputs are read where they lie, whatever their order, strides and offset: permuted, a part of a larger array, rows of
 * a packed one. Nothing is copied. An input whose elements of a head do not lie side by side is refused.
 */
public final class Nd4jAttention {
    private Nd4jAttention() {}

    /**
     * Returns softmax(q kᵀ / sqrt(headDim) under the mask) v, [batch, queryHeads, queries, valueDim], whose memory has
     * the order batch, queries, heads: {@code out.permute(0, 2, 1, 3).reshape(batch, queries, heads * dim)} copies
     * nothing.
     *
     * @param q [batch, queryHeads, queries, headDim], last dimension contiguous
     * @param k [batch, kvHeads, keys, headDim]; queryHeads is a multiple of kvHeads
     * @param v [batch, kvHeads, keys, valueDim]
     * @param mask which keys each query sees; positions of queries and keys both begin at 0
     * @throws IllegalArgumentException if an array has another shape, type or stride, is closed, or lies in a workspace
     *     that has been left
     * @throws UnsupportedOperationException if no kernel serves the combination, or ND4J's backend is not the CPU's
     */
    public static INDArray scaledDotProductAttention(INDArray q, INDArray k, INDArray v, Mask mask) {
        return pass(q, k, v, mask, Score.standard(), null, null, false).out();
    }

    /**
     * Returns {@code out}, into which the same has been written, with scores of the caller's choice: another scale, a
     * softcap, ALiBi.
     *
     * @param out [batch, queryHeads, queries, valueDim], a view of a larger array for instance, of which no two
     *     elements share a place; null for a new array
     */
    public static INDArray scaledDotProductAttention(
            INDArray q, INDArray k, INDArray v, Mask mask, Score score, INDArray out) {
        return scaledDotProductAttention(q, k, v, mask, score, null, out);
    }

    /**
     * Returns the same with sinks.
     *
     * @param score one {@linkplain Score#withSinks() with sinks}
     * @param sinks [queryHeads], contiguous, DOUBLE with inputs of DOUBLE, else FLOAT; null for a score without sinks
     */
    public static INDArray scaledDotProductAttention(
            INDArray q, INDArray k, INDArray v, Mask mask, Score score, INDArray sinks, INDArray out) {
        return pass(q, k, v, mask, score, sinks, out, false).out();
    }

    /** Returns the same attention together with what its backward needs. */
    public static AttentionPass forward(INDArray q, INDArray k, INDArray v, Mask mask) {
        return forward(q, k, v, mask, Score.standard(), null);
    }

    /** Returns the same with scores of the caller's choice, its result in {@code out} unless that is null. */
    public static AttentionPass forward(INDArray q, INDArray k, INDArray v, Mask mask, Score score, INDArray out) {
        return forward(q, k, v, mask, score, null, out);
    }

    /** Returns the same with sinks, which get a gradient as the other inputs do. */
    public static AttentionPass forward(
            INDArray q, INDArray k, INDArray v, Mask mask, Score score, INDArray sinks, INDArray out) {
        return pass(q, k, v, mask, score, sinks, out, true);
    }

    private static AttentionPass pass(
            INDArray q,
            INDArray k,
            INDArray v,
            Mask mask,
            Score score,
            INDArray sinks,
            INDArray out,
            boolean backward) {
        Inputs inputs = Inputs.of(q, k, v, sinks);
        if (mask == null || score == null) {
            throw new IllegalArgumentException((mask == null ? "mask" : "score") + " is null");
        }
        AttentionCalls calls = null;
        if (q.size(0) > 0) {
            AttentionShape shape =
                    new AttentionShape(q.size(0), q.size(1), k.size(1), q.size(3), v.size(3), inputs.dtype());
            calls = new PooledAttention(shape, q.size(2), k.size(2), mask, score, backward, Device.HOST);
        }
        return AttentionPass.run(inputs, calls, out, backward);
    }
}
