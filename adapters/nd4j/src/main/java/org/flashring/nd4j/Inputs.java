package org.flashring.nd4j;

import org.flashring.DType;
import org.nd4j.linalg.api.ndarray.INDArray;

/**
 * The inputs of a call, which fit each other.
 *
 * @param q [batch, heads, length, dim], as k and v
 * @param sinks [heads], null if there are none
 */
record Inputs(INDArray q, INDArray k, INDArray v, INDArray sinks, DType dtype) {
    static Inputs of(INDArray q, INDArray k, INDArray v, INDArray sinks) {
        Nd4jTensors.check("q", q, 4);
        Nd4jTensors.check("k", k, 4);
        Nd4jTensors.check("v", v, 4);
        DType dtype = Nd4jTensors.dtype("q", q);
        requireType("k", k, dtype);
        requireType("v", v, dtype);
        requireSize("k", k, 0, q.size(0), "q.size(0)");
        requireSize("v", v, 0, q.size(0), "q.size(0)");
        requireSize("v", v, 1, k.size(1), "k.size(1)");
        requireSize("v", v, 2, k.size(2), "k.size(2)");
        requireSize("k", k, 3, q.size(3), "q.size(3)");
        if (sinks != null) {
            Nd4jTensors.sinks("sinks", sinks); // the kernel's own checks look at type, size and stride
        }
        return new Inputs(q, k, v, sinks, dtype);
    }

    private static void requireType(String name, INDArray array, DType dtype) {
        DType own = Nd4jTensors.dtype(name, array);
        if (own != dtype) {
            throw new IllegalArgumentException(name + " holds " + own + ", but must hold " + dtype + " as q does");
        }
    }

    private static void requireSize(String name, INDArray array, int dimension, long size, String as) {
        if (array.size(dimension) != size) {
            throw new IllegalArgumentException(name + ".size(" + dimension + ") is " + array.size(dimension)
                    + ", but must be " + as + " = " + size);
        }
    }

    long[] outShape() {
        return new long[] {q.size(0), q.size(1), q.size(2), v.size(3)};
    }
}
