package org.flashring.djl;

import static org.assertj.core.api.Assertions.assertThat;

import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.engine.PtNDManager;
import ai.djl.pytorch.jni.JniUtils;
import java.util.List;
import java.util.Random;
import org.flashring.internal.LibTorch;

/** DJL's own attention, composed of its operators in float64, and what compares with it. */
final class Djl {
    private Djl() {}

    static NDManager manager() {
        NDManager manager = Engine.getEngine("PyTorch").newBaseManager();
        JniUtils.setNumThreads(1);
        return manager;
    }

    /** Returns values of (-1, 1) that {@code type} can hold, the same for one seed whatever the type of others. */
    static NDArray random(NDManager manager, long seed, DataType type, long... shape) {
        Shape size = new Shape(shape);
        return size.size() == 0
                ? manager.create(size, type)
                : manager.create(new Random(seed).doubles(size.size(), -1, 1).toArray(), size)
                        .toType(type, false);
    }

    /** Returns the same values as bfloat16, of which DJL cannot make an array itself. */
    static NDArray bfloat16(NDArray array) {
        TorchArray facts = TorchArray.of("array", array);
        long[] sizes = {facts.size(0), facts.size(1), facts.size(2), facts.size(3)};
        long[] strides = {facts.stride(0), facts.stride(1), facts.stride(2), facts.stride(3)};
        int bfloat16 = 15;
        long handle = LibTorch.empty(4, sizes, strides, bfloat16, LibTorch.CPU, 0);
        LibTorch.copy(handle, facts.handle());
        return new PtNDArray((PtNDManager) array.getManager(), handle);
    }

    static NDArray learnt(NDArray array) {
        array.setRequiresGradient(true);
        return array;
    }

    /** Returns a leaf of the same values in float64. */
    static NDArray exact(NDArray array) {
        NDArray exact = array.stopGradient().toType(DataType.FLOAT64, true);
        exact.setRequiresGradient(array.hasGradient());
        return exact;
    }

    static NDArray attention(NDArray q, NDArray k, NDArray v, boolean causal) {
        long group = q.getShape().get(1) / k.getShape().get(1);
        NDArray keys = k.repeat(1, group);
        NDArray scores =
                times(q.matMul(keys.swapAxes(2, 3)), 1 / Math.sqrt(q.getShape().get(3)));
        if (causal) {
            scores = scores.add(
                    unseen(q.getManager(), q.getShape().get(2), k.getShape().get(2)));
        }
        return scores.softmax(3).matMul(v.repeat(1, group));
    }

    /**
     * Returns {@code array} times a number that stays where it is. DJL's {@code mul(number)} lays it into memory that
     * the next garbage collection may free, though backward reads it.
     */
    static NDArray times(NDArray array, double number) {
        return array.mul(array.getManager().create(number).toType(array.getDataType(), false));
    }

    private static NDArray unseen(NDManager manager, long queries, long keys) {
        double[] rows = new double[(int) (queries * keys)];
        for (int i = 0; i < rows.length; i++) {
            rows[i] = i % keys > i / keys ? Double.NEGATIVE_INFINITY : 0;
        }
        return manager.create(rows, new Shape(queries, keys));
    }

    static void backward(NDArray target) {
        try (ThreadGradientCollector collector = new ThreadGradientCollector(List.of())) {
            collector.backward(target);
        }
    }

    static double[] values(NDArray array) {
        try (NDArray plain = array.stopGradient();
                NDArray wide = plain.toType(DataType.FLOAT64, true);
                NDArray line = wide.flatten()) {
            return line.toDoubleArray();
        }
    }

    /** Asserts that no element is off by more than {@code tolerance} of the largest one, or of {@code natural}. */
    static void assertClose(String name, NDArray actual, NDArray expected, double tolerance, double natural) {
        assertThat(actual.getShape()).as(name).isEqualTo(expected.getShape());
        assertClose(name, values(actual), values(expected), tolerance, natural);
    }

    static void assertClose(String name, double[] actual, double[] expected, double tolerance, double natural) {
        assertThat(actual).as(name).hasSameSizeAs(expected);
        double largest = natural;
        double apart = 0;
        for (int i = 0; i < expected.length; i++) {
            largest = Math.max(largest, Math.abs(expected[i]));
            double difference = Math.abs(actual[i] - expected[i]);
            apart = difference > apart || Double.isNaN(difference) ? difference : apart;
        }
        assertThat(apart).as(name).isLessThanOrEqualTo(tolerance * largest);
    }

    static double tolerance(DataType type) {
        return switch (type) {
            case FLOAT64 -> 1e-12;
            case FLOAT32 -> 1e-6;
            default -> 4e-3;
        };
    }
}
