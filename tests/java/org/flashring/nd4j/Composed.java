package org.flashring.nd4j;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Arrays;
import java.util.Random;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.NDArrayIndex;

/**
 * Attention composed of ND4J's own operations in float64, its gradients by the chain rule, and what compares with it.
 */
final class Composed {
    private Composed() {}

    /** Output, and gradients of the sum of output times {@code weights}. */
    record Result(INDArray out, INDArray dq, INDArray dk, INDArray dv) {}

    /** Returns values of (-1, 1) that {@code type} can hold, the same for one seed whatever the type. */
    static INDArray random(long seed, DataType type, long... shape) {
        int elements = (int) Arrays.stream(shape).reduce(1, (a, b) -> a * b);
        if (elements == 0) {
            return Nd4j.create(type, shape);
        }
        double[] values = new Random(seed).doubles(elements, -1, 1).toArray();
        return Nd4j.createFromArray(values).reshape(shape).castTo(type);
    }

    /** Returns the values of any view, dense and in float64. */
    static INDArray exact(INDArray view) {
        if (view.isEmpty()) {
            return Nd4j.create(DataType.DOUBLE, view.shape());
        }
        double[] values = new double[(int) view.length()];
        long[] size = view.shape();
        int i = 0;
        for (long b = 0; b < size[0]; b++) {
            for (long h = 0; h < size[1]; h++) {
                for (long s = 0; s < size[2]; s++) {
                    for (long d = 0; d < size[3]; d++) {
                        values[i++] = view.getDouble(b, h, s, d);
                    }
                }
            }
        }
        return Nd4j.createFromArray(values).reshape(size);
    }

    /** Returns the attention of dense float64 [batch, heads, length, dim] arrays. */
    static Result attention(INDArray q, INDArray k, INDArray v, INDArray weights, boolean causal) {
        if (q.isEmpty() || k.isEmpty()) {
            return new Result(
                    Nd4j.create(DataType.DOUBLE, q.size(0), q.size(1), q.size(2), v.size(3)),
                    Nd4j.create(DataType.DOUBLE, q.shape()),
                    Nd4j.create(DataType.DOUBLE, k.shape()),
                    Nd4j.create(DataType.DOUBLE, v.shape()));
        }
        long groups = q.size(1) / k.size(1);
        double scale = 1 / Math.sqrt(q.size(3));
        INDArray keys = repeated(k, groups);
        INDArray values = repeated(v, groups);
        INDArray scores = Nd4j.matmul(q, keys, false, true, false).mul(scale);
        if (causal) {
            scores = scores.add(bias(q.size(2), k.size(2)).broadcast(scores.shape()));
        }
        INDArray p = Nd4j.nn.softmax(scores, 3);
        INDArray dp = Nd4j.matmul(weights, values, false, true, false);
        INDArray delta = dp.mul(p).sum(true, 3);
        INDArray ds = dp.sub(delta.broadcast(dp.shape())).mul(p).mul(scale);
        return new Result(
                Nd4j.matmul(p, values, false, false, false),
                Nd4j.matmul(ds, keys, false, false, false),
                summed(Nd4j.matmul(ds, q, true, false, false), groups),
                summed(Nd4j.matmul(p, weights, true, false, false), groups));
    }

    /** Returns what a causal mask adds to the scores. */
    static INDArray bias(long queries, long keys) {
        INDArray bias = Nd4j.zeros(DataType.DOUBLE, 1, 1, queries, keys);
        for (long query = 0; query < queries; query++) {
            for (long key = query + 1; key < keys; key++) {
                bias.putScalar(new long[] {0, 0, query, key}, -1e300);
            }
        }
        return bias;
    }

    /** Returns every head {@code groups} times, one copy after the other. */
    static INDArray repeated(INDArray heads, long groups) {
        if (groups == 1) {
            return heads;
        }
        INDArray[] parts = new INDArray[(int) (heads.size(1) * groups)];
        for (int i = 0; i < parts.length; i++) {
            long head = i / groups;
            parts[i] = heads.get(
                    NDArrayIndex.all(), NDArrayIndex.interval(head, head + 1), NDArrayIndex.all(), NDArrayIndex.all());
        }
        return Nd4j.concat(1, parts);
    }

    private static INDArray summed(INDArray heads, long groups) {
        return heads.reshape(heads.size(0), heads.size(1) / groups, groups, heads.size(2), heads.size(3))
                .sum(2);
    }

    /** Asserts that no element is off by more than {@code tolerance} of the largest one, or of 1 if that is more. */
    static void assertClose(String name, INDArray actual, INDArray expected, double tolerance, double natural) {
        assertThat(actual.shape()).as(name).isEqualTo(expected.shape());
        if (expected.isEmpty()) {
            return;
        }
        double largest = Math.max(natural, expected.amaxNumber().doubleValue());
        assertThat(exact(actual).data().asDouble()).as(name).doesNotContain(Double.NaN); // amax passes over them
        assertThat(exact(actual).sub(expected).amaxNumber().doubleValue())
                .as(name)
                .isLessThanOrEqualTo(tolerance * largest);
    }

    static double tolerance(DataType type) {
        return switch (type) {
            case DOUBLE -> 1e-12;
            case FLOAT -> 1e-6;
            case HALF -> 4e-3;
            default -> 3e-2;
        };
    }
}
