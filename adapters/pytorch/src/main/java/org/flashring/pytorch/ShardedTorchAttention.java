package org.flashring.pytorch;

import org.bytedeco.pytorch.Tensor;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.Communicator;
import org.flashring.plan.Plan;

/**
 * Exact attention over a sequence that is sharded over ranks, by any strategy, as a node of PyTorch's autograd graph.
 * One serves all layers of a model in turn.
 *
 * <pre>{@code
 * try (ShardedTorchAttention attention = new ShardedTorchAttention(plan, communicator)) {
 *     Tensor out = attention.forward(q, k, v);       // of this rank's tokens
 *     loss(out).backward();
 * }
 * }</pre>
 *
 * Ranks are threads or processes, each with a model of its own; every rank makes the same calls in the same order, and
 * its loss has to depend on the result of each, or the others wait for its backward. Threads call {@code backward}
 * themselves, each on its own graph: on the host PyTorch runs it in the thread that calls it.
 */
public final class ShardedTorchAttention implements AutoCloseable {
    private final ShardedAttention attention;

    /**
     * Makes this rank's part of the operation.
     *
     * @throws IllegalArgumentException if an argument is null, or the communicator's world size or kind of device is
     *     not the plan's
     */
    public ShardedTorchAttention(Plan plan, Communicator communicator) {
        this.attention = new ShardedAttention(plan, communicator);
    }

    /** Returns the plan. */
    public Plan plan() {
        return attention.plan();
    }

    /**
     * Returns attention of this rank's queries over everybody's keys, [batch, queryHeads, local queries, valueDim],
     * laid out and attached to the graph as {@link TorchAttention#scaledDotProductAttention} does. Collective, and so
     * is the backward of a result.
     *
     * @param q [batch, queryHeads, local queries, headDim], last dimension contiguous
     * @param k [batch, kvHeads, local keys, headDim]
     * @param v [batch, kvHeads, local keys, valueDim]
     * @throws IllegalArgumentException if a tensor does not fit the plan; nothing has then run
     * @throws IllegalStateException if an input requires a gradient and the plan is forwardOnly, or after close
     * @throws org.flashring.comm.CommunicationException if a peer fails or its plan is another
     */
    public Tensor forward(Tensor q, Tensor k, Tensor v) {
        return forward(q, k, v, null);
    }

    /**
     * Returns the same with sinks, the same on every rank. Their gradient is that of this rank's queries, as a
     * parameter's is: {@link ParameterSync} sums it over ranks.
     *
     * @param sinks [queryHeads], contiguous, Double with inputs of Double, else Float; null if the plan's score has
     *     none
     */
    public Tensor forward(Tensor q, Tensor k, Tensor v, Tensor sinks) {
        TorchAttention.Inputs inputs = TorchAttention.Inputs.of(q, k, v, sinks);
        boolean backward = plan().options().backward();
        if (inputs.requireGradient() && !backward) {
            throw new IllegalStateException(
                    "an input requires a gradient, but the plan is forwardOnly: turn gradients off or plan without it");
        }
        return inputs.attend(attention, backward);
    }

    /** Frees the buffers. Graphs of its results cannot be differentiated afterwards. The communicator stays open. */
    @Override
    public void close() {
        attention.close();
    }
}
