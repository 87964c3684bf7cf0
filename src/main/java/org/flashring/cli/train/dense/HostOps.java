package org.flashring.cli.train.dense;

import java.util.Arrays;
import java.util.stream.LongStream;
import org.flashring.DType;

/**
 * The operations in plain Java. All arithmetic is float64 whatever the type, and what is stored is rounded once, so
 * that it can also judge a device's. Results do not depend on the number of threads.
 */
final class HostOps implements Ops {
    private static final ThreadLocal<HostView> VIEWS = ThreadLocal.withInitial(HostView::new);
    private static final int CHUNK = 1 << 14; // elements that one thread takes at a time
    private static final int COLUMNS = 256;

    private interface Part {
        void run(HostView view, long first, int count);
    }

    private final DType type;
    private final boolean parallel;
    private final PhaseClock clock = PhaseClock.ofHost();

    /**
     * Makes those of float32, float64 or bfloat16.
     *
     * @param threads 1 for the caller's alone; else those of the JVM's common pool help
     */
    HostOps(DType type, int threads) {
        if (type == DType.FLOAT16) {
            throw new IllegalArgumentException(
                    "type is " + type + "; it must be FLOAT32, FLOAT64 or BFLOAT16 on the host");
        }
        this.type = type;
        this.parallel = threads > 1;
    }

    @Override
    public PhaseClock clock() {
        return clock;
    }

    /** Returns this thread's view of host memory. */
    static HostView view() {
        return VIEWS.get();
    }

    @Override
    public DType type() {
        return type;
    }

    private void parts(long count, long grain, Part part) {
        each((count + grain - 1) / grain, (view, number) -> {
            long first = number * grain;
            part.run(view, first, (int) Math.min(grain, count - first));
        });
    }

    private interface Numbered {
        void run(HostView view, long number);
    }

    private void each(long count, Numbered body) {
        LongStream numbers = LongStream.range(0, count);
        (parallel && count > 1 ? numbers.parallel() : numbers).forEach(number -> body.run(VIEWS.get(), number));
    }

    private static long rowsOf(long width) {
        return Math.max(1, CHUNK / width);
    }

    private long at(long base, long element) {
        return base + element * type.bytes();
    }

    private long wideAt(long base, long element) {
        return base + element * wide().bytes();
    }

    @Override
    public void upload(long to, long from, long bytes) {
        parts(bytes, CHUNK * 8L, (view, first, count) -> view.copy(to + first, from + first, count));
    }

    @Override
    public void download(long to, long from, long bytes) {
        upload(to, from, bytes);
    }

    @Override
    public void clear(long at, long bytes) {
        long words = bytes / Float.BYTES;
        parts(words, CHUNK, (view, first, count) -> {
            double[] zeros = view.array(0, CHUNK);
            Arrays.fill(zeros, 0, count, 0);
            view.store(DType.FLOAT32, at + first * Float.BYTES, zeros, 0, count);
        });
    }

    @Override
    public void initial(InitialValues values, long first, long to, long count) {
        parts(count, CHUNK, (view, done, some) -> {
            double[] now = view.array(0, CHUNK);
            values.fill(first + done, now, some);
            view.store(wide(), wideAt(to, done), now, 0, some);
        });
    }

    @Override
    public void round(long from, long to, long count) {
        parts(count, CHUNK, (view, first, some) -> {
            double[] values = view.array(0, CHUNK);
            view.load(wide(), wideAt(from, first), values, 0, some);
            view.store(type, at(to, first), values, 0, some);
        });
    }

    @Override
    public void embed(long tokens, long table, long out, long rows, long width) {
        parts(rows, rowsOf(width), (view, first, count) -> {
            for (long row = first; row < first + count; row++) {
                long token = view.getLong(tokens + row * Long.BYTES);
                view.copy(at(out, row * width), at(table, token * width), (int) width * type.bytes());
            }
        });
    }

    @Override
    public void embedGrad(long tokens, long order, long starts, long segments, long dout, long dtable, long width) {
        each(segments, (view, segment) -> {
            long start = view.getLong(starts + segment * Long.BYTES);
            long end = view.getLong(starts + (segment + 1) * Long.BYTES);
            long token = view.getLong(tokens + view.getLong(order + start * Long.BYTES) * Long.BYTES);
            double[] sum = view.array(0, width);
            double[] value = view.array(1, width);
            view.load(wide(), wideAt(dtable, token * width), sum, 0, (int) width);
            for (long i = start; i < end; i++) {
                long row = view.getLong(order + i * Long.BYTES);
                view.load(type, at(dout, row * width), value, 0, (int) width);
                for (int j = 0; j < width; j++) {
                    sum[j] += value[j];
                }
            }
            view.store(wide(), wideAt(dtable, token * width), sum, 0, (int) width);
        });
    }

    @Override
    public void rmsNorm(long x, long weight, long out, long inverse, long rows, long width, double epsilon) {
        int w = (int) width;
        parts(rows, rowsOf(width), (view, first, count) -> {
            double[] values = view.array(0, (long) count * w);
            double[] weights = view.array(1, w);
            double[] inverses = view.array(2, count);
            view.load(type, at(x, first * width), values, 0, count * w);
            view.load(type, weight, weights, 0, w);
            for (int i = 0; i < count; i++) {
                double squares = 0;
                for (int j = 0; j < w; j++) {
                    squares += values[i * w + j] * values[i * w + j];
                }
                inverses[i] = 1 / Math.sqrt(squares / w + epsilon);
                for (int j = 0; j < w; j++) {
                    values[i * w + j] *= inverses[i] * weights[j];
                }
            }
            view.store(type, at(out, first * width), values, 0, count * w);
            view.store(wide(), wideAt(inverse, first), inverses, 0, count);
        });
    }

    @Override
    public void rmsNormGrad(
            long dout, long x, long weight, long inverse, long plus, long dx, long dweight, long rows, long width) {
        parts(width, COLUMNS, (view, column, count) -> { // before dx, which may be x
            double[] sum = view.array(0, COLUMNS);
            double[] gradient = view.array(1, COLUMNS);
            double[] value = view.array(2, COLUMNS);
            double[] norm = view.array(3, 1);
            view.load(wide(), wideAt(dweight, column), sum, 0, count);
            for (long row = 0; row < rows; row++) {
                view.load(type, at(dout, row * width + column), gradient, 0, count);
                view.load(type, at(x, row * width + column), value, 0, count);
                view.load(wide(), wideAt(inverse, row), norm, 0, 1);
                for (int j = 0; j < count; j++) {
                    sum[j] += gradient[j] * value[j] * norm[0];
                }
            }
            view.store(wide(), wideAt(dweight, column), sum, 0, count);
        });
        int w = (int) width;
        parts(rows, rowsOf(width), (view, first, count) -> {
            double[] gradients = view.array(0, (long) count * w);
            double[] values = view.array(1, (long) count * w);
            double[] weights = view.array(2, w);
            double[] inverses = view.array(3, count);
            double[] sums = view.array(4, (long) count * w);
            view.load(type, at(dout, first * width), gradients, 0, count * w);
            view.load(type, at(x, first * width), values, 0, count * w);
            view.load(type, weight, weights, 0, w);
            view.load(wide(), wideAt(inverse, first), inverses, 0, count);
            if (plus == 0) {
                Arrays.fill(sums, 0, count * w, 0);
            } else {
                view.load(type, at(plus, first * width), sums, 0, count * w);
            }
            for (int i = 0; i < count; i++) {
                double dot = 0;
                for (int j = 0; j < w; j++) {
                    dot += gradients[i * w + j] * weights[j] * values[i * w + j];
                }
                double r = inverses[i];
                double along = dot * r * r * r / w;
                for (int j = 0; j < w; j++) {
                    sums[i * w + j] += gradients[i * w + j] * weights[j] * r - values[i * w + j] * along;
                }
            }
            view.store(type, at(dx, first * width), sums, 0, count * w);
        });
    }

    @Override
    public void angles(long positions, long table, long rows, long headDim, double base) {
        int half = (int) headDim / 2;
        parts(rows, rowsOf(headDim), (view, first, count) -> {
            double[] row = view.array(0, headDim);
            for (long token = first; token < first + count; token++) {
                long position = view.getLong(positions + token * Long.BYTES);
                for (int pair = 0; pair < half; pair++) {
                    double angle = position * Math.pow(base, -(double) pair / half);
                    row[pair] = Math.cos(angle);
                    row[half + pair] = Math.sin(angle);
                }
                view.store(wide(), wideAt(table, token * headDim), row, 0, (int) headDim);
            }
        });
    }

    @Override
    public void rope(long qkv, long table, long rows, long heads, long stride, long headDim, boolean back) {
        int half = (int) headDim / 2;
        int turned = (int) (heads * headDim);
        parts(rows, rowsOf(turned), (view, first, count) -> {
            double[] row = view.array(0, turned);
            double[] angles = view.array(1, headDim);
            for (long token = first; token < first + count; token++) {
                view.load(type, at(qkv, token * stride), row, 0, turned);
                view.load(wide(), wideAt(table, token * headDim), angles, 0, (int) headDim);
                for (int head = 0; head < turned; head += (int) headDim) {
                    for (int pair = head; pair < head + half; pair++) {
                        double cos = angles[pair - head];
                        double sin = back ? -angles[half + pair - head] : angles[half + pair - head];
                        double low = row[pair];
                        double high = row[pair + half];
                        row[pair] = low * cos - high * sin;
                        row[pair + half] = high * cos + low * sin;
                    }
                }
                view.store(type, at(qkv, token * stride), row, 0, turned);
            }
        });
    }

    @Override
    public void swiglu(long gateUp, long out, long rows, long width) {
        int w = (int) width;
        parts(rows, rowsOf(width), (view, first, count) -> {
            double[] in = view.array(0, 2L * w);
            for (long row = first; row < first + count; row++) {
                view.load(type, at(gateUp, row * 2 * width), in, 0, 2 * w);
                for (int j = 0; j < w; j++) {
                    in[j] = in[j] / (1 + Math.exp(-in[j])) * in[w + j];
                }
                view.store(type, at(out, row * width), in, 0, w);
            }
        });
    }

    @Override
    public void swigluGrad(long gateUp, long dout, long rows, long width) {
        int w = (int) width;
        parts(rows, rowsOf(width), (view, first, count) -> {
            double[] in = view.array(0, 2L * w);
            double[] gradient = view.array(1, w);
            for (long row = first; row < first + count; row++) {
                view.load(type, at(gateUp, row * 2 * width), in, 0, 2 * w);
                view.load(type, at(dout, row * width), gradient, 0, w);
                for (int j = 0; j < w; j++) {
                    double gate = in[j];
                    double sigmoid = 1 / (1 + Math.exp(-gate));
                    in[j] = gradient[j] * in[w + j] * sigmoid * (1 + gate * (1 - sigmoid));
                    in[w + j] = gradient[j] * gate * sigmoid;
                }
                view.store(type, at(gateUp, row * 2 * width), in, 0, 2 * w);
            }
        });
    }

    @Override
    public void product(Form form, long m, long n, long k, long a, long b, long plus, long d, boolean wideResult) {
        HostProduct product = new HostProduct(form, m, n, k, a, b, plus, d, type, wideResult ? wide() : type);
        each(product.blocks(), product::compute);
    }

    @Override
    public void crossEntropy(long logits, long labels, long losses, long rows, long vocabulary, double scale) {
        int v = (int) vocabulary;
        parts(rows, rowsOf(vocabulary), (view, first, count) -> {
            double[] row = view.array(0, v);
            for (long token = first; token < first + count; token++) {
                long label = view.getLong(labels + token * Long.BYTES);
                view.load(type, at(logits, token * vocabulary), row, 0, v);
                view.putDouble(losses + token * Double.BYTES, crossEntropy(row, v, label, scale));
                view.store(type, at(logits, token * vocabulary), row, 0, v);
            }
        });
    }

    /** Returns the loss of a row of logits, which its gradient replaces. */
    private static double crossEntropy(double[] row, int count, long label, double scale) {
        if (label < 0) {
            Arrays.fill(row, 0, count, 0);
            return 0;
        }
        double most = row[0];
        for (int j = 1; j < count; j++) {
            most = Math.max(most, row[j]);
        }
        double loss = most - row[(int) label];
        double sum = 0;
        for (int j = 0; j < count; j++) {
            row[j] = Math.exp(row[j] - most);
            sum += row[j];
        }
        for (int j = 0; j < count; j++) {
            row[j] *= scale / sum;
        }
        row[(int) label] -= scale;
        return loss + Math.log(sum);
    }

    @Override
    public void sum(long values, long count, long result) {
        HostView view = view();
        double sum = 0;
        for (long i = 0; i < count; i++) {
            sum += view.getDouble(values + i * Double.BYTES);
        }
        view.putDouble(result, sum);
    }

    @Override
    public void squareSum(long values, long count, long result) {
        double[] some = view().array(0, CHUNK);
        double sum = 0;
        for (long first = 0; first < count; first += CHUNK) {
            int now = (int) Math.min(CHUNK, count - first);
            view().load(wide(), wideAt(values, first), some, 0, now);
            for (int i = 0; i < now; i++) {
                sum += some[i] * some[i];
            }
        }
        view().putDouble(result, sum);
    }

    @Override
    public void adamW(
            AdamW settings,
            long update,
            long gradients,
            long master,
            long m,
            long v,
            long weights,
            long count,
            long norm2) {
        double square = view().getDouble(norm2);
        if (!Double.isFinite(square)) {
            return;
        }
        double factor = settings.factor(square);
        parts(count, CHUNK, (view, first, some) -> {
            double[] gradient = view.array(0, CHUNK);
            double[] value = view.array(1, CHUNK);
            double[] mean = view.array(2, CHUNK);
            double[] meanSquare = view.array(3, CHUNK);
            view.load(wide(), wideAt(gradients, first), gradient, 0, some);
            view.load(wide(), wideAt(master, first), value, 0, some);
            view.load(wide(), wideAt(m, first), mean, 0, some);
            view.load(wide(), wideAt(v, first), meanSquare, 0, some);
            settings.update(update, factor, gradient, value, mean, meanSquare, some);
            view.store(wide(), wideAt(m, first), mean, 0, some);
            view.store(wide(), wideAt(v, first), meanSquare, 0, some);
            view.store(wide(), wideAt(master, first), value, 0, some);
            view.store(type, at(weights, first), value, 0, some);
        });
    }
}
