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
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Gather;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.nd4j.autodiff.samediff.SDVariable;
import org.nd4j.autodiff.samediff.SameDiff;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/**
 * Two layers, each of which attends with what the one before gave, sharded over ranks: output, loss and gradients
 * against SameDiff's of the same layers, composed of its own operations, on the whole sequence in float64.
 */
class ShardedNd4jAttentionTest {
    private static final int BATCH = 2;
    private static final int HEADS = 3;
    private static final int DIM = 6;

    /** Loss, output, and gradients of x, k and v, [batch, heads, length, dim]. */
    private record Trained(double loss, INDArray out, INDArray dx, INDArray dk, INDArray dv) {}

    @ParameterizedTest
    @CsvSource({
        "1, ZIGZAG, 13, DOUBLE, 0",
        "2, ZIGZAG, 13, DOUBLE, 0",
        "3, CONTIGUOUS, 17, DOUBLE, 0",
        "3, STRIPED, 19, DOUBLE, 1",
        "4, ZIGZAG, 3, DOUBLE, 0",
        "1, ZIGZAG, 13, FLOAT, 0",
        "2, STRIPED, 13, FLOAT, 1",
        "3, ZIGZAG, 31, FLOAT, 0"
    })
    void layersLearnAsOnTheWholeSequence(int ranks, Layout.Policy policy, int length, DataType type, int gathered) {
        Layout layout = Layout.of(policy, length, ranks);
        DType dtype = type == DataType.DOUBLE ? DType.FLOAT64 : DType.FLOAT32;
        Strategy strategy = gathered == 0 ? new Ring() : new Gather(gathered);
        Plan plan = Plan.of(
                Problem.of(AttentionShape.of(BATCH, HEADS, HEADS, DIM, dtype), layout, Mask.causal()),
                strategy,
                AttentionOptions.defaults());
        INDArray[] inputs = new INDArray[4]; // x, k, v, weights of the loss
        for (int i = 0; i < inputs.length; i++) {
            inputs[i] = Composed.exact(Composed.random(i, type, BATCH, HEADS, length, DIM));
        }
        List<Trained> shards = LocalGroup.run(ranks, communicator -> sharded(plan, communicator, inputs, type));
        Trained whole = whole(inputs, length);
        double tolerance = Composed.tolerance(type);
        double loss = shards.stream().mapToDouble(Trained::loss).sum();
        assertThat(Math.abs(loss - whole.loss()))
                .isLessThanOrEqualTo(tolerance * inputs[3].norm1Number().doubleValue());
        for (int rank = 0; rank < ranks; rank++) {
            Trained shard = shards.get(rank);
            Positions held = layout.positions(rank);
            assertClose("out of rank " + rank, shard.out(), whole.out(), held, tolerance);
            assertClose("dx of rank " + rank, shard.dx(), whole.dx(), held, tolerance);
            assertClose("dk of rank " + rank, shard.dk(), whole.dk(), held, tolerance);
            assertClose("dv of rank " + rank, shard.dv(), whole.dv(), held, tolerance);
        }
    }

    private static void assertClose(String name, INDArray shard, INDArray whole, Positions held, double tolerance) {
        double size = whole.amaxNumber().doubleValue();
        Composed.assertClose(name, shard, rows(whole, held), tolerance, size);
    }

    private static Trained sharded(Plan plan, Communicator communicator, INDArray[] whole, DataType type) {
        Positions held = plan.queries().positions(communicator.rank());
        INDArray[] own = new INDArray[whole.length];
        for (int i = 0; i < own.length; i++) {
            own[i] = rows(whole[i], held).castTo(type);
        }
        try (ShardedNd4jAttention attention = new ShardedNd4jAttention(plan, communicator)) {
            AttentionPass first = attention.forward(own[0], own[1], own[2]);
            INDArray middle = sum(first.out(), own[0]);
            AttentionPass second = attention.forward(middle, own[1], own[2]);
            AttentionGradients upper = second.backward(own[3]);
            AttentionGradients lower = first.backward(upper.dq());
            INDArray out = second.out();
            double loss = out.isEmpty()
                    ? 0
                    : Composed.exact(out)
                            .mul(Composed.exact(own[3]))
                            .sumNumber()
                            .doubleValue();
            return new Trained(
                    loss, out, sum(upper.dq(), lower.dq()), sum(upper.dk(), lower.dk()), sum(upper.dv(), lower.dv()));
        }
    }

    /** ND4J refuses to add what a rank without tokens has. */
    private static INDArray sum(INDArray a, INDArray b) {
        return a.isEmpty() ? a : a.add(b);
    }

    private static Trained whole(INDArray[] inputs, int length) {
        SameDiff graph = SameDiff.create();
        SDVariable x = graph.var("x", inputs[0]);
        SDVariable k = graph.var("k", inputs[1]);
        SDVariable v = graph.var("v", inputs[2]);
        SDVariable bias = graph.constant("bias", Composed.bias(length, length));
        SDVariable middle = layer(graph, x, k, v, bias).add(x);
        SDVariable out = layer(graph, middle, k, v, bias).rename("out");
        SDVariable loss = out.mul(graph.constant(inputs[3])).sum("loss");
        loss.markAsLoss();
        Map<String, INDArray> gradients = graph.calculateGradients(null, "x", "k", "v");
        Map<String, INDArray> outputs = graph.output(Map.of(), "loss", "out");
        return new Trained(
                outputs.get("loss").getDouble(0),
                outputs.get("out"),
                gradients.get("x"),
                gradients.get("k"),
                gradients.get("v"));
    }

    private static SDVariable layer(SameDiff graph, SDVariable q, SDVariable k, SDVariable v, SDVariable bias) {
        SDVariable scores = graph.mmul(q, k, false, true, false).mul(1 / Math.sqrt(DIM));
        return graph.mmul(graph.nn.softmax(scores.add(bias), 3), v, false, false, false);
    }

    private static INDArray rows(INDArray whole, Positions held) {
        INDArray rows = Nd4j.create(DataType.DOUBLE, BATCH, HEADS, held.length(), DIM);
        for (long b = 0; b < BATCH; b++) {
            for (long h = 0; h < HEADS; h++) {
                for (long i = 0; i < held.length(); i++) {
                    for (long d = 0; d < DIM; d++) {
                        rows.putScalar(new long[] {b, h, i, d}, whole.getDouble(b, h, held.position(i), d));
                    }
                }
            }
        }
        return rows;
    }

    private static Plan plan(AttentionOptions options) {
        return Plan.of(AttentionShape.of(1, 2, 2, 4, DType.FLOAT32), Layout.contiguous(5, 1), Mask.causal(), options);
    }

    @Test
    void forwardOnlyPlanHasNoBackward() {
        Plan plan = plan(AttentionOptions.defaults().forwardOnly());
        try (Communicator alone = LocalGroup.single();
                ShardedNd4jAttention attention = new ShardedNd4jAttention(plan, alone)) {
            INDArray q = Nd4j.ones(DataType.FLOAT, 1, 2, 5, 4);
            AttentionPass pass = attention.forward(q, q, q);
            assertThat(pass.out()).isEqualTo(q);
            assertThatThrownBy(() -> pass.backward(q))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("the plan is forwardOnly");
            INDArray fewer = Nd4j.ones(DataType.FLOAT, 1, 2, 3, 4);
            assertThatThrownBy(() -> attention.forward(fewer, q, q))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageStartingWith("q shape is [1, 3, 2, 4]");
        }
    }

    @Test
    void closingTwiceIsHarmlessAndUseAfterItThrows() {
        INDArray q = Nd4j.ones(DataType.FLOAT, 1, 2, 5, 4);
        try (Communicator alone = LocalGroup.single()) {
            ShardedNd4jAttention attention = new ShardedNd4jAttention(plan(AttentionOptions.defaults()), alone);
            AttentionPass pass = attention.forward(q, q, q);
            attention.close();
            attention.close();
            assertThatThrownBy(() -> attention.forward(q, q, q))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("closed");
            assertThatThrownBy(() -> pass.backward(q))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("closed");
        }
    }
}
