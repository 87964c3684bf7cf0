import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.nd4j.AttentionGradients;
import org.flashring.nd4j.AttentionPass;
import org.flashring.nd4j.ShardedNd4jAttention;
import org.flashring.plan.Plan;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.api.ops.DynamicCustomOp;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.NDArrayIndex;
import org.nd4j.linalg.learning.GradientUpdater;
import org.nd4j.linalg.learning.config.Adam;

/**
 * Classifies long documents, each sharded over ranks: Nd4jDocuments RANKS LENGTH STEPS, with 0 ranks on ND4J's own
 * attention. One word among the first quarter of a document tells its class; words like it in the last half mislead,
 * and all others are noise, so that the mean of all words says little: attention has to find that one.
 *
 * <p>Every rank has the whole model and its tokens of every document. The sum over a document's tokens and the
 * gradients are summed over ranks; all else is each rank's own, attention excepted.
 */
public final class Nd4jDocuments {
    private static final int CLASSES = 4;
    private static final int WORDS = 24; // the first of which tell a class
    private static final int BATCH = 16;
    private static final int HEADS = 2;
    private static final int DIM = 16;
    private static final int WIDTH = HEADS * DIM;
    private static final double LEARNING_RATE = 1e-2;
    private static final int HELD_OUT = 4; // batches

    private Nd4jDocuments() {}

    /** Attention of [batch, heads, tokens, dim]; backward is of the last forward. */
    private interface Attention {
        INDArray forward(INDArray q, INDArray k, INDArray v);

        AttentionGradients backward(INDArray dout);
    }

    /** FlashRing's, over the ranks. */
    private static final class Sharded implements Attention {
        private final ShardedNd4jAttention attention;
        private AttentionPass pass;

        Sharded(ShardedNd4jAttention attention) {
            this.attention = attention;
        }

        @Override
        public INDArray forward(INDArray q, INDArray k, INDArray v) {
            pass = attention.forward(q, k, v);
            return pass.out();
        }

        @Override
        public AttentionGradients backward(INDArray dout) {
            return pass.backward(dout);
        }
    }

    /** ND4J's operations, which take [batch, heads, dim, tokens]. */
    private static final class Own implements Attention {
        private INDArray[] inputs;

        @Override
        public INDArray forward(INDArray q, INDArray k, INDArray v) {
            inputs = new INDArray[] {turned(q), turned(k), turned(v)};
            DynamicCustomOp operation = DynamicCustomOp.builder("dot_product_attention")
                    .addInputs(inputs)
                    .addIntegerArguments(1, 0) // scaled, without weights
                    .build();
            return turned(Nd4j.exec(operation)[0]);
        }

        @Override
        public AttentionGradients backward(INDArray dout) {
            DynamicCustomOp operation = DynamicCustomOp.builder("dot_product_attention_bp")
                    .addInputs(inputs[0], inputs[1], inputs[2], turned(dout))
                    .addIntegerArguments(1)
                    .build();
            INDArray[] gradients = Nd4j.exec(operation);
            return new AttentionGradients(turned(gradients[0]), turned(gradients[1]), turned(gradients[2]));
        }

        private static INDArray turned(INDArray array) {
            return array.permute(0, 1, 3, 2).dup('c');
        }
    }

    /** Documents: for each its words, and the class. */
    private record Documents(int[][] words, int[] classes) {
        static Documents random(Random random, int length) {
            int[][] words = new int[BATCH][length];
            int[] classes = new int[BATCH];
            for (int i = 0; i < BATCH; i++) {
                for (int token = 0; token < length; token++) {
                    words[i][token] = CLASSES + random.nextInt(WORDS - CLASSES);
                }
                for (int misleading = 0; misleading < 3; misleading++) {
                    words[i][length - 1 - random.nextInt(length / 2)] = random.nextInt(CLASSES);
                }
                int told = random.nextInt(CLASSES);
                words[i][random.nextInt(length / 4)] = told;
                classes[i] = random.nextInt(10) == 0 ? random.nextInt(CLASSES) : told; // labels are never clean
            }
            return new Documents(words, classes);
        }
    }

    /** One rank's part of the training. Parameters and their gradients are views of one array each. */
    private static final class Trainer {
        private static final long[][] SHAPES = {
            {WORDS + 2, WIDTH}, {WIDTH, WIDTH}, {WIDTH, WIDTH}, {WIDTH, WIDTH}, {WIDTH, WIDTH}, {WIDTH, CLASSES}
        };

        private final Communicator ranks;
        private final Attention attention;
        private final Positions held;
        private final int length;
        private final INDArray flat;
        private final INDArray flatGradient;
        private final List<INDArray> parameters; // embedding, of q, k, v, the result, the classes
        private final List<INDArray> gradients;
        private final GradientUpdater<?> updater;

        Trainer(Communicator ranks, Attention attention, Layout layout) {
            this.ranks = ranks;
            this.attention = attention;
            this.held = layout.positions(ranks.rank());
            this.length = (int) layout.length();
            long count = 0;
            for (long[] shape : SHAPES) {
                count += shape[0] * shape[1];
            }
            float[] values = new float[(int) count];
            Random random = new Random(1);
            for (int i = 0; i < values.length; i++) {
                boolean embedding = i < (WORDS + 2) * WIDTH;
                values[i] = (float) (random.nextGaussian() / (embedding ? 1 : Math.sqrt(WIDTH)));
            }
            flat = Nd4j.createFromArray(values);
            flatGradient = Nd4j.create(DataType.FLOAT, count);
            parameters = views(flat);
            gradients = views(flatGradient);
            updater = new Adam(LEARNING_RATE).instantiate(Nd4j.create(DataType.FLOAT, 1, 2 * count), true);
        }

        private static List<INDArray> views(INDArray flat) {
            List<INDArray> views = new ArrayList<>();
            long from = 0;
            for (long[] shape : SHAPES) {
                long to = from + shape[0] * shape[1];
                views.add(flat.get(NDArrayIndex.interval(from, to)).reshape(shape));
                from = to;
            }
            return views;
        }

        /** Returns the mean loss of documents, after a step of training if that is asked for. */
        double run(Documents documents, int step, boolean training) {
            int tokens = BATCH * (int) held.length();
            INDArray words = words(documents, tokens);
            INDArray x = product(words, parameters.get(0));
            INDArray q = product(x, parameters.get(1));
            INDArray k = product(x, parameters.get(2));
            INDArray v = product(x, parameters.get(3));
            INDArray attended = tokens(attention.forward(heads(q), heads(k), heads(v)), tokens);
            INDArray y = product(attended, parameters.get(4)).addi(x);
            INDArray mean = y.reshape(BATCH, held.length(), WIDTH).sum(1).divi(length);
            sum(mean);
            INDArray p = Nd4j.nn.softmax(product(mean, parameters.get(5)), 1);
            double loss = 0;
            for (int i = 0; i < BATCH; i++) {
                loss -= Math.log(p.getDouble(i, documents.classes()[i])) / BATCH;
            }
            if (training) {
                for (int i = 0; i < BATCH; i++) {
                    p.putScalar(
                            i, documents.classes()[i], p.getDouble(i, documents.classes()[i]) - 1);
                }
                INDArray dscores = p.divi(BATCH);
                Nd4j.matmul(mean, dscores, gradients.get(5), true, false, false);
                gradients.get(5).divi(ranks.worldSize()); // every rank has the whole of it
                INDArray dmean = Nd4j.matmul(dscores, parameters.get(5), false, true, false)
                        .divi(length);
                INDArray dy = Nd4j.repeat(dmean, (int) held.length())
                        .reshape(held.length(), BATCH, WIDTH)
                        .permute(1, 0, 2)
                        .dup('c')
                        .reshape(tokens, WIDTH);
                backward(words, x, attended, dy, tokens);
                sum(flatGradient);
                INDArray update = flatGradient.reshape(1, flat.length());
                updater.applyUpdater(update, step, 0);
                flat.subi(flatGradient);
            }
            return loss;
        }

        private void backward(INDArray words, INDArray x, INDArray attended, INDArray dy, int tokens) {
            Nd4j.matmul(attended, dy, gradients.get(4), true, false, false);
            INDArray dattended = Nd4j.matmul(dy, parameters.get(4), false, true, false);
            AttentionGradients of = attention.backward(heads(dattended));
            INDArray dx = dy;
            INDArray[] projected = {tokens(of.dq(), tokens), tokens(of.dk(), tokens), tokens(of.dv(), tokens)};
            for (int i = 0; i < projected.length; i++) {
                Nd4j.matmul(x, projected[i], gradients.get(1 + i), true, false, false);
                dx = dx.add(Nd4j.matmul(projected[i], parameters.get(1 + i), false, true, false));
            }
            Nd4j.matmul(words, dx, gradients.get(0), true, false, false);
        }

        /** Returns a row for each token: a one for its word, and where in the document it stands. */
        private INDArray words(Documents documents, int tokens) {
            float[][] rows = new float[tokens][WORDS + 2];
            for (int i = 0; i < tokens; i++) {
                int position = (int) held.position(i % held.length());
                rows[i][documents.words()[i / (int) held.length()][position]] = 1;
                rows[i][WORDS] = (float) Math.cos(Math.PI * position / length);
                rows[i][WORDS + 1] = (float) Math.sin(Math.PI * position / length);
            }
            return Nd4j.createFromArray(rows);
        }

        private static INDArray product(INDArray a, INDArray b) {
            return Nd4j.matmul(a, b, false, false, false);
        }

        private INDArray heads(INDArray tokens) {
            return tokens.reshape(BATCH, held.length(), HEADS, DIM).permute(0, 2, 1, 3);
        }

        private static INDArray tokens(INDArray heads, int tokens) {
            return heads.permute(0, 2, 1, 3).reshape(tokens, WIDTH);
        }

        private void sum(INDArray array) {
            long first = array.data().pointer().address() + array.offset() * Float.BYTES;
            ranks.allReduce(first, array.length(), DType.FLOAT32);
        }

        double heldOut() {
            Random random = new Random(2);
            double loss = 0;
            for (int i = 0; i < HELD_OUT; i++) {
                loss += run(Documents.random(random, length), 0, false) / HELD_OUT;
            }
            return loss;
        }
    }

    private static String train(Communicator ranks, Attention attention, Layout layout, int steps) {
        Trainer trainer = new Trainer(ranks, attention, layout);
        double before = trainer.heldOut();
        Random random = new Random(3);
        for (int step = 0; step < steps; step++) {
            trainer.run(Documents.random(random, (int) layout.length()), step, true);
        }
        return "held-out loss: " + before + " before, " + trainer.heldOut() + " after " + steps + " steps";
    }

    public static void main(String[] arguments) {
        int ranks = Integer.parseInt(arguments[0]);
        int length = Integer.parseInt(arguments[1]);
        int steps = Integer.parseInt(arguments[2]);
        if (ranks == 0) {
            try (Communicator alone = LocalGroup.single()) {
                System.out.println(train(alone, new Own(), Layout.contiguous(length, 1), steps));
            }
            return;
        }
        AttentionShape shape = AttentionShape.of(BATCH, HEADS, HEADS, DIM, DType.FLOAT32);
        Layout layout = Layout.contiguous(length, ranks);
        Plan plan = Plan.of(shape, layout, Mask.full(), AttentionOptions.defaults());
        List<String> results = LocalGroup.run(ranks, communicator -> {
            try (ShardedNd4jAttention attention = new ShardedNd4jAttention(plan, communicator)) {
                return train(communicator, new Sharded(attention), layout, steps);
            }
        });
        results.forEach(System.out::println);
    }
}
