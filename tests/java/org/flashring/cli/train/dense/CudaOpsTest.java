package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Arrays;
import org.flashring.DType;
import org.flashring.cli.train.dense.Ops.Form;
import org.flashring.device.Device;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** Each operation on a GPU against the host's, on the same inputs. */
@RequiresGpu
class CudaOpsTest extends OpsComparison {
    @ParameterizedTest(name = "{0}, {1} rows of {2}, {3} elements skipped")
    @CsvSource({
        "BFLOAT16, 5, 2048, 0", "BFLOAT16, 3, 257, 0", "BFLOAT16, 2, 2048, 1", "BFLOAT16, 1, 1, 0",
        "FLOAT32, 5, 300, 0", "FLOAT32, 3, 257, 1", "FLOAT32, 700, 8, 0", "BFLOAT16, 3, 12000, 0"
    })
    void norms(DType of, int rows, int width, int skipped) {
        begin(of);
        Both x = array(type, values(rows * width), skipped);
        Both weight = array(type, values(width), skipped);
        Both out = empty(type, rows * width, skipped);
        Both inverse = empty(DType.FLOAT32, rows, 0);
        check((ops, on) -> ops.rmsNorm(at(x, on), at(weight, on), at(out, on), at(inverse, on), rows, width, 1e-5));
    }

    @ParameterizedTest(name = "{0}, {1} rows of {2}, {3} skipped, {4}")
    @CsvSource({
        "BFLOAT16, 5, 2048, 0, alone", "BFLOAT16, 1100, 264, 0, onto", "BFLOAT16, 3, 257, 1, inplace",
        "FLOAT32, 5, 300, 0, alone", "FLOAT32, 1100, 33, 0, onto", "FLOAT32, 7, 2048, 0, inplace",
        "FLOAT32, 3, 12000, 0, onto", "BFLOAT16, 600, 20000, 0, alone"
    })
    void gradientsOfNorms(DType of, int rows, int width, int skipped, String form) {
        begin(of);
        Both dout = array(type, values(rows * width), skipped);
        Both x = array(type, values(rows * width), skipped);
        Both weight = array(type, values(width), skipped);
        Both stream = array(type, values(rows * width), skipped);
        Both dx = form.equals("onto") ? stream : form.equals("inplace") ? x : empty(type, rows * width, skipped);
        Both inverse = wide(random.doubles(rows, 0.5, 1).toArray());
        Both dweight = wide(values(width));
        Both plus = form.equals("onto") ? stream : null;
        check((ops, on) -> ops.rmsNormGrad(
                at(dout, on),
                at(x, on),
                at(weight, on),
                at(inverse, on),
                at(plus, on),
                at(dx, on),
                at(dweight, on),
                rows,
                width));
    }

    @ParameterizedTest(name = "{0}, {1} heads of {2}, {3} skipped")
    @CsvSource({
        "BFLOAT16, 40, 64, 0",
        "BFLOAT16, 3, 6, 0",
        "BFLOAT16, 5, 64, 1",
        "FLOAT32, 3, 128, 0",
        "FLOAT32, 2, 2, 0"
    })
    void rotaryPositions(DType of, int heads, int headDim, int skipped) {
        begin(of);
        long[] positions = {0, 5, 1_000_003, 77};
        int rows = positions.length;
        int stride = (heads + 2) * headDim;
        Both at = longs(positions);
        Both table = empty(DType.FLOAT32, rows * headDim, 0);
        check((ops, on) -> ops.angles(at(at, on), at(table, on), rows, headDim, 10_000));
        Both qkv = array(type, values(rows * stride), skipped);
        check((ops, on) -> ops.rope(at(qkv, on), at(table, on), rows, heads, stride, headDim, false));
        Both gradient = array(type, values(rows * stride), skipped);
        check((ops, on) -> ops.rope(at(gradient, on), at(table, on), rows, heads, stride, headDim, true));
    }

    @ParameterizedTest(name = "{0}, {1} rows of {2}, {3} skipped")
    @CsvSource({"BFLOAT16, 5, 5464, 0", "BFLOAT16, 3, 33, 0", "BFLOAT16, 3, 64, 1", "FLOAT32, 3, 2100, 0"})
    void gatedUnits(DType of, int rows, int width, int skipped) {
        begin(of);
        double[] in = Arrays.stream(values(rows * 2 * width)).map(v -> v * 10).toArray();
        in[0] = -200; // whose exponential no float32 holds
        Both gateUp = array(type, in, skipped);
        Both out = empty(type, rows * width, skipped);
        Both dout = array(type, values(rows * width), skipped);
        check((ops, on) -> ops.swiglu(at(gateUp, on), at(out, on), rows, width));
        check((ops, on) -> ops.swigluGrad(at(gateUp, on), at(dout, on), rows, width));
    }

    @ParameterizedTest(name = "{0}, width {1}, {2} skipped")
    @CsvSource({"BFLOAT16, 2048, 0", "BFLOAT16, 33, 0", "BFLOAT16, 64, 1", "FLOAT32, 260, 0"})
    void embeddings(DType of, int width, int skipped) {
        begin(of);
        int vocabulary = 7;
        long[] tokens = {3, 0, 3, 6, 3, 0};
        Both ids = longs(tokens);
        Both table = array(type, values(vocabulary * width), skipped);
        Both out = empty(type, tokens.length * width, skipped);
        check((ops, on) -> ops.embed(at(ids, on), at(table, on), at(out, on), tokens.length, width));
        Both order = longs(1, 5, 0, 2, 4, 3);
        Both starts = longs(0, 2, 5, 6);
        Both dout = array(type, values(tokens.length * width), skipped);
        Both dtable = wide(values(vocabulary * width));
        check((ops, on) ->
                ops.embedGrad(at(ids, on), at(order, on), at(starts, on), 3, at(dout, on), at(dtable, on), width));
    }

    @ParameterizedTest(name = "{0}, {1}, {2} x {3} x {4}, {5} skipped")
    @CsvSource({
        "BFLOAT16, NN, 150, 131, 67, 0", "BFLOAT16, NT, 150, 131, 67, 0", "BFLOAT16, TN, 150, 131, 67, 0",
        "BFLOAT16, NN, 256, 512, 2048, 0", "BFLOAT16, NT, 256, 512, 2048, 0", "BFLOAT16, TN, 256, 512, 2048, 0",
        "BFLOAT16, NN, 64, 256, 8192, 0", "BFLOAT16, NT, 64, 256, 8192, 0", "BFLOAT16, TN, 64, 256, 8192, 0",
        "BFLOAT16, NT, 64, 72, 80, 1", "BFLOAT16, TN, 64, 72, 80, 1", "BFLOAT16, NN, 1, 1, 1, 0",
        "FLOAT32, NN, 150, 131, 67, 0", "FLOAT32, NT, 150, 131, 67, 1", "FLOAT32, TN, 256, 512, 1024, 0"
    })
    void products(DType of, Form form, int m, int n, int k, int skipped) {
        begin(of);
        if (of == DType.BFLOAT16) {
            // Terms have a mean size of 1. Tensor cores cut each off at float32's last bit, up or down by its sign.
            accumulated = 0x1p-23 * k * Math.sqrt(k);
        }
        Both a = array(type, values(m * k), skipped);
        Both b = array(type, values(k * n), skipped);
        Both d = empty(type, m * n, skipped);
        check((ops, on) -> ops.product(form, m, n, k, at(a, on), at(b, on), 0, at(d, on), false));
        Both plus = array(type, values(m * n), skipped);
        check((ops, on) -> ops.product(form, m, n, k, at(a, on), at(b, on), at(plus, on), at(d, on), false));
        if (of == DType.BFLOAT16) {
            assertThatThrownBy(() ->
                            device.product(form, m, n, k, a.device(), b.device(), plus.device(), plus.device(), false))
                    .hasMessage("plus is d; it must be another matrix where d is bfloat16");
        } else {
            check((ops, on) -> ops.product(form, m, n, k, at(a, on), at(b, on), at(plus, on), at(plus, on), false));
        }
        Both gradient = wide(values(m * n));
        check((ops, on) -> ops.product(form, m, n, k, at(a, on), at(b, on), at(gradient, on), at(gradient, on), true));
    }

    @ParameterizedTest(name = "{0}, vocabulary {1}, {2} skipped")
    @CsvSource({
        "BFLOAT16, 65536, 0",
        "BFLOAT16, 257, 0",
        "BFLOAT16, 256, 1",
        "BFLOAT16, 1, 0",
        "FLOAT32, 1031, 0",
        "FLOAT32, 4096, 0"
    })
    void losses(DType of, int vocabulary, int skipped) {
        begin(of);
        int rows = 5;
        double[] in = Arrays.stream(values(rows * vocabulary)).map(v -> v * 20).toArray();
        in[vocabulary - 1] = Double.NEGATIVE_INFINITY; // as of a token that may not come
        if (vocabulary == 1) {
            in[0] = 3;
        }
        Both logits = array(type, in, skipped);
        Both labels = longs(0, -100, vocabulary - 1, vocabulary / 2, 0);
        Both losses = empty(DType.FLOAT64, rows, 0);
        check((ops, on) ->
                ops.crossEntropy(at(logits, on), at(labels, on), at(losses, on), rows, vocabulary, 1.0 / 131_072));
    }

    @Test
    void aLossOfWhatIsNotFiniteIsNotFinite() {
        begin(DType.BFLOAT16);
        double[] in = values(3 * 64);
        in[10] = Double.NaN;
        in[64 + 10] = Double.POSITIVE_INFINITY;
        Both logits = array(in);
        Both labels = longs(1, 1, 1);
        Both losses = empty(DType.FLOAT64, 3, 0);
        device.crossEntropy(logits.device(), labels.device(), losses.device(), 3, 64, 1);
        device.download(losses.host(), losses.device(), 3L * Double.BYTES);
        assertThat(HostOps.view().getDouble(losses.host())).isNaN();
        assertThat(HostOps.view().getDouble(losses.host() + 8)).isNaN();
        assertThat(HostOps.view().getDouble(losses.host() + 16)).isFinite();
    }

    @ParameterizedTest
    @EnumSource(names = {"BFLOAT16", "FLOAT32"})
    void sumsRoundingsAndZeros(DType of) {
        begin(of);
        int count = 1_000_003;
        Both values = doubles(values(4099));
        Both total = empty(DType.FLOAT64, 1, 0);
        check((ops, on) -> ops.sum(at(values, on), 4099, at(total, on)));
        Both gradients = wide(values(count));
        Both squares = empty(DType.FLOAT64, 1, 0);
        check((ops, on) -> ops.squareSum(at(gradients, on), count, at(squares, on)));
        check((ops, on) -> ops.squareSum(at(gradients, on), 0, at(squares, on)));
        Both rounded = empty(type, count, 0);
        check((ops, on) -> ops.round(at(gradients, on), at(rounded, on), count));
        check((ops, on) -> ops.clear(at(gradients, on), (count - 1) * 4L));
    }

    @ParameterizedTest(name = "{0}, clip {1}, square sum {2}")
    @CsvSource({
        "BFLOAT16, 1, 400",
        "BFLOAT16, Infinity, 400",
        "FLOAT32, 1, 0.25",
        "FLOAT32, 1, NaN",
        "BFLOAT16, 1, Infinity"
    })
    void stepsOfTheOptimizer(DType of, double clip, double square) {
        begin(of);
        int count = 70_001;
        AdamW settings = AdamW.of(1e-3, clip).withWarmup(2);
        Both gradients = wide(values(count));
        Both master = wide(values(count));
        Both mean = wide(values(count));
        Both meanSquare = wide(random.doubles(count, 0, 1).toArray());
        Both weights = array(values(count));
        Both norm2 = doubles(square);
        for (int update = 1; update <= 2; update++) {
            long number = update;
            check((ops, on) -> ops.adamW(
                    settings,
                    number,
                    at(gradients, on),
                    at(master, on),
                    at(mean, on),
                    at(meanSquare, on),
                    at(weights, on),
                    count,
                    at(norm2, on)));
        }
    }

    @ParameterizedTest(name = "{0} from element {1}, deviation {2}")
    @CsvSource({"BFLOAT16, 0, 0.02", "FLOAT32, 8589934597, 1", "BFLOAT16, 3, 0"})
    void initialValues(DType of, long first, double deviation) {
        begin(of);
        int count = 70_001;
        Both to = empty(DType.FLOAT32, count, 1);
        InitialValues initial = new InitialValues(InitialValues.seed(-5, 3), deviation);
        check((ops, on) -> ops.initial(initial, first, at(to, on), count));
    }

    @Test
    void operationsOverNoRowsDoNothing() {
        begin(DType.BFLOAT16);
        Both x = array(values(8));
        Both gradient = wide(values(8));
        check((ops, on) -> {
            ops.rmsNormGrad(at(x, on), at(x, on), at(x, on), at(x, on), 0, at(x, on), at(gradient, on), 0, 8);
            ops.swiglu(at(x, on), at(x, on), 0, 4);
            ops.round(at(x, on), at(x, on), 0);
            ops.clear(at(x, on), 0);
        });
    }

    @Test
    void typesThatNoKernelServesAreRefused() {
        assertThatThrownBy(() -> new CudaOps(DType.FLOAT64, Device.cuda(0)))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("type is FLOAT64; it must be FLOAT32 or BFLOAT16 on cuda:0");
    }
}
