package org.flashring.attention;

import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Device;
import org.flashring.internal.Checks;
import org.flashring.internal.Made;
import org.flashring.plan.Plan;

/**
 * Exact attention on one device in O(length) memory: {@link ShardedAttention} with a world of one.
 *
 * <pre>{@code
 * AttentionShape shape = AttentionShape.of(batch, heads, kvHeads, headDim, DType.BFLOAT16);
 * try (FlashAttention attention = new FlashAttention(shape, length, Mask.causal())) {
 *     attention.forward(q, k, v, out, lse);
 *     attention.backward(q, k, v, out, lse, dout, dq, dk, dv);
 * }
 * }</pre>
 */
public final class FlashAttention implements AttentionCalls, AutoCloseable {
    private final Communicator alone;
    private final ShardedAttention attention;
    private final KnownOperands known = new KnownOperands();

    /**
     * Makes self-attention over {@code length} tokens.
     *
     * @throws IllegalArgumentException if an argument is null or breaks a rule
     * @throws UnsupportedOperationException if no kernel serves the combination
     */
    public FlashAttention(AttentionShape shape, long length, Mask mask) {
        this(Plan.of(shape, Layout.contiguous(length, 1), mask, AttentionOptions.defaults()));
    }

    /**
     * Makes attention after a plan, such as one whose queries lie apart from its keys.
     *
     * @throws IllegalArgumentException if the plan is for more than one rank
     */
    public FlashAttention(Plan plan) {
        this(plan, Device.HOST);
    }

    /**
     * Makes attention after a plan on one device, the host or a GPU.
     *
     * @throws IllegalArgumentException if the plan is for more than one rank or for the other kind of device
     */
    public FlashAttention(Plan plan, Device device) {
        Checks.notNull("plan", plan);
        Checks.notNull("device", device);
        Checks.equal("plan.worldSize", plan.worldSize(), 1, "since FlashAttention runs on one device");
        if (device.isCuda() != plan.options().cuda()) {
            throw Checks.broken(
                    "device", device, "be " + (plan.options().cuda() ? "a CUDA device" : "the host") + ", as planned");
        }
        try (Made made = new Made()) {
            this.alone = made.add(LocalGroup.single(device));
            this.attention = new ShardedAttention("FlashAttention", plan, alone);
            made.keep();
        }
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
    @Override
    public void forward(Forward operands, long stream) {
        attention.forward(operands, stream);
    }

    /** Computes gradients in the order of a stream, as {@link ShardedAttention#backward}. */
    @Override
    public void backward(Backward operands, long stream) {
        attention.backward(operands, stream);
    }

    /** Frees the buffers. Closing twice is harmless. */
    @Override
    public void close() {
        attention.close();
        alone.close();
    }
}
