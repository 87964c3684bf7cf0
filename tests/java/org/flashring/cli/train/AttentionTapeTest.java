package org.flashring.cli.train;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.global.torch;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Two attention layers with a residual stream, in float64: outputs and all gradients over ranks against PyTorch's
 * autograd through its own scaled_dot_product_attention on the whole sequence.
 */
class AttentionTapeTest {
    private static final int BATCH = 2;
    private static final int HEADS = 4;
    private static final int KV_HEADS = 2;
    private static final int HEAD_DIM = 6;
    private static final int DIM = HEADS * HEAD_DIM;
    private static final int LAYERS = 2;
    private static final double TOLERANCE = 1e-12;

    @ParameterizedTest
    @CsvSource({"1, ZIGZAG, 13", "2, ZIGZAG, 13", "3, CONTIGUOUS, 17", "4, STRIPED, 19", "4, ZIGZAG, 29", "8, ZIGZAG, 5"
    })
    void gradientsEqualPyTorchs(int ranks, Layout.Policy policy, int length) {
        Layout layout = Layout.of(policy, length, ranks);
        Plan plan = Plan.of(
                AttentionShape.of(BATCH, HEADS, KV_HEADS, HEAD_DIM, DType.FLOAT64),
                layout,
                Mask.causal(),
                AttentionOptions.defaults());
        List<double[][]> shards = LocalGroup.run(ranks, communicator -> sharded(plan, communicator));
        double[][] whole = whole(length);

        double[][] gathered = new double[whole.length][];
        gathered[0] = new double[whole[0].length];
        gathered[1] = new double[whole[1].length];
        for (int rank = 0; rank < ranks; rank++) {
            scatter(shards.get(rank)[0], gathered[0], layout.positions(rank), length);
            scatter(shards.get(rank)[1], gathered[1], layout.positions(rank), length);
        }
        for (int i = 2; i < whole.length; i++) { // weights: the sum over ranks
            gathered[i] = new double[whole[i].length];
            for (double[][] shard : shards) {
                for (int j = 0; j < gathered[i].length; j++) {
                    gathered[i][j] += shard[i][j];
                }
            }
        }
        for (int i = 0; i < whole.length; i++) {
            assertThat(largestDifference(gathered[i], whole[i]))
                    .as("tensor %d of output, dx, weights", i)
                    .isLessThan(TOLERANCE * largest(whole[i]));
        }
    }

    /** Returns the output, the gradient of x, and those of the weights. */
    @SuppressWarnings("try") // a scope works by being open
    private static double[][] sharded(Plan plan, Communicator communicator) {
        Positions held = plan.queries().positions(communicator.rank());
        try (PointerScope scope = new PointerScope();
                ShardedAttention ring = new ShardedAttention(plan, communicator)) {
            torch.set_num_threads(1);
            long[] positions = new long[(int) held.length()];
            for (int i = 0; i < positions.length; i++) {
                positions[i] = held.position(i);
            }
            Tensor index = Tensor.create(positions);
            Tensor x = random(1, BATCH, plan.queries().length(), DIM)
                    .index_select(1, index)
                    .requires_grad_(true);
            Tensor coefficients = random(2, BATCH, plan.queries().length(), DIM).index_select(1, index);
            List<Tensor> weights = weights();
            AttentionTape tape = new AttentionTape(ring);
            Tensor y = x;
            for (int layer = 0; layer < LAYERS; layer++) {
                List<Tensor> w = weights.subList(4 * layer, 4 * layer + 4);
                AttentionTape.Attended attended = tape.attend(
                        y, project(y, w.get(0), HEADS), project(y, w.get(1), KV_HEADS), project(y, w.get(2), KV_HEADS));
                y = attended.residual().add(torch.linear(attended.out().flatten(2, 3), w.get(3)));
            }
            tape.backward(y.mul(coefficients).sum());
            return results(y, x, weights);
        }
    }

    @SuppressWarnings("try")
    private static double[][] whole(int length) {
        try (PointerScope scope = new PointerScope()) {
            torch.set_num_threads(1);
            Tensor x = random(1, BATCH, length, DIM).requires_grad_(true);
            List<Tensor> weights = weights();
            Tensor y = x;
            for (int layer = 0; layer < LAYERS; layer++) {
                List<Tensor> w = weights.subList(4 * layer, 4 * layer + 4);
                Tensor out = torch.scaled_dot_product_attention(
                        project(y, w.get(0), HEADS).transpose(1, 2),
                        project(y, w.get(1), KV_HEADS).transpose(1, 2),
                        project(y, w.get(2), KV_HEADS).transpose(1, 2),
                        new TensorOptional(),
                        0,
                        true,
                        new DoubleOptional(),
                        true);
                y = y.add(torch.linear(out.transpose(1, 2).flatten(2, 3), w.get(3)));
            }
            y.mul(random(2, BATCH, length, DIM)).sum().backward();
            return results(y, x, weights);
        }
    }

    private static List<Tensor> weights() {
        List<Tensor> weights = new ArrayList<>();
        for (int layer = 0; layer < LAYERS; layer++) {
            for (int rows : new int[] {DIM, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, DIM}) {
                weights.add(random(10 + weights.size(), rows, DIM)
                        .mul_(new org.bytedeco.pytorch.Scalar(0.3))
                        .requires_grad_(true));
            }
        }
        return weights;
    }

    private static Tensor project(Tensor x, Tensor weight, int heads) {
        return torch.linear(x, weight).view(x.size(0), x.size(1), heads, HEAD_DIM);
    }

    private static Tensor random(long seed, long... shape) {
        Random random = new Random(seed);
        long elements = 1;
        for (long size : shape) {
            elements *= size;
        }
        return Tensor.create(random.doubles(elements, -1, 1).toArray(), shape);
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
            tensor.detach().contiguous().data_ptr_double().get(values);
        }
        return values;
    }

    private static void scatter(double[] shard, double[] whole, Positions held, int length) {
        for (int row = 0; row < BATCH; row++) {
            for (int i = 0; i < held.length(); i++) {
                System.arraycopy(
                        shard,
                        (int) (row * held.length() + i) * DIM,
                        whole,
                        (int) (row * length + held.position(i)) * DIM,
                        DIM);
            }
        }
    }

    private static double largestDifference(double[] a, double[] b) {
        double largest = 0;
        for (int i = 0; i < a.length; i++) {
            largest = Math.max(largest, Math.abs(a[i] - b[i]));
        }
        return largest;
    }

    private static double largest(double[] a) {
        return largestDifference(a, new double[a.length]);
    }
}
