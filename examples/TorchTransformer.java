import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Adam;
import org.bytedeco.pytorch.AdamOptions;
import org.bytedeco.pytorch.AutoGradMode;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;
import org.flashring.pytorch.ParameterSync;
import org.flashring.pytorch.ShardedTorchAttention;

/**
 * A transformer that predicts the next byte of text, trained twice from the same start: by two ranks that hold half of
 * each sequence, and by one on PyTorch's own attention. Arguments: a folder of text files, a number of steps.
 */
@SuppressWarnings("try") // scopes work by being open
public final class TorchTransformer {
    private static final int BYTES = 256;
    private static final int LENGTH = 256;
    private static final int BATCH = 2;
    private static final int SIZE = 256;
    private static final int HEADS = 8;
    private static final int LAYERS = 7;
    private static final int PER_LAYER = 8;
    private static final long SUM = 2; // at::Reduction::Sum
    private static final long NO_LABEL = -100;

    private TorchTransformer() {}

    /** Attention of [batch, heads, tokens, dim]. */
    private interface Attention {
        Tensor attend(Tensor q, Tensor k, Tensor v);
    }

    public static void main(String[] arguments) throws IOException {
        byte[] text = text(Path.of(arguments.length > 0 ? arguments[0] : "docs"));
        int steps = arguments.length > 1 ? Integer.parseInt(arguments[1]) : 40;
        Plan plan = Plan.of(
                AttentionShape.of(BATCH, HEADS, HEADS, SIZE / HEADS, DType.FLOAT32),
                Layout.zigzag(LENGTH, 2),
                Mask.causal(),
                AttentionOptions.defaults());
        List<double[]> shares = LocalGroup.run(2, ranks -> {
            try (ShardedTorchAttention attention = new ShardedTorchAttention(plan, ranks)) {
                return train(text, steps, ranks, plan.queries().positions(ranks.rank()), attention::forward);
            }
        });
        double[] sum = {shares.get(0)[0] + shares.get(1)[0], shares.get(0)[1] + shares.get(1)[1]};
        System.out.printf("FlashRing, 2 ranks: held-out loss from %.4f to %.4f%n", sum[0], sum[1]);
        try (Communicator alone = LocalGroup.single()) {
            Positions all = Layout.contiguous(LENGTH, 1).positions(0);
            double[] own = train(text, steps, alone, all, TorchTransformer::scaledDotProduct);
            System.out.printf("PyTorch's own: held-out loss from %.4f to %.4f%n", own[0], own[1]);
        }
    }

    private static byte[] text(Path folder) throws IOException {
        ByteArrayOutputStream text = new ByteArrayOutputStream();
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path file : files.filter(Files::isRegularFile).sorted().toList()) {
                text.write(Files.readAllBytes(file));
            }
        }
        return text.toByteArray();
    }

    /** Returns this rank's share of the loss on the last tenth of the text, before and after training on the rest. */
    private static double[] train(byte[] text, int steps, Communicator ranks, Positions held, Attention attention) {
        int learnt = text.length - text.length / 10;
        Random random = new Random(1);
        torch.set_num_threads(1);
        try (PointerScope all = new PointerScope()) {
            List<Tensor> weights = weights();
            double before = heldOut(text, learnt, weights, held, attention);
            Adam adam = new Adam(new TensorVector(weights.toArray(Tensor[]::new)), new AdamOptions(1e-3));
            try (ParameterSync sync = new ParameterSync(weights, ranks)) {
                for (int step = 0; step < steps; step++) {
                    long[] starts = random.longs(BATCH, 0, learnt - LENGTH - 1).toArray();
                    try (PointerScope scope = new PointerScope()) {
                        loss(text, starts, weights, held, attention).backward();
                        sync.sum();
                        adam.step();
                        adam.zero_grad();
                    }
                }
            }
            return new double[] {before, heldOut(text, learnt, weights, held, attention)};
        }
    }

    private static double heldOut(byte[] text, int from, List<Tensor> weights, Positions held, Attention attention) {
        int batches = Math.min(8, (text.length - from - 1) / (BATCH * LENGTH));
        double sum = 0;
        try (AutoGradMode off = new AutoGradMode(false)) {
            for (int batch = 0; batch < batches; batch++) {
                long first = from + (long) batch * BATCH * LENGTH;
                long[] starts = LongStream.range(0, BATCH)
                        .map(row -> first + row * LENGTH)
                        .toArray();
                try (PointerScope scope = new PointerScope()) {
                    sum += loss(text, starts, weights, held, attention).item_float();
                }
            }
        }
        return sum / batches;
    }

    /** Returns the sum over this rank's tokens, divided by the number of all ranks' tokens. */
    private static Tensor loss(byte[] text, long[] starts, List<Tensor> weights, Positions held, Attention attention) {
        int tokens = (int) held.length();
        long[] positions = LongStream.range(0, tokens).map(held::position).toArray();
        long[] input = new long[BATCH * tokens];
        long[] target = new long[BATCH * tokens];
        for (int i = 0; i < input.length; i++) {
            int at = (int) (starts[i / tokens] + positions[i % tokens]);
            input[i] = text[at] & 0xff;
            target[i] = text[at + 1] & 0xff;
        }
        Tensor x = torch.embedding(weights.get(0), Tensor.create(input, BATCH, tokens))
                .add(torch.embedding(weights.get(1), Tensor.create(positions)));
        for (int layer = 0; layer < LAYERS; layer++) {
            List<Tensor> w = weights.subList(2 + PER_LAYER * layer, 2 + PER_LAYER * (layer + 1));
            Tensor y = normal(x, w.get(0));
            Tensor out = attention.attend(heads(y, w.get(1)), heads(y, w.get(2)), heads(y, w.get(3)));
            x = x.add(torch.linear(out.transpose(1, 2).flatten(2, 3), w.get(4)));
            x = x.add(torch.linear(torch.gelu(torch.linear(normal(x, w.get(5)), w.get(6))), w.get(7)));
        }
        Tensor logits = torch.linear(x, weights.get(weights.size() - 1)).flatten(0, 1);
        Tensor labels = Tensor.create(target);
        Tensor sum = torch.cross_entropy_loss(logits, labels, new TensorOptional(), SUM, NO_LABEL, 0);
        return sum.div(Tensor.create((float) (BATCH * LENGTH)));
    }

    private static Tensor normal(Tensor x, Tensor gamma) {
        return torch.rms_norm(x, new long[] {SIZE}, new TensorOptional(gamma), new DoubleOptional(1e-5));
    }

    private static Tensor heads(Tensor x, Tensor weight) {
        return torch.linear(x, weight)
                .view(BATCH, x.size(1), HEADS, SIZE / HEADS)
                .transpose(1, 2);
    }

    private static Tensor scaledDotProduct(Tensor q, Tensor k, Tensor v) {
        return torch.scaled_dot_product_attention(q, k, v, new TensorOptional(), 0, true, new DoubleOptional(), false);
    }

    /** Returns the same on every rank: embeddings of bytes and positions, layers, and what gives bytes. */
    private static List<Tensor> weights() {
        List<long[]> shapes = new ArrayList<>(List.of(new long[] {BYTES, SIZE}, new long[] {LENGTH, SIZE}));
        for (int layer = 0; layer < LAYERS; layer++) {
            long[] square = {SIZE, SIZE};
            shapes.addAll(List.of(new long[] {SIZE}, square, square, square, square));
            shapes.addAll(List.of(new long[] {SIZE}, new long[] {4 * SIZE, SIZE}, new long[] {SIZE, 4 * SIZE}));
        }
        shapes.add(new long[] {BYTES, SIZE});
        List<Tensor> weights = new ArrayList<>();
        Random random = new Random(2);
        for (long[] shape : shapes) {
            float[] values = new float[(int) Arrays.stream(shape).reduce(1, (a, b) -> a * b)];
            Arrays.fill(values, 1);
            if (shape.length > 1) {
                for (int i = 0; i < values.length; i++) {
                    values[i] = 0.02f * (float) random.nextGaussian();
                }
            }
            weights.add(Tensor.create(values, shape).requires_grad_(true));
        }
        return weights;
    }
}
