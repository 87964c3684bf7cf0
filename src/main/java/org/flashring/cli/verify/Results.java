package org.flashring.cli.verify;

import org.flashring.AttentionShape;

/**
 * The whole sequence's results as dense [batch, length, heads, dim].
 *
 * @param out [batch, length, queryHeads, valueDim]
 * @param lse [batch, length, queryHeads]
 * @param dq [batch, length, queryHeads, headDim]
 * @param dk [batch, length, kvHeads, headDim]
 * @param dv [batch, length, kvHeads, valueDim]
 * @param dsinks [queryHeads]; zeros where the score has no sinks
 */
record Results(double[] out, double[] lse, double[] dq, double[] dk, double[] dv, double[] dsinks) {
    /** The tensors in their order here. */
    enum Name {
        OUT,
        LSE,
        DQ,
        DK,
        DV,
        DSINKS
    }

    static Results zeros(Scenario scenario) {
        AttentionShape shape = scenario.shape();
        int tokens = Math.toIntExact(shape.batch() * scenario.length());
        int queryHeads = (int) shape.queryHeads();
        int kvHeads = (int) shape.kvHeads();
        int headDim = (int) shape.headDim();
        int valueDim = (int) shape.valueDim();
        return new Results(
                new double[tokens * queryHeads * valueDim],
                new double[tokens * queryHeads],
                new double[tokens * queryHeads * headDim],
                new double[tokens * kvHeads * headDim],
                new double[tokens * kvHeads * valueDim],
                new double[queryHeads]);
    }

    double[] get(Name name) {
        return switch (name) {
            case OUT -> out;
            case LSE -> lse;
            case DQ -> dq;
            case DK -> dk;
            case DV -> dv;
            case DSINKS -> dsinks;
        };
    }
}
