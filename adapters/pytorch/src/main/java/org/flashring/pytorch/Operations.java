package org.flashring.pytorch;

import java.util.ArrayDeque;
import java.util.Iterator;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.attention.Backward;
import org.flashring.attention.FlashAttention;
import org.flashring.attention.Forward;
import org.flashring.device.Device;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;

/**
 * Operations that calls of one shape after another use again: planning takes longer than a small attention. A call has
 * one to itself; idle ones are kept up to {@link #MOST_IDLE}, the latest first.
 */
final class Operations {
    private static final int MOST_IDLE = 16;
    private static final ArrayDeque<Operation> IDLE = new ArrayDeque<>();

    private Operations() {}

    /**
     * What calls that may share an operation have in common.
     *
     * @param stream calls on different streams would have no order among them
     */
    record Key(
            AttentionShape shape,
            long queries,
            long keys,
            Mask mask,
            Score score,
            boolean backward,
            Device device,
            long stream) {
        private Plan plan() {
            AttentionOptions options = AttentionOptions.defaults();
            options = backward ? options : options.forwardOnly();
            options = device.isCuda() ? options.onCuda() : options;
            Layout queryLayout = Layout.contiguous(queries, 1);
            Layout keyLayout = keys == queries ? queryLayout : Layout.contiguous(keys, 1);
            return Plan.of(new Problem(shape, queryLayout, keyLayout, mask, score), new Ring(), options);
        }

        private Key on(long other) {
            return new Key(shape, queries, keys, mask, score, backward, device, other);
        }
    }

    private record Operation(Key key, FlashAttention attention) {}

    /** Returns what computes calls of {@code key}. */
    static Kernel kernel(Key key) {
        return new Kernel() {
            @Override
            public void forward(Forward operands, long stream) {
                Operation operation = take(key);
                try {
                    operation
                            .attention()
                            .forward(operands.q(), operands.k(), operands.v(), operands.out(), operands.lse(), stream);
                } finally {
                    giveBack(operation);
                }
            }

            @Override
            public void backward(Backward operands, long stream) {
                Forward of = operands.of();
                Operation operation = take(key.stream() == stream ? key : key.on(stream));
                try {
                    operation
                            .attention()
                            .backward(
                                    of.q(),
                                    of.k(),
                                    of.v(),
                                    of.out(),
                                    of.lse(),
                                    operands.dout(),
                                    operands.dq(),
                                    operands.dk(),
                                    operands.dv(),
                                    stream);
                } finally {
                    giveBack(operation);
                }
            }
        };
    }

    private static Operation take(Key key) {
        synchronized (IDLE) {
            Iterator<Operation> operations = IDLE.iterator();
            while (operations.hasNext()) {
                Operation operation = operations.next();
                if (operation.key().equals(key)) {
                    operations.remove();
                    return operation;
                }
            }
        }
        return new Operation(key, new FlashAttention(key.plan(), key.device()));
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
