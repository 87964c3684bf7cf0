package org.flashring.nd4j;

import java.util.Arrays;
import java.util.Locale;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.plan.Plan;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/**
 * Host time of the adapter's calls over the library's, of an attention with next to nothing to compute; run by hand.
 */
final class CallBench {
    private static final int CALLS = 200;
    private static final int ROUNDS = 301;

    private CallBench() {}

    public static void main(String[] arguments) {
        INDArray q = Nd4j.ones(DataType.FLOAT, 1, 2, 4, 8);
        INDArray out = Nd4j.zeros(DataType.FLOAT, 1, 2, 4, 8);
        INDArray lse = Nd4j.zeros(DataType.FLOAT, 1, 2, 4);
        AttentionGradients gradients = new AttentionGradients(q.dup(), q.dup(), q.dup());
        Mask mask = Mask.causal();
        AttentionShape shape = AttentionShape.of(1, 2, 2, 8, DType.FLOAT32);
        Layout layout = Layout.contiguous(4, 1);
        Tensor tq = Nd4jTensors.bhsd("q", q);
        Tensor tout = Nd4jTensors.bhsd("out", out);
        Tensor tlse = Tensor.lse(Nd4jTensors.memory("lse", lse.data(), DType.FLOAT32), DType.FLOAT32, 1, 2, 4);
        Tensor dq = Nd4jTensors.bhsd("dq", gradients.dq());
        Tensor dk = Nd4jTensors.bhsd("dk", gradients.dk());
        Tensor dv = Nd4jTensors.bhsd("dv", gradients.dv());
        AttentionPass pass = Nd4jAttention.forward(q, q, q, mask);
        try (FlashAttention inference = new FlashAttention(
                        Plan.of(shape, layout, mask, AttentionOptions.defaults().forwardOnly()));
                FlashAttention training = new FlashAttention(shape, 4, mask)) {
            compare(
                    "inference into an array that is there",
                    () -> Nd4jAttention.scaledDotProductAttention(q, q, q, mask, Score.standard(), out),
                    () -> inference.forward(tq, tq, tq, tout, null));
            compare(
                    "inference into a new array",
                    () -> Nd4jAttention.scaledDotProductAttention(q, q, q, mask),
                    () -> inference.forward(tq, tq, tq, tout, null));
            compare(
                    "forward of training",
                    () -> Nd4jAttention.forward(q, q, q, mask),
                    () -> training.forward(tq, tq, tq, tout, tlse));
            compare(
                    "backward into arrays that are there",
                    () -> pass.backward(q, gradients),
                    () -> training.backward(tq, tq, tq, tout, tlse, tq, dq, dk, dv));
            compare(
                    "backward into new arrays",
                    () -> pass.backward(q),
                    () -> training.backward(tq, tq, tq, tout, tlse, tq, dq, dk, dv));
        }
        compare("ND4J alone: one new array", () -> Nd4j.createUninitialized(DataType.FLOAT, 1, 2, 4, 8), () -> {});
    }

    /** Prints the medians of rounds that take turns. */
    private static void compare(String name, Runnable adapter, Runnable library) {
        double[] ours = new double[ROUNDS];
        double[] theirs = new double[ROUNDS];
        for (int round = -100; round < ROUNDS; round++) {
            double one = microseconds(adapter);
            double other = microseconds(library);
            if (round >= 0) {
                ours[round] = one;
                theirs[round] = other;
            }
        }
        Arrays.sort(ours);
        Arrays.sort(theirs);
        double a = ours[ROUNDS / 2];
        double b = theirs[ROUNDS / 2];
        System.out.printf(Locale.ROOT, "%-40s %6.2f us, the library %6.2f us, over it %6.2f us%n", name, a, b, a - b);
    }

    private static double microseconds(Runnable call) {
        long start = System.nanoTime();
        for (int i = 0; i < CALLS; i++) {
            call.run();
        }
        return (System.nanoTime() - start) / 1e3 / CALLS;
    }
}
