package org.flashring.cli.verify;

import java.util.Random;
import org.flashring.AttentionShape;

/**
 * The whole sequence's inputs as dense [batch, length, heads, dim], drawn from N(0, 1) and rounded to the element type.
 *
 * @param q [batch, length, queryHeads, headDim]
 * @param k [batch, length, kvHeads, headDim]
 * @param v [batch, length, kvHeads, valueDim]
 * @param dout [batch, length, queryHeads, valueDim]
 * @param sinks [queryHeads], exact in float32; not used where the score has none
 */
record Inputs(double[] q, double[] k, double[] v, double[] dout, double[] sinks) {
    static Inputs draw(Scenario scenario, Random random) {
        AttentionShape shape = scenario.shape();
        return new Inputs(
                draw(scenario, shape.queryHeads() * shape.headDim(), random),
                draw(scenario, shape.kvHeads() * shape.headDim(), random),
                draw(scenario, shape.kvHeads() * shape.valueDim(), random),
                draw(scenario, shape.queryHeads() * shape.valueDim(), random),
                random.doubles(shape.queryHeads(), -3, 5)
                        .map(sink -> (float) sink)
                        .toArray());
    }

    private static double[] draw(Scenario scenario, long perToken, Random random) {
        double[] values = new double[Math.toIntExact(scenario.shape().batch() * scenario.length() * perToken)];
        for (int i = 0; i < values.length; i++) {
            values[i] = Rounding.round(scenario.shape().dtype(), random.nextGaussian());
        }
        return values;
    }
}
