package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.offset;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.AdamWOptions;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.flashring.DType;
import org.flashring.cli.train.dense.Ops.Form;
import org.flashring.device.HostBuffer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** Each operation against PyTorch, gradients against its autograd, in float64. */
class HostOpsTest {
    private static final double CLOSE = 1e-12;

    private final Ops ops = new HostOps(DType.FLOAT64, 2);
    private final Random random = new Random(8);
    private final PointerScope scope = new PointerScope();
    private final List<HostBuffer> buffers = new ArrayList<>();

    @AfterEach
    void close() {
        buffers.forEach(HostBuffer::close);
        scope.close();
    }

    private double[] values(int count) {
        return random.doubles(count, -2, 2).toArray();
    }

    private long memory(long bytes) {
        HostBuffer buffer = HostBuffer.allocate(bytes);
        buffers.add(buffer);
        return buffer.address();
    }

    private long memory(double... values) {
        long address = memory((long) values.length * Double.BYTES);
        HostOps.view().store(DType.FLOAT64, address, values, 0, values.length);
        return address;
    }

    private long longs(long... values) {
        long address = memory((long) values.length * Long.BYTES);
        HostOps.view().putLongs(address, values, values.length);
        return address;
    }

    private static double[] at(long address, int count) {
        double[] values = new double[count];
        HostOps.view().load(DType.FLOAT64, address, values, 0, count);
        return values;
    }

    private static Tensor leaf(double[] values, long... shape) {
        Tensor tensor = Tensor.create(values, shape);
        tensor.set_requires_grad(true);
        return tensor;
    }

    private static double[] of(Tensor tensor) {
        double[] values = new double[(int) tensor.numel()];
        new DoublePointer(tensor.contiguous().data_ptr_double()).get(values);
        return values;
    }

    private static void assertSame(long address, Tensor expected) {
        assertClose(address, expected, CLOSE);
    }

    private static void assertClose(long address, Tensor expected, double most) {
        double[] values = of(expected);
        double[] actual = at(address, values.length);
        for (int i = 0; i < values.length; i++) {
            if (!(Math.abs(actual[i] - values[i]) <= most)) {
                assertThat(actual[i]).as("element %d", i).isCloseTo(values[i], offset(most));
            }
        }
    }

    private static void backward(Tensor out, double[] dout) {
        out.mul(Tensor.create(dout, shape(out))).sum().backward();
    }

    private static long[] shape(Tensor tensor) {
        long[] shape = new long[(int) tensor.dim()];
        Arrays.setAll(shape, tensor::size);
        return shape;
    }

    @ParameterizedTest(name = "{0} rows of {1}")
    @CsvSource({"5, 300", "70, 257", "1, 1"})
    void rmsNormAndItsGradient(int rows, int width) {
        double[] x = values(rows * width);
        double[] weight = values(width);
        double[] dout = values(rows * width);
        double[] stream = values(rows * width);
        double[] before = values(width);
        Tensor input = leaf(x, rows, width);
        Tensor scale = leaf(weight, width);
        Tensor expected =
                torch.rms_norm(input, new long[] {width}, new TensorOptional(scale), new DoubleOptional(1e-5));
        backward(expected, dout);

        long xs = memory(x);
        long out = memory(new double[rows * width]);
        long inverse = memory(new double[rows]);
        ops.rmsNorm(xs, memory(weight), out, inverse, rows, width, 1e-5);
        assertSame(out, expected);

        long dweight = memory(before);
        long dx = memory(stream);
        ops.rmsNormGrad(memory(dout), xs, memory(weight), inverse, dx, dx, dweight, rows, width);
        assertSame(dx, input.grad().add(Tensor.create(stream, rows, width)));
        assertSame(dweight, scale.grad().add(Tensor.create(before, width)));
        long again = memory(new double[width]);
        ops.rmsNormGrad(memory(dout), xs, memory(weight), inverse, 0, xs, again, rows, width); // in place of x
        assertSame(xs, input.grad());
        assertSame(again, scale.grad());
    }

    @Test
    void swigluAndItsGradient() {
        int rows = 9;
        int width = 2100;
        double[] in = values(rows * 2 * width);
        double[] dout = values(rows * width);
        Tensor input = leaf(in, rows, 2 * width);
        Tensor expected = torch.silu(input.narrow(1, 0, width)).mul(input.narrow(1, width, width));
        backward(expected, dout);

        long gateUp = memory(in);
        long out = memory(new double[rows * width]);
        ops.swiglu(gateUp, out, rows, width);
        assertSame(out, expected);
        ops.swigluGrad(gateUp, memory(dout), rows, width);
        assertSame(gateUp, input.grad());
    }

    @Test
    void embeddingAndItsGradientOverSegments() {
        int width = 33;
        int vocabulary = 7;
        long[] tokens = {3, 0, 3, 6, 3, 0};
        double[] table = values(vocabulary * width);
        double[] dout = values(tokens.length * width);
        double[] before = values(vocabulary * width);
        Tensor weight = leaf(table, vocabulary, width);
        Tensor expected = torch.embedding(weight, Tensor.create(tokens));
        backward(expected, dout);

        long ids = longs(tokens);
        long out = memory(new double[tokens.length * width]);
        ops.embed(ids, memory(table), out, tokens.length, width);
        assertSame(out, expected);
        long dtable = memory(before);
        ops.embedGrad(ids, longs(1, 5, 0, 2, 4, 3), longs(0, 2, 5, 6), 3, memory(dout), dtable, width);
        assertSame(dtable, weight.grad().add(Tensor.create(before, vocabulary, width)));
    }

    @Test
    void ropeTurnsPairsByAnglesInFloat64AndBack() {
        int headDim = 6;
        int heads = 3; // of four
        long[] positions = {0, 5, 1_000_003};
        double[] in = values(positions.length * 4 * headDim);
        double[] dout = values(positions.length * 4 * headDim);
        double[] angles = new double[positions.length * headDim / 2];
        for (int i = 0; i < angles.length; i++) {
            angles[i] = positions[i / 3] / Math.pow(10_000, 2.0 * (i % 3) / headDim);
        }
        Tensor input = leaf(in, positions.length, 4, headDim);
        Tensor angle = Tensor.create(angles, positions.length, 1, headDim / 2);
        Tensor low = input.narrow(1, 0, heads).narrow(2, 0, headDim / 2);
        Tensor high = input.narrow(1, 0, heads).narrow(2, headDim / 2, headDim / 2);
        Tensor turned = torch.cat(
                new TensorVector(
                        low.mul(angle.cos()).sub(high.mul(angle.sin())),
                        high.mul(angle.cos()).add(low.mul(angle.sin()))),
                2);
        Tensor expected = torch.cat(new TensorVector(turned, input.narrow(1, heads, 1)), 1);
        backward(expected, dout);

        long table = memory(new double[positions.length * headDim]);
        ops.angles(longs(positions), table, positions.length, headDim, 10_000);
        long qkv = memory(in);
        ops.rope(qkv, table, positions.length, heads, 4 * headDim, headDim, false);
        assertClose(qkv, expected, 1e-9); // angles of 1e6 are so exact
        long gradient = memory(dout);
        ops.rope(gradient, table, positions.length, heads, 4 * headDim, headDim, true);
        assertClose(gradient, input.grad(), 1e-9);
    }

    @ParameterizedTest
    @EnumSource
    void productsOfAllForms(Form form) {
        int m = 150;
        int n = 131;
        int k = 67;
        double[] a = values(m * k);
        double[] b = values(k * n);
        double[] plus = values(m * n);
        Tensor left = form == Form.TN ? Tensor.create(a, k, m).t() : Tensor.create(a, m, k);
        Tensor right = form == Form.NT ? Tensor.create(b, n, k).t() : Tensor.create(b, k, n);
        long d = memory(plus);
        ops.product(form, m, n, k, memory(a), memory(b), d, d, true);
        assertSame(d, left.matmul(right).add(Tensor.create(plus, m, n)));
        ops.product(form, m, n, k, memory(a), memory(b), 0, d, false);
        assertSame(d, left.matmul(right));
        double[] whole = at(d, m * n);
        if (form != Form.TN) { // a row alone has the bits that it has among others
            long row = memory(new double[n]);
            ops.product(form, 1, n, k, memory(Arrays.copyOfRange(a, 140 * k, 141 * k)), memory(b), 0, row, false);
            assertThat(at(row, n)).isEqualTo(Arrays.copyOfRange(whole, 140 * n, 141 * n));
        }
    }

    @Test
    void crossEntropyAndItsGradient() {
        int vocabulary = 41;
        long[] labels = {40, -100, 0, 7};
        double[] in = values(labels.length * vocabulary);
        in[2 * vocabulary] = 900; // exp of it is none
        Tensor logits = leaf(in, labels.length, vocabulary);
        Tensor loss = torch.cross_entropy_loss(logits, Tensor.create(labels), new TensorOptional(), 2, -100, 0);
        loss.mul(new Scalar(0.25)).backward();

        long gradient = memory(in);
        long losses = memory(new double[labels.length]);
        long sum = memory(0.0);
        ops.crossEntropy(gradient, longs(labels), losses, labels.length, vocabulary, 0.25);
        ops.sum(losses, labels.length, sum);
        assertSame(gradient, logits.grad());
        assertSame(sum, loss);
        assertThat(at(losses, labels.length)[1]).isZero();
    }

    @Test
    void adamWWithDecayIsPyTorchs() {
        int count = 20_000; // more than a thread takes at a time
        double[] start = values(count);
        Tensor parameter = leaf(start, count);
        org.bytedeco.pytorch.AdamW expected =
                new org.bytedeco.pytorch.AdamW(new TensorVector(parameter), new AdamWOptions(1e-2));
        AdamW settings = AdamW.of(1e-2, 3);
        long master = memory(start);
        long mean = memory(new double[count]);
        long square = memory(new double[count]);
        long weights = memory(new double[count]);
        long norm2 = memory(0.0);
        for (int update = 1; update <= 3; update++) {
            double[] gradient = values(count);
            long gradients = memory(gradient);
            ops.squareSum(gradients, count, norm2);
            double norm = Math.sqrt(Arrays.stream(gradient).map(g -> g * g).sum());
            assertThat(at(norm2, 1)[0]).isCloseTo(norm * norm, offset(1e-7));
            parameter.mutable_grad().put(Tensor.create(gradient, count).mul(new Scalar(3 / (norm + 1e-6))));
            expected.step();
            ops.adamW(settings, update, gradients, master, mean, square, weights, count, norm2);
            assertSame(master, parameter);
            assertSame(weights, parameter);
            ops.adamW(settings, update, gradients, master, mean, square, weights, count, memory(Double.NaN));
            assertSame(master, parameter);
        }
    }

    /** In float32 what is stored is the float64 result, rounded once. */
    @Test
    void float32IsRoundedOnce() {
        HostOps narrow = new HostOps(DType.FLOAT32, 1);
        int count = 300;
        float[] x = new float[count];
        for (int i = 0; i < count; i++) {
            x[i] = random.nextFloat() - 0.5f;
        }
        double[] wide = new double[count];
        Arrays.setAll(wide, i -> x[i]);
        long from = memory(count * 4L);
        HostOps.view().store(DType.FLOAT32, from, wide, 0, count);
        long to = memory(4L);
        narrow.product(Form.NN, 1, 1, count, from, from, 0, to, false);
        double[] result = new double[1];
        HostOps.view().load(DType.FLOAT32, to, result, 0, 1);
        assertThat((float) result[0])
                .isEqualTo((float) Arrays.stream(wide).map(v -> v * v).sum());
        long rounded = memory(count * 4L);
        narrow.clear(rounded, count * 4L);
        narrow.round(from, rounded, count);
        double[] back = new double[count];
        HostOps.view().load(DType.FLOAT32, rounded, back, 0, count);
        assertThat(back).isEqualTo(wide);
    }
}
