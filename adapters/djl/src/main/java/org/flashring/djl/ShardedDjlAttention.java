package org.flashring.djl;

import ai.djl.ndarray.NDArray;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.Communicator;
import org.flashring.plan.Plan;

/**
 * Exact attention over a sequence that is sharded over ranks, by any strategy, as part of PyTorch's autograd graph. One
 * serves all layers of a model in turn.
 *
 * <pre>{@code
 * try (ShardedDjlAttention attention = new ShardedDjlAttention(plan, communicator);
 *         GradientCollector collector = new ThreadGradientCollector(parameters)) {
 *     NDArray out = attention.forward(q, k, v);      // of this rank's tokens
 *     collector.backward(loss(out));
 * }
 * }</pre>
 *
 * Ranks are threads or processes, each with a model of its own; every rank makes the same calls in the same order, and
 * its loss has to depend on the result of each, or the others wait for its backward.
 */
public final class ShardedDjlAttention implements AutoCloseable {
    private final ShardedAttention attention;

    /**
     * Makes this rank's part of the operation.
     *
     * @throws IllegalArgumentException if an argument is null, or the communicator's world size or kind of device is
     *     not the plan's
     */
    public ShardedDjlAttention(Plan plan, Communicator communicator) {
        this.attention = new ShardedAttention(plan, communicator);
    }

    /** Returns the plan. */
    public Plan plan() {
        return attention.plan();
    }

    /**
     * Returns attention of this rank's queries over everybody's keys, [batch, queryHeads, local queries, valueDim],
     * laid out and attached to the graph as {@link DjlAttention#scaledDotProductAttention} does. Collective, and so is
     * the backward of a result.
     *
     * @param q [batch, queryHeads, local queries, headDim], last dimension contiguous
     * @param k [batch, kvHeads, local keys, headDim]
     * @param v [batch, kvHeads, local keys, valueDim]
     * @throws IllegalArgumentException if an array does not fit the plan; nothing has then run
     * @throws IllegalStateException if an input has a gradient to be collected and the plan is forwardOnly, or after
     *     close
     * @throws org.flashring.comm.CommunicationException if a peer fails or its plan is another
     */
    public NDArray forward(NDArray q, NDArray k, NDArray v) {
        return forward(q, k, v, null);
    }

    /**
     * Returns the same with sinks, the same on every rank. Their gradient is that of this rank's queries, as a
     * parameter's is: {@link ParameterSync} sums it over ranks.
     *
     * @param sinks [queryHeads], contiguous, FLOAT64 with inputs of FLOAT64, else FLOAT32; null if the plan's score has
     *     none
     */
    public NDArray forward(NDArray q, NDArray k, NDArray v, NDArray sinks) {
        Inputs inputs = new Inputs(q, k, v, sinks);
        boolean backward = plan().options().backward();
        if (inputs.differentiable() && !backward) {
            throw new IllegalStateException("an input has a gradient to be collected, but the plan is forwardOnly:"
                    + " turn gradients off (JniUtils.setGradMode) or plan without it");
        }
        return inputs.attend(attention, backward);
    }

    /** Frees the buffers. Graphs of its results cannot be differentiated afterwards. The communicator stays open. */
    @Override
    public void close() {
        attention.close();
    }
}
