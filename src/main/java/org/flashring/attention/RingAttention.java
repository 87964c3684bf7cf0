package org.flashring.attention;

import org.flashring.Tensor;
import org.flashring.comm.Communicator;
import org.flashring.internal.Checks;
import org.flashring.plan.Plan;
import org.flashring.plan.Ring;

/**
 * Exact attention over a sequence that is sharded over ranks: each rank keeps its queries, keys and values go round the
 * ring (Liu et al. 2023, Ring Attention), and in backward their gradients travel with them. It is
 * {@link ShardedAttention} for plans whose strategy is the {@link Ring}, and all that is said there holds here.
 */
public final class RingAttention implements AutoCloseable {
    private final ShardedAttention attention;
    private final KnownOperands known = new KnownOperands();

    /**
     * Makes this rank's part of the operation.
     *
     * @throws IllegalArgumentException if an argument is null, the plan is none of a ring, or the communicator's world
     *     size or kind of device is not the plan's
     * @throws OutOfMemoryError if the buffers cannot be had
     */
    public RingAttention(Plan plan, Communicator communicator) {
        if (!(Checks.notNull("plan", plan).strategy() instanceof Ring)) {
            throw Checks.broken("plan.strategy", plan.strategy(), "be the ring; ShardedAttention takes any");
        }
        this.attention = new ShardedAttention("RingAttention", plan, communicator);
    }

    /** Returns the plan. */
    public Plan plan() {
        return attention.plan();
    }

    /** Returns the bytes that this object holds outside the Java heap; equals {@link Plan#bytesHeld} of its rank. */
    public long bytesHeld() {
        return attention.bytesHeld();
    }

    /**
     * Computes out and lse on the default stream, as {@link ShardedAttention#forward}; the operands are those of
     * {@link Forward}.
     */
    public void forward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse) {
        forward(q, k, v, out, lse, 0);
    }

    /** Computes out and lse in the order of a stream, as {@link ShardedAttention#forward}. */
    public void forward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, long stream) {
        attention.forward(known.forward(q, k, v, out, lse), stream);
    }

    /**
     * Computes dq, dk and dv on the default stream, as {@link ShardedAttention#backward}; the operands are those of
     * {@link Backward}.
     */
    public void backward(
            Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor dout, Tensor dq, Tensor dk, Tensor dv) {
        backward(q, k, v, out, lse, dout, dq, dk, dv, 0);
    }

    /** Computes dq, dk and dv in the order of a stream, as {@link ShardedAttention#backward}. */
    public void backward(
            Tensor q,
            Tensor k,
            Tensor v,
            Tensor out,
            Tensor lse,
            Tensor dout,
            Tensor dq,
            Tensor dk,
            Tensor dv,
            long stream) {
        attention.backward(known.backward(known.forward(q, k, v, out, lse), dout, dq, dk, dv), stream);
    }

    /** Computes out and lse in the order of a stream, as {@link ShardedAttention#forward}. */
    public void forward(Forward operands, long stream) {
        attention.forward(operands, stream);
    }

    /** Computes dq, dk and dv in the order of a stream, as {@link ShardedAttention#backward}. */
    public void backward(Backward operands, long stream) {
        attention.backward(operands, stream);
    }

    /** Frees the buffers. Closing twice is harmless; the communicator stays open. */
    @Override
    public void close() {
        attention.close();
    }
}
