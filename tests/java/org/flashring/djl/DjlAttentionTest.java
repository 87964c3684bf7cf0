package org.flashring.djl;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.index.NDIndex;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.ndarray.types.SparseFormat;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.jni.JniUtils;
import ai.djl.training.GradientCollector;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.function.UnaryOperator;
import org.flashring.DType;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.internal.Native;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Attention on one device against DJL's operators in float64, through views of all kinds and through its gradients. */
class DjlAttentionTest {
    private static final List<DataType> TYPES = List.of(DataType.FLOAT64, DataType.FLOAT32, DataType.FLOAT16);

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

    /** How [batch, heads, length, dim] lies in a larger or smaller block. */
    private enum Form {
        DENSE,
        TRANSPOSED,
        PART,
        PACKED,
        LENGTH_FIRST,
        ONE_HEAD,
        ONE_ROW,
        ONE_TOKEN;

        long[] base(long b, long h, long s, long d) {
            return switch (this) {
                case DENSE -> new long[] {b, h, s, d};
                case TRANSPOSED -> new long[] {b, s, h, d};
                case PART -> new long[] {b + 1, h + 2, s + 3, d + 5};
                case PACKED -> new long[] {b, s, 3, h, d};
                case LENGTH_FIRST -> new long[] {s, b, h, d};
                case ONE_HEAD -> new long[] {b, 1, s, d};
                case ONE_ROW -> new long[] {1, h, s, d};
                case ONE_TOKEN -> new long[] {b, h, 1, d};
            };
        }

        UnaryOperator<NDArray> view(long b, long h, long s, long d) {
            return switch (this) {
                case DENSE -> base -> base;
                case TRANSPOSED -> base -> base.swapAxes(1, 2);
                case PART -> base -> base.get(new NDIndex("1:{}, 2:{}, 1:{}, 4:{}", b + 1, h + 2, s + 1, d + 4));
                case PACKED -> base -> base.get(new NDIndex(":, :, 1")).swapAxes(1, 2);
                case LENGTH_FIRST -> base -> base.transpose(1, 2, 0, 3);
                case ONE_HEAD, ONE_ROW, ONE_TOKEN -> base -> base.broadcast(new Shape(b, h, s, d));
            };
        }

        /** Returns which element of the base is the first one of the view. */
        long first(long h, long s, long d) {
            return switch (this) {
                case PART -> (((h + 2) + 2) * (s + 3) + 1) * (d + 5) + 4;
                case PACKED -> h * d;
                default -> 0;
            };
        }
    }

    private static <T> T any(Random random, List<T> values) {
        return values.get(random.nextInt(values.size()));
    }

    /** 200 cases: every input in a form of its own, of any type, with and without gradient, empty ones among them. */
    @Test
    void formsAndTypesEqualDjlsOperators() {
        Random random = new Random(7);
        for (int i = 0; i < 200; i++) {
            try (NDManager one = manager.newSubManager()) {
                compare(i, random, one);
            }
        }
    }

    private static void compare(int number, Random random, NDManager manager) {
        DataType type = any(random, TYPES);
        long batch = number % 23 == 5 ? 0 : 1 + random.nextInt(3);
        long kvHeads = 1L + random.nextInt(3);
        long heads = kvHeads * (1 + random.nextInt(2));
        long queries = number % 29 == 3 ? 0 : 1 + random.nextInt(17);
        boolean causal = random.nextBoolean();
        long keys = random.nextBoolean() && queries > 0 ? queries : 1 + random.nextInt(17);
        long dim = 1L + random.nextInt(20);
        long valueDim = random.nextInt(4) == 0 ? 1 + random.nextInt(20) : dim;
        long[][] sizes = {{batch, heads, queries, dim}, {batch, kvHeads, keys, dim}, {batch, kvHeads, keys, valueDim}};
        NDArray[] bases = new NDArray[3];
        NDArray[] exactBases = new NDArray[3];
        NDArray[] views = new NDArray[3];
        NDArray[] exact = new NDArray[3];
        StringBuilder name = new StringBuilder("case " + number + ": " + type + (causal ? " causal" : ""));
        boolean learnt = false;
        for (int i = 0; i < 3; i++) {
            Form form = any(random, List.of(Form.values()));
            long[] s = sizes[i];
            name.append(' ').append(form).append(Arrays.toString(s));
            bases[i] = Djl.random(manager, 100L * number + i, type, form.base(s[0], s[1], s[2], s[3]));
            bases[i].setRequiresGradient(random.nextInt(5) > 0);
            learnt |= bases[i].hasGradient();
            exactBases[i] = Djl.exact(bases[i]);
            views[i] = form.view(s[0], s[1], s[2], s[3]).apply(bases[i]);
            exact[i] = form.view(s[0], s[1], s[2], s[3]).apply(exactBases[i]);
            if (views[i].size() > 0) {
                long base = Native.address(((PtNDArray) bases[i]).toByteBuffer(true));
                assertThat(DjlTensors.bhsd("view", views[i]).address())
                        .as("%s: the memory itself", name)
                        .isEqualTo(base + type.getNumOfBytes() * form.first(s[1], s[2], s[3]));
            }
        }
        Mask mask = causal ? Mask.causal() : Mask.full();
        NDArray out = DjlAttention.scaledDotProductAttention(views[0], views[1], views[2], mask);
        NDArray expected = Djl.attention(exact[0], exact[1], exact[2], causal);
        double tolerance = Djl.tolerance(type);
        Djl.assertClose(name + " out", out, expected, tolerance, 1e-3);
        assertThat(TorchArray.of("out", out).requiresGradient())
                .as(name.toString())
                .isEqualTo(learnt);
        if (learnt) {
            NDArray weights = Djl.random(manager, number, type, batch, heads, queries, valueDim);
            Djl.backward(out.mul(weights).sum());
            Djl.backward(expected.mul(weights.toType(DataType.FLOAT64, true)).sum());
            for (int i = 0; i < 3; i++) {
                if (bases[i].hasGradient()) { // those that cancel are measured against an input of the same size
                    Djl.assertClose(
                            name + " gradient " + i, bases[i].getGradient(), exactBases[i].getGradient(), tolerance, 1);
                }
            }
        }
    }

    private NDArray input(int seed, DataType type) {
        return Djl.learnt(Djl.random(manager, seed, type, 2, 3, 13, 8));
    }

    private static NDArray attend(NDArray q, NDArray k, NDArray v) {
        return DjlAttention.scaledDotProductAttention(q, k, v, Mask.causal());
    }

    @ParameterizedTest
    @EnumSource(
            value = DataType.class,
            names = {"FLOAT32", "FLOAT64"})
    void layersAndUsesBesideThem(DataType type) {
        NDArray[] inputs = {input(1, type), input(2, type), input(3, type)};
        NDArray[] exact = {Djl.exact(inputs[0]), Djl.exact(inputs[1]), Djl.exact(inputs[2])};
        NDArray x = inputs[0];
        NDArray y = exact[0];
        for (int layer = 0; layer < 12; layer++) { // x also goes round, k and v serve all layers
            x = x.add(attend(x, inputs[1], inputs[2]));
            y = y.add(Djl.attention(y, exact[1], exact[2], true));
        }
        Djl.backward(x.square().sum());
        Djl.backward(y.square().sum());
        for (int i = 0; i < 3; i++) {
            Djl.assertClose(
                    "gradient " + i, inputs[i].getGradient(), exact[i].getGradient(), 5 * Djl.tolerance(type), 0);
        }
    }

    @Test
    void enginesOwnCollectorGoesThroughIt() {
        NDArray q = input(1, DataType.FLOAT64);
        NDArray k = input(2, DataType.FLOAT64);
        NDArray exactQ = Djl.exact(q);
        NDArray exactK = Djl.exact(k);
        Djl.backward(Djl.attention(exactQ, exactK, exactK, true).square().sum());
        JniUtils.setGradMode(false); // as the engine leaves it
        try (GradientCollector collector = Engine.getEngine("PyTorch").newGradientCollector()) {
            collector.backward(attend(q, k, k).square().sum());
        }
        Djl.assertClose("dq", q.getGradient(), exactQ.getGradient(), 1e-12, 0);
        Djl.assertClose("dk", k.getGradient(), exactK.getGradient(), 1e-12, 0);
    }

    @Test
    void scaleOfTheCaller() {
        NDArray q = input(1, DataType.FLOAT64);
        NDArray k = input(2, DataType.FLOAT64);
        NDArray v = input(3, DataType.FLOAT64);
        NDArray out =
                DjlAttention.scaledDotProductAttention(q, k, v, Mask.full(), Score.scaledBy(1 / Math.sqrt(8) / 3));
        Djl.assertClose("out", out, Djl.attention(q.div(3.0), k, v, false), 1e-12, 0);
    }

    /** Arrays of bfloat16 come of models that DJL loads; what DJL cannot do with them ends the process. */
    @Test
    void bfloat16() {
        NDArray q = Djl.learnt(Djl.bfloat16(Djl.random(manager, 1, DataType.FLOAT32, 2, 3, 13, 8)));
        NDArray exact = Djl.exact(q);
        NDArray out = attend(q, q, q);
        assertThat(TorchArray.of("out", out).dtype()).isEqualTo(DType.BFLOAT16);
        NDArray expected = Djl.attention(exact, exact, exact, true);
        Djl.assertClose("out", out, expected, 3e-2, 0);
        NDArray towards = Djl.bfloat16(Djl.random(manager, 2, DataType.FLOAT32, 2, 3, 13, 8));
        JniUtils.backward((PtNDArray) out, (PtNDArray) towards, true, false);
        Djl.backward(expected.mul(towards.toType(DataType.FLOAT64, true)).sum());
        Djl.assertClose("gradient", q.getGradient(), exact.getGradient(), 3e-2, 0);
        assertThatThrownBy(() -> Djl.backward(out.sum()))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("must be float64, float32 or float16");
    }

    @Test
    void gradientsTwiceAddUp() {
        NDArray q = input(1, DataType.FLOAT64);
        NDArray k = input(2, DataType.FLOAT64);
        NDArray loss = attend(q, k, k).square().sum();
        JniUtils.backward((PtNDArray) loss, (PtNDArray) loss.onesLike(), true, false);
        NDArray once = q.getGradient().mul(2.0);
        Djl.backward(loss);
        Djl.assertClose("twice", q.getGradient(), once, 1e-12, 0);
        assertThatThrownBy(() -> Djl.backward(loss)).hasMessageContaining("second time");
    }

    @Test
    void withoutGradientsNoGraphIsHeld() {
        NDArray q = input(1, DataType.FLOAT32);
        JniUtils.setGradMode(false);
        assertThat(TorchArray.of("out", attend(q, q, q)).requiresGradient()).isFalse();
        assertThat(AttentionNode.alive()).isZero();
    }

    /** The engine turns gradients off in the thread that loaded it alone. */
    @Test
    void inAThreadOfItsOwnThereIsAGraphUntilItIsTurnedOff() {
        NDArray q = input(1, DataType.FLOAT32);
        JniUtils.setGradMode(false);
        List<Boolean> graphs = CompletableFuture.supplyAsync(
                        () -> {
                            boolean first =
                                    TorchArray.of("out", attend(q, q, q)).requiresGradient();
                            JniUtils.setGradMode(false);
                            return List.of(
                                    first, TorchArray.of("out", attend(q, q, q)).requiresGradient());
                        },
                        task -> new Thread(task).start())
                .join();
        assertThat(graphs).containsExactly(true, false);
        assertThat(TorchArray.of("out", attend(q, q, q)).requiresGradient()).isFalse();
    }

    @Test
    void aGraphThatIsDroppedIsNotHeld() {
        NDArray q = input(1, DataType.FLOAT32);
        try (NDArray out = attend(q, q, q)) {
            assertThat(TorchArray.of("out", out).requiresGradient()).isTrue();
            assertThat(AttentionNode.alive()).isEqualTo(1);
        }
        assertThat(AttentionNode.alive()).isZero();
    }

    @Test
    void inputsMayBeClosedBeforeBackward() {
        NDArray x = input(1, DataType.FLOAT64);
        NDArray exact = Djl.exact(x);
        NDArray y;
        try (NDArray q = Djl.times(x, 2);
                NDArray k = Djl.times(x, 3)) {
            y = attend(q, k, x).sum();
        }
        manager.randomNormal(new Shape(64, 2, 3, 13, 8)); // where closed ones would have lain
        Djl.backward(y);
        Djl.backward(Djl.attention(Djl.times(exact, 2), Djl.times(exact, 3), exact, true)
                .sum());
        Djl.assertClose("gradient", x.getGradient(), exact.getGradient(), 1e-12, 0);
    }

    /** DJL's grad mode is a thread's, its gradients are not: a graph may be differentiated in another thread. */
    @Test
    void backwardInAnotherThread() {
        NDArray q = input(1, DataType.FLOAT64);
        NDArray exact = Djl.exact(q);
        NDArray loss = attend(q, q, q).square().sum();
        CompletableFuture.runAsync(() -> Djl.backward(loss)).join();
        Djl.backward(Djl.attention(exact, exact, exact, true).square().sum());
        Djl.assertClose("gradient", q.getGradient(), exact.getGradient(), 1e-12, 0);
    }

    @Test
    void secondDerivativeIsRefusedByName() {
        NDArray q = input(1, DataType.FLOAT64);
        NDArray loss = attend(q, q, q).sum();
        assertThatThrownBy(() -> JniUtils.backward((PtNDArray) loss, (PtNDArray) loss.onesLike(), true, true))
                .hasMessageContaining("attention has no second derivative: call backward without createGraph");
    }

    @Test
    void inputChangedInPlaceIsRefusedByName() {
        NDArray q = input(1, DataType.FLOAT64);
        NDArray k = input(2, DataType.FLOAT64);
        NDArray loss = attend(q, k, k).sum();
        JniUtils.setGradMode(false);
        k.muli(2.0);
        assertThatThrownBy(() -> Djl.backward(loss)).hasMessageContaining("k has been changed in place");
    }

    @Test
    void resultChangedInPlaceIsRefusedByName() {
        NDArray q = input(1, DataType.FLOAT64);
        NDArray out = attend(q, q, q);
        out.muli(2.0);
        assertThatThrownBy(() -> Djl.backward(out.sum())).hasMessageContaining("the result has been changed in place");
    }

    @Test
    void resultNeedsNoCopyToJoinItsHeads() {
        NDArray q = input(1, DataType.FLOAT32);
        NDArray out = attend(q, q, q);
        NDArray joined = out.swapAxes(1, 2).reshape(2, 13, 24);
        assertThat(Native.address(((PtNDArray) joined).toByteBuffer(true)))
                .isEqualTo(DjlTensors.bhsd("out", out).address());
    }

    private static void assertRefused(NDArray q, NDArray k, NDArray v, String message) {
        assertThatThrownBy(() -> attend(q, k, v))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith(message);
    }

    @Test
    void whatDoesNotFitIsRefusedByName() {
        NDArray q = input(1, DataType.FLOAT32);
        assertRefused(q.swapAxes(2, 3), q, q, "q has elements of a head 8 apart, but they must lie side by side");
        assertRefused(q, q, q.get(0), "v has 3 dimensions, but must have 4");
        assertRefused(q, q.toType(DataType.FLOAT64, true), q, "k holds FLOAT64, but must hold FLOAT32");
        assertRefused(q.toType(DataType.INT32, true), q, q, "q holds no FLOAT64, FLOAT32, BFLOAT16 or FLOAT16");
        assertRefused(q, q, q.get(":, :, :5"), "v's size 2 is 5, but must be 13 as size 2 of k");
        assertRefused(q, q.get(":, :, :, :5"), q, "k's size 3 is 5, but must be 8 as size 3 of q");
        assertRefused(q, q.get(":1"), q, "k's size 0 is 1, but must be 2 as size 0 of q");
        assertRefused(q, q.get(":, :2"), q.get(":, :2"), "queryHeads is 3");
        assertRefused(q.getManager().zeros(new Shape(2, 0, 13, 8)), q, q, "queryHeads is 0");
        assertRefused(null, q, q, "q is null");
        NDArray sparse = q.stopGradient().toSparse(SparseFormat.COO);
        assertRefused(q, sparse, q, "k is COO, but must be dense");
        NDArray closed = q.duplicate();
        closed.close();
        assertRefused(q, closed, q, "k is closed");
        assertThatThrownBy(() -> DjlAttention.scaledDotProductAttention(q, q, q, null))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("mask is null");
    }
}
