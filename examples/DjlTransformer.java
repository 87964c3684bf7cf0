import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.nn.Activation;
import ai.djl.nn.core.Linear;
import ai.djl.nn.norm.LayerNorm;
import ai.djl.pytorch.jni.JniUtils;
import ai.djl.training.GradientCollector;
import ai.djl.training.optimizer.Optimizer;
import ai.djl.training.tracker.Tracker;
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
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.djl.FlashAttentionBlock.Attention;
import org.flashring.djl.ParameterSync;
import org.flashring.djl.ShardedDjlAttention;
import org.flashring.djl.ThreadGradientCollector;
import org.flashring.plan.Plan;

/**
 * A transformer that predicts the next byte of text, trained twice from the same start: by two ranks that hold half of
 * each sequence, and by one on attention of DJL's operators. Arguments: a folder of text files, a number of steps.
 */
public final class DjlTransformer {
    private static final int BYTES = 256;
    private static final int LENGTH = 256;
    private static final int BATCH = 2;
    private static final int SIZE = 256;
    private static final int HEADS = 8;
    private static final int LAYERS = 7;
    private static final int PER_LAYER = 8;

    private DjlTransformer() {}

    public static void main(String[] arguments) throws IOException {
        byte[] text = text(Path.of(arguments.length > 0 ? arguments[0] : "docs"));
        int steps = arguments.length > 1 ? Integer.parseInt(arguments[1]) : 40;
        Plan plan = Plan.of(
                AttentionShape.of(BATCH, HEADS, HEADS, SIZE / HEADS, DType.FLOAT32),
                Layout.zigzag(LENGTH, 2),
                Mask.causal(),
                AttentionOptions.defaults());
        List<double[]> shares = LocalGroup.run(2, ranks -> {
            try (ShardedDjlAttention attention = new ShardedDjlAttention(plan, ranks)) {
                return train(text, steps, ranks, plan.queries().positions(ranks.rank()), attention::forward);
            }
        });
        double[] sum = {shares.get(0)[0] + shares.get(1)[0], shares.get(0)[1] + shares.get(1)[1]};
        System.out.printf("FlashRing, 2 ranks: held-out loss from %.4f to %.4f%n", sum[0], sum[1]);
        try (Communicator alone = LocalGroup.single()) {
            Positions all = Layout.contiguous(LENGTH, 1).positions(0);
            double[] own = train(text, steps, alone, all, DjlTransformer::composed);
            System.out.printf("DJL's operators: held-out loss from %.4f to %.4f%n", own[0], own[1]);
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
        Optimizer adam =
                Optimizer.adam().optLearningRateTracker(Tracker.fixed(1e-3f)).build();
        try (NDManager manager = Engine.getEngine("PyTorch").newBaseManager()) {
            JniUtils.setNumThreads(1);
            List<NDArray> weights = weights(manager);
            JniUtils.setGradMode(false);
            double before = heldOut(text, learnt, manager, weights, held, attention);
            try (ParameterSync sync = new ParameterSync(weights, ranks)) {
                for (int step = 0; step < steps; step++) {
                    long[] starts = random.longs(BATCH, 0, learnt - LENGTH - 1).toArray();
                    try (NDManager scope = manager.newSubManager()) {
                        try (GradientCollector collector = new ThreadGradientCollector(weights)) {
                            collector.backward(loss(text, starts, scope, weights, held, attention));
                        }
                        sync.sum();
                        for (int i = 0; i < weights.size(); i++) {
                            NDArray gradient = weights.get(i).getGradient();
                            adam.update(Integer.toString(i), weights.get(i), gradient);
                            gradient.close();
                        }
                    }
                }
            }
            return new double[] {before, heldOut(text, learnt, manager, weights, held, attention)};
        }
    }

    private static double heldOut(
            byte[] text, int from, NDManager manager, List<NDArray> weights, Positions held, Attention attention) {
        int batches = Math.min(8, (text.length - from - 1) / (BATCH * LENGTH));
        double sum = 0;
        for (int batch = 0; batch < batches; batch++) {
            long first = from + (long) batch * BATCH * LENGTH;
            long[] starts =
                    LongStream.range(0, BATCH).map(row -> first + row * LENGTH).toArray();
            try (NDManager scope = manager.newSubManager()) {
                sum += loss(text, starts, scope, weights, held, attention).getFloat();
            }
        }
        return sum / batches;
    }

    /** Returns the sum over this rank's tokens, divided by the number of all ranks' tokens. */
    private static NDArray loss(
            byte[] text, long[] starts, NDManager scope, List<NDArray> weights, Positions held, Attention attention) {
        int tokens = (int) held.length();
        long[] positions = LongStream.range(0, tokens).map(held::position).toArray();
        long[] input = new long[BATCH * tokens];
        float[] target = new float[BATCH * tokens * BYTES];
        for (int i = 0; i < input.length; i++) {
            int at = (int) (starts[i / tokens] + positions[i % tokens]);
            input[i] = text[at] & 0xff;
            target[i * BYTES + (text[at + 1] & 0xff)] = -1f / (BATCH * LENGTH);
        }
        NDArray bytes = scope.create(input, new Shape(BATCH, tokens));
        NDArray x = weights.get(0).get(bytes).add(weights.get(1).get(scope.create(positions)));
        for (int layer = 0; layer < LAYERS; layer++) {
            List<NDArray> w = weights.subList(2 + PER_LAYER * layer, 2 + PER_LAYER * (layer + 1));
            NDArray y = normal(x, w.get(0));
            NDArray out = attention.attend(heads(y, w.get(1)), heads(y, w.get(2)), heads(y, w.get(3)));
            x = x.add(linear(out.swapAxes(1, 2).reshape(x.getShape()), w.get(4)));
            x = x.add(linear(Activation.gelu(linear(normal(x, w.get(5)), w.get(6))), w.get(7)));
        }
        NDArray logits = linear(x, weights.get(weights.size() - 1));
        return logits.logSoftmax(2)
                .mul(scope.create(target, new Shape(BATCH, tokens, BYTES)))
                .sum();
    }

    private static NDArray normal(NDArray x, NDArray gamma) {
        NDArray beta = x.getManager().zeros(new Shape(SIZE));
        return LayerNorm.layerNorm(x, new Shape(SIZE), gamma, beta, 1e-5f).singletonOrThrow();
    }

    private static NDArray linear(NDArray x, NDArray weight) {
        return Linear.linear(x, weight).singletonOrThrow();
    }

    private static NDArray heads(NDArray x, NDArray weight) {
        return linear(x, weight)
                .reshape(BATCH, x.getShape().get(1), HEADS, SIZE / HEADS)
                .swapAxes(1, 2);
    }

    /** Attention that keeps a matrix of all pairs. */
    private static NDArray composed(NDArray q, NDArray k, NDArray v) {
        float[] unseen = new float[LENGTH * LENGTH];
        for (int i = 0; i < unseen.length; i++) {
            unseen[i] = i % LENGTH > i / LENGTH ? Float.NEGATIVE_INFINITY : 0;
        }
        NDManager manager = q.getManager();
        NDArray scale = manager.create((float) (1 / Math.sqrt(SIZE / HEADS))); // mul(number) would not keep it
        return q.matMul(k.swapAxes(2, 3))
                .mul(scale)
                .add(manager.create(unseen, new Shape(LENGTH, LENGTH)))
                .softmax(3)
                .matMul(v);
    }

    /** Returns the same on every rank: embeddings of bytes and positions, layers, and what gives bytes. */
    private static List<NDArray> weights(NDManager manager) {
        List<Shape> shapes = new ArrayList<>(List.of(new Shape(BYTES, SIZE), new Shape(LENGTH, SIZE)));
        for (int layer = 0; layer < LAYERS; layer++) {
            Shape square = new Shape(SIZE, SIZE);
            shapes.addAll(List.of(new Shape(SIZE), square, square, square, square));
            shapes.addAll(List.of(new Shape(SIZE), new Shape(4 * SIZE, SIZE), new Shape(SIZE, 4 * SIZE)));
        }
        shapes.add(new Shape(BYTES, SIZE));
        List<NDArray> weights = new ArrayList<>();
        Random random = new Random(2);
        for (Shape shape : shapes) {
            float[] values = new float[(int) shape.size()];
            Arrays.fill(values, 1);
            if (shape.dimension() > 1) {
                for (int i = 0; i < values.length; i++) {
                    values[i] = 0.02f * (float) random.nextGaussian();
                }
            }
            NDArray weight = manager.create(values, shape).toType(DataType.FLOAT32, true);
            weight.setRequiresGradient(true);
            weights.add(weight);
        }
        return weights;
    }
}
