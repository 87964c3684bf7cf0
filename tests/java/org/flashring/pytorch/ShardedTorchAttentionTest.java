package org.flashring.pytorch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
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
 * A model of two attention layers with a residual stream, sharded over ranks with a graph each: output, gradient of the
 * input and summed gradients of the weights against PyTorch's own attention on the whole sequence in float64.
 */
@SuppressWarnings("try") // scopes work by being open
class ShardedTorchAttentionTest {
    private static final int BATCH = 2;
    private static final int HEADS = 4;
    private static final int KV_HEADS = 2;
    private static final int HEAD_DIM = 6;
    private static final int DIM = HEADS * HEAD_DIM;
    private static final int LAYERS = 2;

    /** A layer's attention, of [batch, heads, length, dim]. */
    private interface Attention {
        Tensor of(Tensor q, Tensor k, Tensor v);
    }

    @ParameterizedTest
    @CsvSource({
        "1, ZIGZAG, 13, Double, 0",
        "2, ZIGZAG, 13, Double, 0",
        "3, CONTIGUOUS, 17, Double, 0",
        "3, STRIPED, 19, Double, 1",
        "4, ZIGZAG, 29, Double, 2",
        "8, ZIGZAG, 5, Double, 0",
        "1, ZIGZAG, 13, Float, 0",
        "2, STRIPED, 13, Float, 1",
        "3, ZIGZAG, 31, Float, 0"
    })
    void modelLearnsAsOnTheWholeSequence(int ranks, Layout.Policy policy, int length, ScalarType type, int gathered) {
        Layout layout = Layout.of(policy, length, ranks);
        DType dtype = type == ScalarType.Double ? DType.FLOAT64 : DType.FLOAT32;
        Strategy strategy = gathered == 0 ? new Ring() : new Gather(gathered);
        Plan plan = Plan.of(
                Problem.of(AttentionShape.of(BATCH, HEADS, KV_HEADS, HEAD_DIM, dtype), layout, Mask.causal()),
                strategy,
                AttentionOptions.defaults());
        List<double[][]> shards = LocalGroup.run(ranks, communicator -> sharded(plan, communicator, type));
        double[][] whole = whole(length, type);
        double tolerance = Torch.tolerance(type);
        for (int i = 0; i < whole.length; i++) {
            double largest = largestDifference(whole[i], new double[whole[i].length]);
            for (int rank = 0; rank < ranks; rank++) {
                double[] expected = i < 2 ? rows(whole[i], layout.positions(rank), length) : whole[i];
                assertThat(largestDifference(shards.get(rank)[i], expected))
                        .as("tensor %d of output, dx, weights on rank %d", i, rank)
                        .isLessThanOrEqualTo(tolerance * largest);
            }
        }
        assertThat(AttentionNode.alive()).isZero();
    }

    private static double[][] sharded(Plan plan, Communicator communicator, ScalarType type) {
        Positions held = plan.queries().positions(communicator.rank());
        List<Tensor> weights = weights(type);
        try (PointerScope scope = new PointerScope();
                ShardedTorchAttention attention = new ShardedTorchAttention(plan, communicator);
                ParameterSync sync = new ParameterSync(weights, communicator)) {
            torch.set_num_threads(1);
            long[] positions = new long[(int) held.length()];
            for (int i = 0; i < positions.length; i++) {
                positions[i] = held.position(i);
            }
            Tensor index =
                    positions.length == 0 ? torch.empty(new long[] {0}).to(ScalarType.Long) : Tensor.create(positions);
            int length = (int) plan.queries().length();
            Tensor x = Torch.random(1, type, BATCH, length, DIM)
                    .index_select(1, index)
                    .requires_grad_(true);
            Tensor y = model(x, weights, attention::forward);
            y.mul(Torch.random(2, type, BATCH, length, DIM).index_select(1, index))
                    .sum()
                    .backward();
            sync.sum();
            return results(y, x, weights);
        } finally {
            weights.forEach(Tensor::close);
        }
    }

    private static double[][] whole(int length, ScalarType type) {
        try (PointerScope scope = new PointerScope()) {
            torch.set_num_threads(1);
            Tensor x = Torch.exact(Torch.random(1, type, BATCH, length, DIM).requires_grad_(true));
            List<Tensor> weights = weights(type).stream().map(Torch::exact).toList();
            Tensor y = model(x, weights, (q, k, v) -> Torch.attention(q, k, v, true));
            y.mul(Torch.random(2, type, BATCH, length, DIM).to(ScalarType.Double))
                    .sum()
                    .backward();
            return results(y, x, weights);
        }
    }

    private static Tensor model(Tensor x, List<Tensor> weights, Attention attention) {
        Tensor y = x;
        for (int layer = 0; layer < LAYERS; layer++) {
            List<Tensor> w = weights.subList(4 * layer, 4 * layer + 4);
            Tensor out = attention.of(
                    project(y, w.get(0), HEADS), project(y, w.get(1), KV_HEADS), project(y, w.get(2), KV_HEADS));
            y = y.add(torch.linear(out.transpose(1, 2).flatten(2, 3), w.get(3)));
        }
        return y;
    }

    private static Tensor project(Tensor x, Tensor weight, int heads) {
        return torch.linear(x, weight)
                .view(x.size(0), x.size(1), heads, HEAD_DIM)
                .transpose(1, 2);
    }

    private static List<Tensor> weights(ScalarType type) {
        List<Tensor> weights = new ArrayList<>();
        for (int layer = 0; layer < LAYERS; layer++) {
            for (int rows : new int[] {DIM, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, DIM}) {
                weights.add(Torch.random(10 + weights.size(), type, rows, DIM)
                        .mul_(new Scalar(0.3))
                        .requires_grad_(true));
            }
        }
        return weights;
    }

    private static double[][] results(Tensor y, Tensor x, List<Tensor> weights) {
        List<double[]> results = new ArrayList<>();
        results.add(values(y));
        results.add(values(x.grad()));
        weights.forEach(weight -> results.add(values(weight.grad())));
        return results.toArray(double[][]::new);
    }

    private static double[] values(Tensor tensor) {
        double[] values = new double[(int) tensor.numel()];
        if (values.length > 0) {
            tensor.detach().to(ScalarType.Double).contiguous().data_ptr_double().get(values);
        }
        return values;
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

    private static double largestDifference(double[] a, double[] b) {
        assertThat(a).hasSameSizeAs(b);
        double largest = 0;
        for (int i = 0; i < a.length; i++) {
            double apart = Math.abs(a[i] - b[i]);
            largest = apart > largest || Double.isNaN(apart) ? apart : largest;
        }
        return largest;
    }

    @Test
    void parameterThatBackwardDoesNotReachGetsTheSumOfTheOthers() {
        List<Double> sums = LocalGroup.run(2, communicator -> {
            try (PointerScope scope = new PointerScope()) {
                Tensor weight = torch.ones(3).requires_grad_(true);
                try (ParameterSync sync = new ParameterSync(List.of(weight), communicator)) {
                    if (communicator.rank() == 1) {
                        weight.mul(new Scalar(5.0)).sum().backward();
                    }
                    sync.sum();
                    return weight.grad().sum().item_double();
                }
            }
        });
        assertThat(sums).containsExactly(15.0, 15.0);
    }

    @Test
    void forwardOnlyPlanRefusesInputsThatRequireAGradient() {
        Plan plan = Plan.of(
                AttentionShape.of(1, 2, 2, 4, DType.FLOAT32),
                Layout.contiguous(5, 1),
                Mask.causal(),
                AttentionOptions.defaults().forwardOnly());
        try (PointerScope scope = new PointerScope();
                Communicator alone = LocalGroup.single();
                ShardedTorchAttention attention = new ShardedTorchAttention(plan, alone)) {
            Tensor q = torch.ones(1, 2, 5, 4);
            assertThat(attention.forward(q, q, q).sum().item_double()).isEqualTo(40);
            Tensor learnt = q.clone().requires_grad_(true);
            assertThatThrownBy(() -> attention.forward(learnt, q, q))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("the plan is forwardOnly");
            assertThatThrownBy(() -> attention.forward(q.narrow(2, 0, 3), q, q))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageStartingWith("q shape is [1, 3, 2, 4]");
        }
    }

    @Test
    void closingTwiceIsHarmlessAndUseAfterItThrows() {
        Plan plan = Plan.of(
                AttentionShape.of(1, 2, 2, 4, DType.FLOAT32),
                Layout.contiguous(5, 1),
                Mask.causal(),
                AttentionOptions.defaults());
        try (PointerScope scope = new PointerScope();
                Communicator alone = LocalGroup.single()) {
            Tensor q = torch.ones(1, 2, 5, 4);
            ShardedTorchAttention attention = new ShardedTorchAttention(plan, alone);
            ParameterSync sync = new ParameterSync(List.of(torch.ones(3).requires_grad_(true)), alone);
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
