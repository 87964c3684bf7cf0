package org.flashring.numerics;

import java.util.Arrays;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.plan.Strategy;
import org.flashring.support.MaskRule;
import org.flashring.support.Oracle;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.flashring.support.Strategies;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** New tokens that meet a cache of keys get what they get in the whole sequence. */
class CachedKeysTest {
    private static final int CACHED = 61;
    private static final int NEW = 13;

    @ParameterizedTest
    @CsvSource({
        "CONTIGUOUS, 1, ring",
        "ZIGZAG, 3, ring",
        "STRIPED, 4, ring",
        "CONTIGUOUS, 16, ring",
        "ZIGZAG, 3, gather 1",
        "STRIPED, 4, gather 2",
        "CONTIGUOUS, 16, gather 1",
        "ZIGZAG, 3, halo",
        "STRIPED, 4, halo",
        "CONTIGUOUS, 16, halo"
    })
    void newTokensSeeTheCacheAndThemselves(Layout.Policy policy, int world, String name) {
        Strategy strategy = Strategies.named(name);
        AttentionShape shape = AttentionShape.of(2, 4, 2, 24, DType.FLOAT64);
        Problem whole = Problem.of(shape, CACHED + NEW, MaskRule.CAUSAL, 5);
        Problem.Inputs inputs = inputs(whole);
        Layout queries = Layout.of(policy, NEW, world).startingAt(CACHED);
        Layout keys = Layout.of(policy, CACHED + NEW, world);

        Result actual = new RingRun(
                        whole, queries, keys, strategy, AttentionOptions.defaults(), Placement.DENSE, DType.FLOAT64)
                .run(inputs);
        Result expected = Oracle.plain(whole, inputs, DType.FLOAT64);

        forgetCachedQueries(shape, expected);
        forgetCachedQueries(shape, actual);
        actual.requireWithin(1e-12, expected, policy + " over " + world + ", " + strategy);
    }

    /** Returns the problem's inputs, of whose loss the cached tokens are no part. */
    private static Problem.Inputs inputs(Problem whole) {
        Problem.Inputs inputs = whole.inputs();
        clearCachedQueries(whole.shape(), whole.shape().valueDim(), inputs.dout());
        return inputs;
    }

    private static void forgetCachedQueries(AttentionShape shape, Result result) {
        clearCachedQueries(shape, shape.valueDim(), result.out());
        clearCachedQueries(shape, shape.headDim(), result.dq());
        clearCachedQueries(shape, 1, result.lse());
    }

    private static void clearCachedQueries(AttentionShape shape, long dim, double[] values) {
        int token = (int) (shape.queryHeads() * dim);
        for (int row = 0; row < shape.batch(); row++) {
            int start = row * (CACHED + NEW) * token;
            Arrays.fill(values, start, start + CACHED * token, 0);
        }
    }
}
