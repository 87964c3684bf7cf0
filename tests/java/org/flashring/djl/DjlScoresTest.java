package org.flashring.djl;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.pytorch.jni.JniUtils;
import java.util.List;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Softcap, ALiBi and sinks through the adapter, against the same scores composed of DJL's operators in float64. */
class DjlScoresTest {
    private static final double[] SLOPES = {0.5, 0.25, 0.125, 0.0625};
    private static final int HEADS = SLOPES.length;
    private static final int LENGTH = 13;
    private static final int DIM = 8;

    private NDManager manager;

    @BeforeEach
    void open() {
        manager = Djl.manager();
        JniUtils.setGradMode(true);
    }

    @AfterEach
    void close() {
        manager.close();
        assertThat(AttentionNode.alive()).as("graphs that are still held").isZero();
    }

    private NDArray input(int seed, DataType type) {
        return Djl.learnt(Djl.random(manager, seed, DataType.FLOAT64, 2, HEADS, LENGTH, DIM)
                .mul(3)
                .toType(type, true));
    }

    private NDArray sinks(DataType type) {
        DataType wide = type == DataType.FLOAT64 ? type : DataType.FLOAT32;
        return Djl.learnt(Djl.random(manager, 4, wide, HEADS));
    }

    /** Returns causal attention of arrays of float64, with the sinks as one more column of scores. */
    private static NDArray composed(NDArray q, NDArray k, NDArray v, Score score, NDArray sinks) {
        NDManager manager = q.getManager();
        NDArray scores = Djl.times(q.matMul(k.swapAxes(2, 3)), 1 / Math.sqrt(DIM));
        if (score.softcap() > 0) {
            scores = Djl.times(Djl.times(scores, 1 / score.softcap()).tanh(), score.softcap());
        }
        double[] bias = new double[HEADS * LENGTH * LENGTH];
        for (int i = 0; i < bias.length; i++) {
            int distance = i / LENGTH % LENGTH - i % LENGTH;
            double slope =
                    score.alibiSlopes().isEmpty() ? 0 : score.alibiSlopes().get(i / (LENGTH * LENGTH));
            bias[i] = distance < 0 ? Double.NEGATIVE_INFINITY : -slope * distance;
        }
        scores = scores.add(manager.create(bias, new Shape(1, HEADS, LENGTH, LENGTH)));
        if (sinks != null) {
            NDArray column =
                    sinks.reshape(1, HEADS, 1, 1).broadcast(q.getShape().get(0), HEADS, LENGTH, 1);
            scores = scores.concat(column, 3);
        }
        return scores.softmax(3).get(":, :, :, :{}", LENGTH).matMul(v);
    }

    @ParameterizedTest
    @CsvSource({
        "FLOAT64, 2.5, false, false",
        "FLOAT64, 0, true, false",
        "FLOAT64, 0, false, true",
        "FLOAT64, 2.5, true, true",
        "FLOAT32, 2.5, true, true",
        "FLOAT16, 0, false, true"
    })
    void scoresEqualThoseOfDjlsOperators(DataType type, double softcap, boolean alibi, boolean sunk) {
        Score score = Score.standard().withSoftcap(softcap);
        score = alibi ? score.withAlibi(SLOPES) : score;
        score = sunk ? score.withSinks() : score;
        NDArray[] inputs = {input(1, type), input(2, type), input(3, type)};
        NDArray sinks = sunk ? sinks(type) : null;
        NDArray dout = Djl.random(manager, 5, type, 2, HEADS, LENGTH, DIM);
        NDArray out =
                DjlAttention.scaledDotProductAttention(inputs[0], inputs[1], inputs[2], Mask.causal(), score, sinks);
        Djl.backward(out.mul(dout).sum());
        NDArray[] exact = {Djl.exact(inputs[0]), Djl.exact(inputs[1]), Djl.exact(inputs[2])};
        NDArray exactSinks = sunk ? Djl.exact(sinks) : null;
        NDArray expected = composed(exact[0], exact[1], exact[2], score, exactSinks);
        Djl.backward(expected.mul(dout.toType(DataType.FLOAT64, true)).sum());
        double tolerance = 4 * Djl.tolerance(type);
        Djl.assertClose("out", out, expected, tolerance, 0);
        for (int i = 0; i < exact.length; i++) {
            Djl.assertClose(
                    "gradient of " + "qkv".charAt(i), inputs[i].getGradient(), exact[i].getGradient(), tolerance, 0);
        }
        if (sunk) {
            Djl.assertClose("gradient of sinks", sinks.getGradient(), exactSinks.getGradient(), tolerance, 0);
        }
    }

    @Test
    void sinksAloneMayHaveAGradient() {
        NDArray q = Djl.random(manager, 1, DataType.FLOAT64, 1, HEADS, LENGTH, DIM);
        NDArray sinks = sinks(DataType.FLOAT64);
        NDArray exact = Djl.exact(sinks);
        Score score = Score.standard().withSinks();
        Djl.backward(DjlAttention.scaledDotProductAttention(q, q, q, Mask.causal(), score, sinks)
                .sum());
        Djl.backward(composed(q, q, q, score, exact).sum());
        Djl.assertClose("gradient of sinks", sinks.getGradient(), exact.getGradient(), 1e-12, 0);
    }

    @Test
    void ofAnEmptyBatchTheSinksGradientIsZero() {
        NDArray q = manager.create(new Shape(0, HEADS, LENGTH, DIM), DataType.FLOAT64);
        NDArray sinks = sinks(DataType.FLOAT64);
        Djl.backward(DjlAttention.scaledDotProductAttention(
                        q, q, q, Mask.causal(), Score.standard().withSinks(), sinks)
                .sum());
        assertThat(sinks.getGradient().toDoubleArray()).hasSize(HEADS).containsOnly(0);
    }

    @Test
    void ranksGiveTheirQueriesPartOfTheSinksGradient() {
        Score score = Score.standard().withSinks();
        Layout layout = Layout.contiguous(LENGTH, 3);
        AttentionShape shape = AttentionShape.of(2, HEADS, HEADS, DIM, DType.FLOAT64);
        Plan plan = Plan.of(
                new Problem(shape, layout, layout, Mask.causal(), score), new Ring(), AttentionOptions.defaults());
        List<double[]> sums = LocalGroup.run(3, communicator -> {
            long first = layout.positions(communicator.rank()).position(0);
            long last = first + layout.positions(communicator.rank()).length();
            try (NDManager own = Djl.manager();
                    ShardedDjlAttention attention = new ShardedDjlAttention(plan, communicator)) {
                JniUtils.setGradMode(true);
                NDArray x = Djl.random(own, 1, DataType.FLOAT64, 2, HEADS, LENGTH, DIM)
                        .get(":, :, {}:{}", first, last);
                NDArray sinks = Djl.learnt(Djl.random(own, 4, DataType.FLOAT64, HEADS));
                try (ParameterSync sync = new ParameterSync(List.of(sinks), communicator)) {
                    Djl.backward(attention.forward(x, x, x, sinks).square().sum());
                    sync.sum();
                }
                return Djl.values(sinks.getGradient());
            }
        });
        NDArray x = Djl.random(manager, 1, DataType.FLOAT64, 2, HEADS, LENGTH, DIM);
        NDArray exact = sinks(DataType.FLOAT64);
        Djl.backward(composed(x, x, x, score, exact).square().sum());
        for (double[] sum : sums) {
            Djl.assertClose("gradient of sinks", sum, Djl.values(exact.getGradient()), 1e-12, 0);
        }
    }

    @Test
    void sinksThatDoNotFitAreRefusedByName() {
        NDArray q = Djl.random(manager, 1, DataType.FLOAT64, 1, HEADS, LENGTH, DIM);
        NDArray sinks = sinks(DataType.FLOAT64);
        Score sunk = Score.standard().withSinks();
        assertRefused(q, sunk, null, "sinks is null");
        assertRefused(q, Score.standard(), sinks, "sinks");
        assertRefused(q, sunk, sinks.get(":2"), "sinks");
        assertRefused(q, sunk, sinks.toType(DataType.FLOAT32, true), "sinks");
        assertRefused(q, sunk, sinks.reshape(1, HEADS), "sinks has 2 dimensions, but must have 1");
    }

    private static void assertRefused(NDArray q, Score score, NDArray sinks, String message) {
        assertThatThrownBy(() -> DjlAttention.scaledDotProductAttention(q, q, q, Mask.causal(), score, sinks))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith(message);
    }

    @Test
    void sinksChangedInPlaceAreRefusedByName() {
        NDArray q = input(1, DataType.FLOAT64);
        NDArray sinks = Djl.random(manager, 4, DataType.FLOAT64, HEADS);
        NDArray loss = DjlAttention.scaledDotProductAttention(
                        q, q, q, Mask.causal(), Score.standard().withSinks(), sinks)
                .sum();
        sinks.muli(2.0);
        assertThatThrownBy(() -> Djl.backward(loss)).hasMessageContaining("sinks has been changed in place");
    }
}
