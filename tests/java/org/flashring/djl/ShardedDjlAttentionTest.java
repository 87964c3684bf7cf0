package org.flashring.djl;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.jni.JniUtils;
import ai.djl.training.GradientCollector;
import java.util.ArrayList;
import java.util.List;
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

/**
 * A model of two attention layers with a residual stream, sharded over ranks with a graph each: loss, output, gradient
 * of the input and summed gradients of the weights against DJL's own operators on the whole sequence in float64.
 */
class ShardedDjlAttentionTest {
    private static final int BATCH = 2;
    private static final int HEADS = 4;
    private static final int KV_HEADS = 2;
    private static final int HEAD_DIM = 6;
    private static final int DIM = HEADS * HEAD_DIM;
    private static final int LAYERS = 2;

    /** Whose rows are a rank's: the loss, of which each has a part, is summed here, the gradients by ParameterSync. */
    private record Results(double loss, double[] out, double[] dx, List<double[]> weights) {}

    @ParameterizedTest
    @CsvSource({
        "1, ZIGZAG, 13, FLOAT64, 0",
        "2, ZIGZAG, 13, FLOAT64, 0",
        "3, CONTIGUOUS, 17, FLOAT64, 0",
        "3, STRIPED, 19, FLOAT64, 1",
        "4, ZIGZAG, 5, FLOAT64, 2",
        "1, ZIGZAG, 13, FLOAT32, 0",
        "2, STRIPED, 13, FLOAT32, 1",
        "3, ZIGZAG, 31, FLOAT32, 0"
    })
    void modelLearnsAsOnTheWholeSequence(int ranks, Layout.Policy policy, int length, DataType type, int gathered) {
        Layout layout = Layout.of(policy, length, ranks);
        DType dtype = type == DataType.FLOAT64 ? DType.FLOAT64 : DType.FLOAT32;
        Strategy strategy = gathered == 0 ? new Ring() : new Gather(gathered);
        Plan plan = Plan.of(
                Problem.of(AttentionShape.of(BATCH, HEADS, KV_HEADS, HEAD_DIM, dtype), layout, Mask.causal()),
                strategy,
                AttentionOptions.defaults());
        List<Results> shards = LocalGroup.run(ranks, communicator -> sharded(plan, communicator, type));
        Results whole = whole(length, type);
        double tolerance = Djl.tolerance(type);
        assertThat(shards.stream().mapToDouble(Results::loss).sum() - whole.loss())
                .as("loss")
                .isBetween(-tolerance * Math.abs(whole.loss()), tolerance * Math.abs(whole.loss()));
        for (int rank = 0; rank < ranks; rank++) {
            Results shard = shards.get(rank);
            Positions held = layout.positions(rank);
            Djl.assertClose("out", shard.out(), rows(whole.out(), held, length), tolerance, largest(whole.out()));
            Djl.assertClose("dx", shard.dx(), rows(whole.dx(), held, length), tolerance, largest(whole.dx()));
            for (int i = 0; i < whole.weights().size(); i++) {
                Djl.assertClose(
                        "weights " + i, shard.weights().get(i), whole.weights().get(i), tolerance, 0);
            }
        }
        assertThat(AttentionNode.alive()).isZero();
    }

    private static Results sharded(Plan plan, Communicator communicator, DataType type) {
        Positions held = plan.queries().positions(communicator.rank());
        int length = (int) plan.queries().length();
        try (NDManager manager = Djl.manager()) {
            List<NDArray> weights = weights(manager, type);
            NDArray x = Djl.learnt(held(manager, Djl.random(manager, 1, type, BATCH, length, DIM), held));
            NDArray towards = held(manager, Djl.random(manager, 2, type, BATCH, length, DIM), held);
            try (ShardedDjlAttention attention = new ShardedDjlAttention(plan, communicator);
                    ParameterSync sync = new ParameterSync(weights, communicator);
                    GradientCollector collector = new ThreadGradientCollector(weights)) {
                NDArray y = model(x, weights, attention::forward);
                NDArray loss = y.mul(towards).sum();
                collector.backward(loss);
                sync.sum();
                return results(loss, y, x, weights);
            }
        }
    }

    private static Results whole(int length, DataType type) {
        try (NDManager manager = Djl.manager()) {
            NDArray x = Djl.exact(Djl.learnt(Djl.random(manager, 1, type, BATCH, length, DIM)));
            List<NDArray> weights =
                    weights(manager, type).stream().map(Djl::exact).toList();
            try (GradientCollector collector = new ThreadGradientCollector(weights)) {
                NDArray y = model(x, weights, (q, k, v) -> Djl.attention(q, k, v, true));
                NDArray towards = Djl.random(manager, 2, type, BATCH, length, DIM);
                NDArray loss = y.mul(towards.toType(DataType.FLOAT64, true)).sum();
                collector.backward(loss);
                return results(loss, y, x, weights);
            }
        }
    }

    private static NDArray held(NDManager manager, NDArray whole, Positions held) {
        long[] positions = new long[(int) held.length()];
        for (int i = 0; i < positions.length; i++) {
            positions[i] = held.position(i);
        }
        NDArray rows = positions.length == 0
                ? whole.get(":, :0")
                : whole.transpose(1, 0, 2).get(manager.create(positions)).transpose(1, 0, 2);
        return rows.stopGradient().duplicate();
    }

    private static NDArray model(NDArray x, List<NDArray> weights, FlashAttentionBlock.Attention attention) {
        NDArray y = x;
        for (int layer = 0; layer < LAYERS; layer++) {
            List<NDArray> w = weights.subList(4 * layer, 4 * layer + 4);
            NDArray out = attention.attend(
                    project(y, w.get(0), HEADS), project(y, w.get(1), KV_HEADS), project(y, w.get(2), KV_HEADS));
            y = y.add(out.swapAxes(1, 2).reshape(x.getShape()).matMul(w.get(3).transpose()));
        }
        return y;
    }

    private static NDArray project(NDArray x, NDArray weight, int heads) {
        NDArray rows = x.matMul(weight.transpose());
        return rows.reshape(BATCH, x.getShape().get(1), heads, HEAD_DIM).swapAxes(1, 2);
    }

    private static List<NDArray> weights(NDManager manager, DataType type) {
        List<NDArray> weights = new ArrayList<>();
        for (int layer = 0; layer < LAYERS; layer++) {
            for (int rows : new int[] {DIM, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, DIM}) {
                NDArray values = Djl.random(manager, 10 + weights.size(), DataType.FLOAT64, rows, DIM);
                weights.add(Djl.learnt(values.mul(0.3).toType(type, true)));
            }
        }
        return weights;
    }

    private static Results results(NDArray loss, NDArray y, NDArray x, List<NDArray> weights) {
        return new Results(
                Djl.values(loss)[0],
                Djl.values(y),
                Djl.values(x.getGradient()),
                weights.stream().map(weight -> Djl.values(weight.getGradient())).toList());
    }

    private static double largest(double[] values) {
        double largest = 0;
        for (double value : values) {
            largest = Math.max(largest, Math.abs(value));
        }
        return largest;
    }

    /** Returns the rows of [batch, length, DIM] at {@code held} positions. */
    private static double[] rows(double[] whole, Positions held, int length) {
        double[] rows = new double[(int) (BATCH * held.length() * DIM)];
        for (int row = 0; row < BATCH; row++) {
            for (int i = 0; i < held.length(); i++) {
                System.arraycopy(
                        whole,
                        (int) (row * length + held.position(i)) * DIM,
                        rows,
                        (int) (row * held.length() + i) * DIM,
                        DIM);
            }
        }
        return rows;
    }

    /** The trap that {@link ThreadGradientCollector} is for. */
    @Test
    @SuppressWarnings("try") // a collector works by being open
    void enginesCollectorIsOneForAllThreads() {
        Engine engine = Engine.getEngine("PyTorch");
        JniUtils.setGradMode(false); // as the engine leaves it
        try (GradientCollector first = engine.newGradientCollector()) {
            assertThatThrownBy(engine::newGradientCollector)
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("already collecting");
            new ThreadGradientCollector(List.of()).close();
            assertThat(JniUtils.isGradMode()).isTrue();
        }
        assertThat(JniUtils.isGradMode()).isFalse();
    }

    @Test
    void collectorBeginsAtZeroAndLeavesTheModeOfItsThread() {
        try (NDManager manager = Djl.manager()) {
            JniUtils.setGradMode(false);
            NDArray x = Djl.learnt(manager.ones(new Shape(3)));
            for (int step = 0; step < 2; step++) {
                try (ThreadGradientCollector collector = new ThreadGradientCollector(List.of(x))) {
                    collector.backward(Djl.times(x, 2).sum());
                    assertThat(x.getGradient().toFloatArray()).containsOnly(2);
                    collector.backward(Djl.times(x, 3).sum());
                    assertThat(x.getGradient().toFloatArray()).containsOnly(5);
                }
                assertThat(JniUtils.isGradMode()).isFalse();
            }
            ThreadGradientCollector closed = new ThreadGradientCollector(List.of());
            closed.close();
            JniUtils.setGradMode(true);
            closed.close();
            assertThat(JniUtils.isGradMode()).isTrue();
        }
    }

    @Test
    void parameterThatBackwardDoesNotReachGetsTheSumOfTheOthers() {
        List<Float> sums = LocalGroup.run(2, communicator -> {
            try (NDManager manager = Djl.manager()) {
                NDArray weight = Djl.learnt(manager.ones(new Shape(3)));
                try (ParameterSync sync = new ParameterSync(List.of(weight), communicator);
                        GradientCollector collector = new ThreadGradientCollector(List.of(weight))) {
                    if (communicator.rank() == 1) {
                        collector.backward(Djl.times(weight, 5).sum());
                    }
                    sync.sum();
                    return weight.getGradient().sum().getFloat();
                }
            }
        });
        assertThat(sums).containsExactly(15f, 15f);
    }

    @Test
    void parametersThatCannotBeSummedAreRefused() {
        try (NDManager manager = Djl.manager();
                Communicator alone = LocalGroup.single()) {
            NDArray weight = Djl.learnt(manager.ones(new Shape(3)));
            assertRefused(alone, "parameters is empty");
            assertRefused(alone, "parameters[1] has no gradient", weight, manager.ones(new Shape(3)));
            assertRefused(
                    alone,
                    "parameters[1] holds FLOAT64, but must hold FLOAT32",
                    weight,
                    Djl.learnt(manager.ones(new Shape(3), DataType.FLOAT64)));
            assertRefused(alone, "parameters[0] is empty", Djl.learnt(manager.create(new Shape(0))));
        }
    }

    @Test
    void gradientThatDoesNotFitIsRefusedBeforeAnythingIsSent() {
        try (NDManager manager = Djl.manager();
                Communicator alone = LocalGroup.single()) {
            JniUtils.setGradMode(true);
            NDArray turned = Djl.learnt(manager.ones(new Shape(3, 4)).transpose());
            NDArray table = Djl.learnt(manager.ones(new Shape(5, 2)));
            NDArray plain = Djl.learnt(manager.ones(new Shape(3)));
            NDArray rows = JniUtils.embedding((PtNDArray) manager.create(new long[] {1, 3}), (PtNDArray) table, true);
            Djl.backward(turned.sum().add(rows.sum()).add(plain.sum()));
            try (ParameterSync sync = new ParameterSync(List.of(turned, plain), alone);
                    ParameterSync ofSparse = new ParameterSync(List.of(table, plain), alone)) {
                for (int time = 0; time < 2; time++) { // the second is refused for the same reason
                    assertThatThrownBy(sync::sum)
                            .isInstanceOf(IllegalStateException.class)
                            .hasMessageStartingWith("the gradient of parameters[0] has 12 elements of FLOAT32, not");
                    assertThatThrownBy(ofSparse::sum)
                            .isInstanceOf(IllegalArgumentException.class)
                            .hasMessageContaining("gradient of parameters[0] is COO, but must be dense");
                }
            }
        }
    }

    private static void assertRefused(Communicator communicator, String message, NDArray... parameters) {
        assertThatThrownBy(() -> new ParameterSync(List.of(parameters), communicator))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith(message);
    }

    private static Plan plan(AttentionOptions options) {
        return Plan.of(AttentionShape.of(1, 2, 2, 4, DType.FLOAT32), Layout.contiguous(5, 1), Mask.causal(), options);
    }

    @Test
    @SuppressWarnings("try") // a collector works by being open
    void forwardOnlyPlanRefusesInputsWhoseGradientIsCollected() {
        try (NDManager manager = Djl.manager();
                Communicator alone = LocalGroup.single();
                ShardedDjlAttention attention =
                        new ShardedDjlAttention(plan(AttentionOptions.defaults().forwardOnly()), alone);
                GradientCollector collector = new ThreadGradientCollector(List.of())) {
            NDArray q = manager.ones(new Shape(1, 2, 5, 4));
            assertThat(attention.forward(q, q, q).sum().getFloat()).isEqualTo(40);
            NDArray learnt = Djl.learnt(q.duplicate());
            assertThatThrownBy(() -> attention.forward(learnt, q, q))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("the plan is forwardOnly");
            assertThatThrownBy(() -> attention.forward(q.get(":, :, :3"), q, q))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageStartingWith("q shape is [1, 3, 2, 4]");
        }
    }

    @Test
    void closingTwiceIsHarmlessAndUseAfterItThrows() {
        try (NDManager manager = Djl.manager();
                Communicator alone = LocalGroup.single()) {
            NDArray q = manager.ones(new Shape(1, 2, 5, 4));
            ShardedDjlAttention attention = new ShardedDjlAttention(plan(AttentionOptions.defaults()), alone);
            ParameterSync sync = new ParameterSync(List.of(Djl.learnt(manager.ones(new Shape(3)))), alone);
            for (int time = 0; time < 2; time++) {
                attention.close();
                sync.close();
            }
            assertThatThrownBy(() -> attention.forward(q, q, q))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("closed");
            assertThatThrownBy(sync::sum)
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("closed");
        }
    }
}
