package org.flashring.attention;

import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.function.Consumer;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.device.Device;
import org.flashring.internal.Checks;
import org.flashring.internal.Cudart;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;

/**
 * Attention on one device for calls of any shape, one after another or in threads at once: plans and buffers of earlier
 * calls serve later ones of the same kind, since planning takes longer than a small attention. A call has a
 * {@link FlashAttention} to itself; idle ones are kept up to {@link #MOST_IDLE} in all, the latest first.
 *
 * @param shape batch, heads, dims and type
 * @param queries their number; positions begin at 0
 * @param keys their number; positions begin at 0
 * @param mask which keys each query sees
 * @param score how scores are made
 * @param training whether backward may follow
 * @param device where the operands lie
 */
public record PooledAttention(
        AttentionShape shape, long queries, long keys, Mask mask, Score score, boolean training, Device device)
        implements AttentionCalls {
    private static final int MOST_IDLE = 16;
    private static final ArrayDeque<Operation> IDLE = new ArrayDeque<>();

    /**
     * @throws IllegalArgumentException if {@code shape}, {@code mask}, {@code score} or {@code device} is null, or a
     *     number is negative
     */
    public PooledAttention {
        Checks.notNull("shape", shape);
        Checks.atLeast("queries", queries, 0);
        Checks.atLeast("keys", keys, 0);
        Checks.notNull("mask", mask);
        Checks.notNull("score", score);
        Checks.notNull("device", device);
    }

    /** Calls of one kind on different streams would have no order among them. */
    private record Operation(PooledAttention kind, long stream, FlashAttention attention) {}

    /**
     * Computes out and lse.
     *
     * @throws IllegalArgumentException if an operand does not fit
     * @throws UnsupportedOperationException if no kernel serves the combination, which the message names, or the stream
     *     is being captured in a CUDA graph
     */
    @Override
    public void forward(Forward operands, long stream) {
        call(stream, attention -> attention.forward(operands, stream));
    }

    /**
     * Computes dq, dk and dv.
     *
     * @throws IllegalArgumentException if an operand does not fit
     * @throws IllegalStateException unless it is for training
     */
    @Override
    public void backward(Backward operands, long stream) {
        call(stream, attention -> attention.backward(operands, stream));
    }

    /** Makes a call with an operation that is kept for later ones unless the call fails. */
    private void call(long stream, Consumer<FlashAttention> call) {
        Operation operation = take(stream);
        try {
            call.accept(operation.attention());
        } catch (RuntimeException | Error e) {
            try {
                operation.attention().close(); // it may be on a stream that is none, or broken
            } catch (RuntimeException failure) {
                e.addSuppressed(failure);
            }
            throw e;
        }
        giveBack(operation);
    }

    /** Returns the number of operations that wait for calls of their kind. */
    static int idle() {
        synchronized (IDLE) {
            return IDLE.size();
        }
    }

    private Plan plan() {
        AttentionOptions options = AttentionOptions.defaults();
        options = training ? options : options.forwardOnly();
        options = device.isCuda() ? options.onCuda() : options;
        Layout queryLayout = Layout.contiguous(queries, 1);
        Layout keyLayout = keys == queries ? queryLayout : Layout.contiguous(keys, 1);
        return Plan.of(new Problem(shape, queryLayout, keyLayout, mask, score), new Ring(), options);
    }

    private Operation take(long stream) {
        if (device.isCuda() && Cudart.isCapturing(stream)) {
            throw new UnsupportedOperationException(
                    "the stream is being captured in a CUDA graph, which may be replayed"
                            + " when these buffers serve other calls: use a FlashAttention of your own");
        }
        synchronized (IDLE) {
            Iterator<Operation> operations = IDLE.iterator();
            while (operations.hasNext()) {
                Operation operation = operations.next();
                if (operation.stream() == stream && operation.kind().equals(this)) {
                    operations.remove();
                    return operation;
                }
            }
        }
        return new Operation(this, stream, new FlashAttention(plan(), device));
    }

    private static void giveBack(Operation operation) {
        Operation oldest;
        synchronized (IDLE) {
            IDLE.addFirst(operation);
            oldest = IDLE.size() > MOST_IDLE ? IDLE.removeLast() : null;
        }
        if (oldest != null) {
            oldest.attention().close();
        }
    }
}
