package org.flashring.nd4j;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.flashring.Mask;
import org.flashring.Score;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.nd4j.autodiff.samediff.SDVariable;
import org.nd4j.autodiff.samediff.SameDiff;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/** Attention of ND4J's arrays against ND4J's own, in float64. */
class Nd4jAttentionTest {
    private static final List<DataType> TYPES = List.of(
            DataType.FLOAT, DataType.DOUBLE, DataType.FLOAT, DataType.DOUBLE, DataType.BFLOAT16, DataType.FLOAT16);
    private static final double UNTOUCHED = 77;

    private static <T> T any(Random random, List<T> values) {
        return values.get(random.nextInt(values.size()));
    }

    /** 160 cases: every input, output and gradient in a form of its own, of any type, empty ones among them. */
    @Test
    void formsAndTypesEqualComposedOperations() {
        Random random = new Random(11);
        for (int i = 0; i < 160; i++) {
            compare(i, random);
        }
    }

    private static void compare(int number, Random random) {
        DataType type = any(random, TYPES);
        long batch = number % 23 == 5 ? 0 : 1 + random.nextInt(3);
        long kvHeads = 1L + random.nextInt(3);
        long heads = kvHeads * (1 + random.nextInt(2));
        long queries = number % 29 == 3 ? 0 : 1 + random.nextInt(17);
        boolean causal = random.nextBoolean();
        long keys = number % 31 == 7 ? 0 : random.nextBoolean() && queries > 0 ? queries : 1 + random.nextInt(17);
        long dim = 1L + random.nextInt(20);
        long valueDim = random.nextInt(4) == 0 ? 1 + random.nextInt(20) : dim;
        long[][] sizes = {{batch, heads, queries, dim}, {batch, kvHeads, keys, dim}, {batch, kvHeads, keys, valueDim}};
        long[] outSize = {batch, heads, queries, valueDim};
        StringBuilder name = new StringBuilder("case " + number + ": " + type + (causal ? " causal" : ""));
        INDArray[] views = new INDArray[4];
        for (int i = 0; i < views.length; i++) {
            long[] s = i < 3 ? sizes[i] : outSize;
            Form form = any(random, List.of(Form.values()));
            name.append(' ').append(form).append(Arrays.toString(s));
            long seed = 100L * number + i;
            INDArray base = form.base(type, s[0], s[1], s[2], s[3], shape -> Composed.random(seed, type, shape));
            views[i] = form.view(base, s[0], s[1], s[2], s[3]);
            if (!views[i].isEmpty()) {
                assertThat(Nd4jTensors.bhsd("view", views[i]).address())
                        .as("%s: the memory itself", name)
                        .isEqualTo(base.data().pointer().address() + views[i].offset() * type.width());
            }
        }
        Composed.Result expected = Composed.attention(
                Composed.exact(views[0]),
                Composed.exact(views[1]),
                Composed.exact(views[2]),
                Composed.exact(views[3]),
                causal);
        Written out = Written.any(random, type, outSize);
        Written dq = Written.any(random, type, sizes[0]);
        Written dk = Written.any(random, type, sizes[1]);
        Written dv = Written.any(random, type, sizes[2]);
        AttentionPass pass = Nd4jAttention.forward(
                views[0], views[1], views[2], causal ? Mask.causal() : Mask.full(), Score.standard(), out.view());
        pass.backward(views[3], new AttentionGradients(dq.view(), dk.view(), dv.view()));
        double tolerance = Composed.tolerance(type);
        out.assertHolds(name + " out", expected.out(), tolerance);
        dq.assertHolds(name + " dq", expected.dq(), tolerance);
        dk.assertHolds(name + " dk", expected.dk(), tolerance);
        dv.assertHolds(name + " dv", expected.dv(), tolerance);
    }

    /** A view to write into, and all that it is a part of. */
    private record Written(INDArray base, INDArray view) {
        static Written any(Random random, DataType type, long[] s) {
            Form form = Nd4jAttentionTest.any(
                    random,
                    Arrays.stream(Form.values()).filter(Form::isInjective).toList());
            INDArray base = form.base(type, s[0], s[1], s[2], s[3], shape -> Nd4j.valueArrayOf(shape, UNTOUCHED, type));
            return new Written(base, form.view(base, s[0], s[1], s[2], s[3]));
        }

        void assertHolds(String name, INDArray expected, double tolerance) {
            Composed.assertClose(name, view, expected, tolerance, 1); // gradients that cancel have a natural size
            if (!base.isEmpty()) {
                assertThat(base.eq(UNTOUCHED).castTo(DataType.INT64).sumNumber().longValue())
                        .as("%s: elements beside the view that keep their values", name)
                        .isEqualTo(base.length() - view.length());
            }
        }
    }

    private static INDArray input(int seed, DataType type) {
        return Composed.random(seed, type, 2, 3, 13, 8);
    }

    @ParameterizedTest
    @EnumSource(
            value = DataType.class,
            names = {"FLOAT", "DOUBLE"})
    void resultsAreNewArraysInTheOrderOfTokens(DataType type) {
        INDArray q = input(1, type);
        INDArray out = Nd4jAttention.scaledDotProductAttention(q, q, q, Mask.causal());
        AttentionGradients gradients =
                Nd4jAttention.forward(q, q, q, Mask.causal()).backward(q);
        for (INDArray array : List.of(out, gradients.dq(), gradients.dk(), gradients.dv())) {
            INDArray joined = array.permute(0, 2, 1, 3).reshape(2, 13, 24);
            assertThat(joined.data().pointer().address())
                    .isEqualTo(array.data().pointer().address());
            assertThat(array.dataType()).isEqualTo(type);
        }
    }

    /** ND4J's own attention takes [batch, heads, dim, length], and so do views of memory that both can read. */
    @ParameterizedTest
    @EnumSource(
            value = DataType.class,
            names = {"FLOAT", "DOUBLE"})
    void equalsNd4jsOwnAttention(DataType type) {
        INDArray[] inputs = new INDArray[3];
        for (int i = 0; i < inputs.length; i++) {
            inputs[i] = Nd4jTensors.createBhds(type, 2, 3, 8, 13);
            inputs[i].assign(Composed.random(i, type, 2, 3, 8, 13));
        }
        INDArray weights = Composed.random(9, DataType.DOUBLE, 2, 3, 8, 13);
        SameDiff graph = SameDiff.create();
        SDVariable q = graph.var("q", inputs[0].castTo(DataType.DOUBLE));
        SDVariable k = graph.var("k", inputs[1].castTo(DataType.DOUBLE));
        SDVariable v = graph.var("v", inputs[2].castTo(DataType.DOUBLE));
        SDVariable seen = graph.constant(Nd4j.ones(DataType.DOUBLE, 2, 13));
        SDVariable own = graph.nn.dotProductAttention("out", q, k, v, seen, true);
        own.mul(graph.constant(weights)).sum("loss").markAsLoss();
        Map<String, INDArray> gradients = graph.calculateGradients(null, "q", "k", "v");

        INDArray[] rows =
                Arrays.stream(inputs).map(input -> input.permute(0, 1, 3, 2)).toArray(INDArray[]::new);
        AttentionPass pass = Nd4jAttention.forward(rows[0], rows[1], rows[2], Mask.full());
        AttentionGradients ours =
                pass.backward(weights.castTo(type).permute(0, 1, 3, 2).dup('c'));
        double tolerance = Composed.tolerance(type);
        INDArray expected = graph.outputSingle(null, "out").permute(0, 1, 3, 2);
        Composed.assertClose("out", pass.out(), expected, tolerance, 0);
        Composed.assertClose("dq", ours.dq(), gradients.get("q").permute(0, 1, 3, 2), tolerance, 1);
        Composed.assertClose("dk", ours.dk(), gradients.get("k").permute(0, 1, 3, 2), tolerance, 1);
        Composed.assertClose("dv", ours.dv(), gradients.get("v").permute(0, 1, 3, 2), tolerance, 1);
    }

    /** SameDiff has no operation that Java defines: gradients enter its graph as placeholders of a sum. */
    @Test
    void gradientsGoOnThroughSameDiff() {
        INDArray x = Composed.random(1, DataType.DOUBLE, 14, 6);
        INDArray weight = Composed.random(2, DataType.DOUBLE, 6, 6);
        INDArray whole = Composed.random(3, DataType.DOUBLE, 2, 2, 7, 3);
        SameDiff graph = SameDiff.create();
        SDVariable projected = graph.mmul("projected", graph.constant(x), graph.var("w", weight));
        SDVariable gradient = graph.placeHolder("gradient", DataType.DOUBLE, 14, 6);
        projected.mul(gradient).sum("surrogate").markAsLoss();

        INDArray q = graph.outputSingle(null, "projected").reshape(2, 7, 2, 3).permute(0, 2, 1, 3);
        AttentionGradients ours = Nd4jAttention.forward(q, q, q, Mask.causal()).backward(whole);
        INDArray dq = ours.dq().add(ours.dk()).add(ours.dv());
        INDArray dw = graph.calculateGradients(
                        Map.of("gradient", dq.permute(0, 2, 1, 3).dup('c').reshape(14, 6)), "w")
                .get("w");

        Composed.Result expected =
                Composed.attention(Composed.exact(q), Composed.exact(q), Composed.exact(q), whole, true);
        INDArray sum = expected.dq().add(expected.dk()).add(expected.dv());
        INDArray expectedWeight =
                Nd4j.matmul(x, sum.permute(0, 2, 1, 3).dup('c').reshape(14, 6), true, false, false);
        assertThat(dw.sub(expectedWeight).amaxNumber().doubleValue()).isLessThan(1e-12);
    }

    @Test
    void scaleOfTheCaller() {
        INDArray q = input(1, DataType.DOUBLE);
        INDArray k = input(2, DataType.DOUBLE);
        INDArray out = Nd4jAttention.scaledDotProductAttention(
                q, k, k, Mask.full(), Score.scaledBy(1 / Math.sqrt(8) / 3), null);
        Composed.assertClose(
                "out", out, Composed.attention(q.div(3), k, k, q, false).out(), 1e-12, 0);
    }

    @Test
    void backwardMayRunAgain() {
        INDArray q = input(1, DataType.FLOAT);
        AttentionPass pass = Nd4jAttention.forward(q, q, q, Mask.causal());
        assertThat(pass.backward(q).dk()).isEqualTo(pass.backward(q).dk());
    }

    private static void assertRefused(INDArray q, INDArray k, INDArray v, String message) {
        assertThatThrownBy(() -> Nd4jAttention.forward(q, k, v, Mask.causal()))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith(message);
    }

    @Test
    void whatDoesNotFitIsRefusedByName() {
        INDArray q = input(1, DataType.FLOAT);
        assertRefused(q.permute(0, 1, 3, 2), q, q, "k.size(3) is 8, but must be q.size(3) = 13");
        assertRefused(q, q, q.slice(0), "v.rank() is 3, but must be 4");
        assertRefused(q, q.castTo(DataType.DOUBLE), q, "k holds FLOAT64, but must hold FLOAT32");
        assertRefused(q.castTo(DataType.INT32), q, q, "q.dataType() is INT");
        assertRefused(q, q, Composed.random(1, DataType.FLOAT, 2, 3, 5, 8), "v.size(2) is 5, but must be k.size(2)");
        assertRefused(q, Composed.random(1, DataType.FLOAT, 1, 3, 13, 8), q, "k.size(0) is 1, but must be q.size(0)");
        INDArray twoHeads = Composed.random(1, DataType.FLOAT, 2, 2, 13, 8);
        assertRefused(q, twoHeads, twoHeads, "queryHeads is 3");
        assertRefused(null, q, q, "q is null");
        INDArray closed = input(1, DataType.FLOAT);
        closed.close();
        assertRefused(q, closed, q, "k is closed");
        assertThatThrownBy(() -> Nd4jAttention.forward(q, q, q, null)).hasMessage("mask is null");
        assertThatThrownBy(() -> Nd4jAttention.scaledDotProductAttention(q, q, q, Mask.full(), null, null))
                .hasMessage("score is null");
    }

    /** What ND4J's 'c' order of [batch, heads, dim, length] is: no silent copy of it is made. */
    @Test
    void headsWhoseElementsLieApartAreRefused() {
        INDArray own = Composed.random(1, DataType.FLOAT, 2, 3, 8, 13);
        INDArray rows = own.permute(0, 1, 3, 2);
        assertRefused(rows, rows, rows, "q.stride(3) is 13, but must be 1: the elements of a head lie side by side");
        INDArray q = rows.dup('c');
        AttentionPass pass = Nd4jAttention.forward(q, q, q, Mask.causal());
        assertThatThrownBy(() -> pass.backward(rows)).hasMessageStartingWith("dout.stride(3) is 13");
        assertThatThrownBy(() -> Nd4jAttention.forward(q, q, q, Mask.causal(), Score.standard(), rows))
                .hasMessageStartingWith("out.stride(3) is 13");
        AttentionGradients apart = new AttentionGradients(q.dup('c'), rows, q.dup('c'));
        assertThatThrownBy(() -> pass.backward(q, apart)).hasMessageStartingWith("dk.stride(3) is 13");
    }

    @Test
    void outputsThatCannotBeWrittenRightAreRefused() {
        INDArray q = input(1, DataType.FLOAT);
        INDArray base = Composed.random(2, DataType.FLOAT, 2, 1, 13, 8);
        INDArray expanded = Form.ONE_HEAD_FOR_ALL.view(base, 2, 3, 13, 8);
        assertThatThrownBy(
                        () -> Nd4jAttention.scaledDotProductAttention(q, q, q, Mask.full(), Score.standard(), expanded))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("give every element a place of its own");
        assertThatThrownBy(() -> Nd4jAttention.scaledDotProductAttention(q, q, q, Mask.full(), Score.standard(), q))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("not share memory with q");
        assertThatThrownBy(() -> Nd4jAttention.scaledDotProductAttention(q, q, q, Mask.full(), Score.standard(), base))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("out.shape() is [2, 1, 13, 8], but must be [2, 3, 13, 8]");
        AttentionPass pass = Nd4jAttention.forward(q, q, q, Mask.full());
        assertThatThrownBy(() -> pass.backward(base)).hasMessageStartingWith("dout.shape() is [2, 1, 13, 8]");
        assertThatThrownBy(() -> pass.backward(q, null)).hasMessage("gradients is null");
    }
}
