package org.flashring.nd4j;

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

    /** What calls that may share an operation have in common. */
    record Key(AttentionShape shape, long queries, long keys, Mask mask, Score score, boolean backward)
            implements Kernel {
        private Plan plan() {
            AttentionOptions options = AttentionOptions.defaults();
            Layout queryLayout = Layout.contiguous(queries, 1);
            Layout keyLayout = keys == queries ? queryLayout : Layout.contiguous(keys, 1);
            return Plan.of(
                    new Problem(shape, queryLayout, keyLayout, mask, score),
                    new Ring(),
                    backward ? options : options.forwardOnly());
        }

        @Override
        public void forward(Forward operands) {
            Operation operation = take(this);
            try {
                operation.attention().forward(operands.q(), operands.k(), operands.v(), operands.out(), operands.lse());
            } finally {
                giveBack(operation);
            }
        }

        @Override
        public void backward(Backward operands) {
            Forward of = operands.of();
            Operation operation = take(this);
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
                                operands.dv());
            } finally {
                giveBack(operation);
            }
        }
    }

    private record Operation(Key key, FlashAttention attention) {}

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
        return new Operation(key, new FlashAttention(key.plan()));
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
