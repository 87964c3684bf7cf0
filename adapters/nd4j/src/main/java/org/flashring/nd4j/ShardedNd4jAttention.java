package org.flashring.nd4j;

import org.flashring.attention.ShardedAttention;
import org.flashring.comm.Communicator;
import org.flashring.plan.Plan;
import org.nd4j.linalg.api.ndarray.INDArray;

/**
 * Exact attention over a sequence that is sharded over ranks, by any strategy, of ND4J's arrays. One serves all layers
 * of a model in turn.
 *
 * <pre>{@code
 * try (ShardedNd4jAttention attention = new ShardedNd4jAttention(plan, communicator)) {
 *     AttentionPass pass = attention.forward(q, k, v);       // of this rank's tokens
 *     AttentionGradients gradients = pass.backward(dout);
 * }
 * }</pre>
 *
 * Ranks are threads or processes; every rank makes the same calls in the same order.
 */
public final class ShardedNd4jAttention implements AutoCloseable {
    private final ShardedAttention attention;

    /**
     * Makes this rank's part of the operation.
     *
     * @throws IllegalArgumentException if an argument is null, or the communicator's world size or kind of device is
     *     not the plan's
     */
    public ShardedNd4jAttention(Plan plan, Communicator communicator) {
        this.attention = new ShardedAttention(plan, communicator);
    }

    /** Returns the plan. */
    public Plan plan() {
        return attention.plan();
    }

    /**
     * Returns attention of this rank's queries over everybody's keys, [batch, queryHeads, local queries, valueDim],
     * laid out as {@link Nd4jAttention#scaledDotProductAttention} does. Collective, and so is its backward.
     *
     * @param q [batch, queryHeads, local queries, headDim], last dimension contiguous
     * @param k [batch, kvHeads, local keys, headDim]
     * @param v [batch, kvHeads, local keys, valueDim]
     * @throws IllegalArgumentException if an array does not fit the plan; nothing has then run
     * @throws IllegalStateException after close
     * @throws org.flashring.comm.CommunicationException if a peer fails or its plan is another
     */
    public AttentionPass forward(INDArray q, INDArray k, INDArray v) {
        return forward(q, k, v, null);
    }

    /**
     * Returns the same with sinks, the same on every rank.
     *
     * @param sinks [queryHeads], contiguous, DOUBLE with inputs of DOUBLE, else FLOAT; null if the plan's score has
     *     none
     */
    public AttentionPass forward(INDArray q, INDArray k, INDArray v, INDArray sinks) {
        return AttentionPass.run(
                Inputs.of(q, k, v, sinks), attention, null, plan().options().backward());
    }

    /** Frees the buffers. Its passes cannot run backward afterwards. The communicator stays open. */
    @Override
    public void close() {
        attention.close();
    }
}
