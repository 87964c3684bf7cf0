package org.flashring.nd4j;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import java.util.Map;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.Score;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.nd4j.autodiff.samediff.SDVariable;
import org.nd4j.autodiff.samediff.SameDiff;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.NDArrayIndex;

/** Softcap, ALiBi and sinks through the adapter, against a graph of SameDiff's operations in float64. */
class Nd4jScoresTest {
    private static final double[] SLOPES = {0.5, 0.25, 0.125, 0.0625};
    private static final int HEADS = SLOPES.length;
    private static final int LENGTH = 13;
    private static final int DIM = 8;
    private static final long[] SHAPE = {2, HEADS, LENGTH, DIM};

    private static INDArray input(int seed, DataType type) {
        return Composed.random(seed, DataType.DOUBLE, SHAPE).mul(3).castTo(type);
    }

    /** Returns the output and the gradients of q, k, v and the sinks, by their names. */
    private static Map<String, INDArray> composed(INDArray[] inputs, INDArray sinks, INDArray dout, Score score) {
        SameDiff graph = SameDiff.create();
        SDVariable q = graph.var("q", inputs[0].castTo(DataType.DOUBLE));
        SDVariable k = graph.var("k", inputs[1].castTo(DataType.DOUBLE));
        SDVariable v = graph.var("v", inputs[2].castTo(DataType.DOUBLE));
        SDVariable column = graph.var("sinks", sinks.castTo(DataType.DOUBLE).reshape(1, HEADS, 1, 1));
        SDVariable scores = graph.mmul(q, k, false, true, false).mul(1 / Math.sqrt(DIM));
        if (score.softcap() > 0) {
            scores = graph.math().tanh(scores.div(score.softcap())).mul(score.softcap());
        }
        INDArray bias = Nd4j.zeros(DataType.DOUBLE, 1, HEADS, LENGTH, LENGTH);
        for (int head = 0; head < HEADS; head++) {
            for (int query = 0; query < LENGTH; query++) {
                for (int key = 0; key < LENGTH; key++) {
                    double slope = score.alibiSlopes().isEmpty()
                            ? 0
                            : score.alibiSlopes().get(head);
                    bias.putScalar(new long[] {0, head, query, key}, key > query ? -1e300 : -slope * (query - key));
                }
            }
        }
        SDVariable weights = graph.math().exp(scores.add(graph.constant(bias)));
        SDVariable sum = weights.sum(true, 3);
        sum = score.sinks()
                ? sum.add(graph.math().exp(column))
                : sum.add(graph.math().exp(column).mul(0));
        SDVariable out = graph.mmul(weights.div(sum), v, false, false, false).rename("out");
        out.mul(graph.constant(dout.castTo(DataType.DOUBLE))).sum("loss").markAsLoss();
        Map<String, INDArray> results = graph.calculateGradients(null, "q", "k", "v", "sinks");
        results.put("out", graph.outputSingle(null, "out"));
        return results;
    }

    @ParameterizedTest
    @CsvSource({
        "DOUBLE, 2.5, false, false",
        "DOUBLE, 0, true, false",
        "DOUBLE, 0, false, true",
        "DOUBLE, 2.5, true, true",
        "FLOAT, 2.5, true, true",
        "BFLOAT16, 0, false, true"
    })
    void scoresEqualThoseOfNd4jsOperations(DataType type, double softcap, boolean alibi, boolean sunk) {
        Score score = Score.standard().withSoftcap(softcap);
        score = alibi ? score.withAlibi(SLOPES) : score;
        score = sunk ? score.withSinks() : score;
        INDArray[] inputs = {input(1, type), input(2, type), input(3, type)};
        INDArray dout = Composed.random(5, type, SHAPE);
        INDArray sinks = Composed.random(4, type == DataType.DOUBLE ? type : DataType.FLOAT, HEADS);
        AttentionPass pass =
                Nd4jAttention.forward(inputs[0], inputs[1], inputs[2], Mask.causal(), score, sunk ? sinks : null, null);
        AttentionGradients gradients = pass.backward(dout);
        Map<String, INDArray> expected = composed(inputs, sinks, dout, score);
        double tolerance = 4 * Composed.tolerance(type);
        Composed.assertClose("out", pass.out(), expected.get("out"), tolerance, 0);
        Composed.assertClose("dq", gradients.dq(), expected.get("q"), tolerance, 0);
        Composed.assertClose("dk", gradients.dk(), expected.get("k"), tolerance, 0);
        Composed.assertClose("dv", gradients.dv(), expected.get("v"), tolerance, 0);
        if (sunk) {
            assertSinks(gradients.dsinks(), expected.get("sinks"), tolerance);
        } else {
            assertThat(gradients.dsinks()).isNull();
        }
    }

    private static void assertSinks(INDArray actual, INDArray expected, double tolerance) {
        assertThat(actual.shape()).containsExactly(HEADS);
        double largest = expected.amaxNumber().doubleValue();
        for (int head = 0; head < HEADS; head++) {
            assertThat(Math.abs(actual.getDouble(head) - expected.getDouble(0, head, 0, 0)))
                    .as("gradient of the sink of head %d", head)
                    .isLessThanOrEqualTo(tolerance * largest);
        }
    }

    @Test
    void ranksGiveTheirQueriesPartOfTheSinksGradient() {
        INDArray[] inputs = {input(1, DataType.DOUBLE), input(2, DataType.DOUBLE), input(3, DataType.DOUBLE)};
        INDArray dout = Composed.random(5, DataType.DOUBLE, SHAPE);
        INDArray sinks = Composed.random(4, DataType.DOUBLE, HEADS);
        Score score = Score.standard().withSinks();
        Layout layout = Layout.contiguous(LENGTH, 3);
        Plan plan = Plan.of(
                new Problem(
                        AttentionShape.of(2, HEADS, HEADS, DIM, DType.FLOAT64), layout, layout, Mask.causal(), score),
                new Ring(),
                AttentionOptions.defaults());
        List<INDArray> parts = LocalGroup.run(3, communicator -> {
            Positions held = layout.positions(communicator.rank());
            try (ShardedNd4jAttention attention = new ShardedNd4jAttention(plan, communicator)) {
                AttentionPass pass =
                        attention.forward(held(inputs[0], held), held(inputs[1], held), held(inputs[2], held), sinks);
                return pass.backward(held(dout, held)).dsinks();
            }
        });
        INDArray sum = parts.get(0).add(parts.get(1)).add(parts.get(2));
        assertSinks(sum, composed(inputs, sinks, dout, score).get("sinks"), 1e-12);
    }

    private static INDArray held(INDArray whole, Positions held) {
        long first = held.position(0);
        return whole.get(
                NDArrayIndex.all(),
                NDArrayIndex.all(),
                NDArrayIndex.interval(first, first + held.length()),
                NDArrayIndex.all());
    }

    @Test
    void ofAnEmptyBatchTheSinksGradientIsZero() {
        INDArray q = Nd4j.create(DataType.DOUBLE, 0, HEADS, LENGTH, DIM);
        INDArray sinks = Composed.random(4, DataType.DOUBLE, HEADS);
        AttentionPass pass =
                Nd4jAttention.forward(q, q, q, Mask.causal(), Score.standard().withSinks(), sinks, null);
        assertThat(pass.backward(q).dsinks().amaxNumber().doubleValue()).isZero();
    }

    @Test
    void sinksThatDoNotFitAreRefusedByName() {
        INDArray q = input(1, DataType.DOUBLE);
        INDArray sinks = Composed.random(4, DataType.DOUBLE, HEADS);
        Score sunk = Score.standard().withSinks();
        assertRefused(q, sunk, null, "sinks is null");
        assertRefused(q, Score.standard(), sinks, "sinks");
        assertRefused(q, sunk, sinks.get(NDArrayIndex.interval(0, 2)), "sinks");
        assertRefused(q, sunk, sinks.castTo(DataType.FLOAT), "sinks");
        assertRefused(q, sunk, sinks.reshape(1, HEADS), "sinks.rank() is 2, but must be 1");
        AttentionPass pass = Nd4jAttention.forward(q, q, q, Mask.causal(), sunk, sinks, null);
        AttentionGradients wrong = new AttentionGradients(q.dup(), q.dup(), q.dup(), Nd4j.create(DataType.DOUBLE, 3));
        assertThatThrownBy(() -> pass.backward(q, wrong)).hasMessageStartingWith("dsinks.shape() is [3]");
    }

    private static void assertRefused(INDArray q, Score score, INDArray sinks, String message) {
        assertThatThrownBy(() -> Nd4jAttention.forward(q, q, q, Mask.causal(), score, sinks, null))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith(message);
    }
}
