package org.flashring.djl;

import ai.djl.ndarray.NDArray;
import org.flashring.AttentionShape;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.attention.AttentionCalls;
import org.flashring.attention.PooledAttention;

/**
 * Exact attention on one device in O(length) memory, which DJL's operators cannot say.
 *
 * <pre>{@code
 * try (GradientCollector collector = Engine.getInstance().newGradientCollector()) {
 *     NDArray out = DjlAttention.scaledDotProductAttention(q, k, v, Mask.causal());
 *     collector.backward(out.sum());
 * }
 * }</pre>
 */
public final class DjlAttention {
    private DjlAttention() {}

    /**
     * Returns softmax(q kᵀ / sqrt(headDim) under the mask) v, [batch, queryHeads, queries, valueDim], whose memory has
     * the order batch, queries, heads: {@code out.swapAxes(1, 2).reshape(batch, queries, -1)} copies nothing. It is on
     * q's manager. Where gradients are collected and an input has one, the result is part of the autograd graph.
     *
     * <p>Inputs are read where they lie, whatever their strides: transposed, a part of a larger array, or broadcast
     * over heads or rows; nothing is copied. They are on the host or on one CUDA device, where the work goes to
     * PyTorch's current stream.
     *
     * @param q [batch, queryHeads, queries, headDim], last dimension contiguous
     * @param k [batch, kvHeads, keys, headDim]; queryHeads is a multiple of kvHeads
     * @param v [batch, kvHeads, keys, valueDim]
     * @param mask which keys each query sees; positions of queries and keys both begin at 0
     * @throws IllegalArgumentException if an array has another shape, type, device or stride, is closed or of another
     *     engine
     * @throws UnsupportedOperationException if no kernel serves the combination; the message names it
     */
    public static NDArray scaledDotProductAttention(NDArray q, NDArray k, NDArray v, Mask mask) {
        return scaledDotProductAttention(q, k, v, mask, Score.standard());
    }

    /** Returns the same with scores of the caller's choice: another scale, a softcap, ALiBi. */
    public static NDArray scaledDotProductAttention(NDArray q, NDArray k, NDArray v, Mask mask, Score score) {
        return scaledDotProductAttention(q, k, v, mask, score, null);
    }

    /**
     * Returns the same with sinks, which may have a gradient as the other inputs may.
     *
     * @param score one {@linkplain Score#withSinks() with sinks}
     * @param sinks [queryHeads], contiguous, FLOAT64 with inputs of FLOAT64, else FLOAT32; null for a score without
     *     sinks
     */
    public static NDArray scaledDotProductAttention(
            NDArray q, NDArray k, NDArray v, Mask mask, Score score, NDArray sinks) {
        Inputs inputs = new Inputs(q, k, v, sinks);
        if (mask == null || score == null) {
            throw new IllegalArgumentException((mask == null ? "mask" : "score") + " is null");
        }
        AttentionCalls calls = null;
        if (inputs.q().size(0) > 0) {
            AttentionShape shape = new AttentionShape(
                    inputs.q().size(0),
                    inputs.q().size(1),
                    inputs.k().size(1),
                    inputs.q().size(3),
                    inputs.v().size(3),
                    inputs.q().dtype());
            calls = new PooledAttention(
                    shape,
                    inputs.q().size(2),
                    inputs.k().size(2),
                    mask,
                    score,
                    inputs.differentiable(),
                    inputs.q().device());
        }
        return inputs.attend(calls, inputs.differentiable());
    }
}
