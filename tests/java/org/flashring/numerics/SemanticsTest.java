package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.fail;
import static org.assertj.core.api.Assertions.offset;

import java.util.Arrays;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.internal.Native;
import org.flashring.support.Capped;
import org.flashring.support.Kernels;
import org.flashring.support.MaskRule;
import org.flashring.support.Oracle;
import org.flashring.support.Problem;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** NaN, infinity, extreme and equal scores, empty shards, and the same bits every time. */
@Capped
class SemanticsTest {
    private static final int TOKENS = 90;
    private static final MaskRule MASK = MaskRule.FULL.window(20, 3).documents(0, 40, 90);

    private static Problem problem(DType dtype, int headDim) {
        return Problem.of(AttentionShape.of(1, 2, 1, headDim, dtype), TOKENS, MASK, 7);
    }

    private static RingRun ring(Problem problem, int world, Kernel kernel) {
        RingRun run = RingRun.of(problem, Layout.zigzag(problem.queryLength(), world));
        return run.with(run.options().withKernel(kernel));
    }

    /**
     * Throws unless the rows of {@code actual} have no finite value where {@code hit}, and equal those of {@code clean}
     * elsewhere.
     */
    private static void requireHitAlone(String name, double[] clean, double[] actual, int width, IntPredicate hit) {
        assertThat(actual).as(name).hasSameSizeAs(clean);
        for (int i = 0; i < actual.length; i++) { // by hand: an assertion per element costs more than the attention
            int row = i / width;
            boolean right = hit.test(row)
                    ? !Double.isFinite(actual[i])
                    : clean[i] == actual[i] || Math.abs(clean[i] - actual[i]) <= 1e-5;
            if (!right) {
                fail("%s of row %d, element %d is %s, without the hit %s", name, row, i % width, actual[i], clean[i]);
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void nanInAQueryStaysInItsRow(DType dtype) {
        Problem problem = problem(dtype, 16);
        int poisoned = 2 * 33 + 1; // token 33, head 1
        for (Kernel kernel : Kernels.available(dtype)) {
            for (int world : new int[] {1, 4}) {
                Problem.Inputs inputs = problem.inputs();
                Result clean = ring(problem, world, kernel).run(inputs);
                inputs.q()[poisoned * 16 + 5] = Double.NaN;
                Result result = ring(problem, world, kernel).run(inputs);
                String name = kernel + " over " + world + ": ";
                requireHitAlone(name + "out", clean.out(), result.out(), 16, row -> row == poisoned);
                requireHitAlone(name + "lse", clean.lse(), result.lse(), 1, row -> row == poisoned);
                requireHitAlone(name + "dq", clean.dq(), result.dq(), 16, row -> row == poisoned);
                requireHitAlone(name + "dv", clean.dv(), result.dv(), 16, key -> MASK.sees(33, key));
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void nanInAKeyReachesOnlyThoseWhoSeeIt(DType dtype) {
        Problem problem = problem(dtype, 16);
        for (Kernel kernel : Kernels.available(dtype)) {
            for (int world : new int[] {1, 4}) {
                Problem.Inputs inputs = problem.inputs();
                Result clean = ring(problem, world, kernel).run(inputs);
                inputs.k()[50 * 16 + 3] = Double.NaN;
                Result result = ring(problem, world, kernel).run(inputs);
                String name = kernel + " over " + world + ": ";
                requireHitAlone(name + "out", clean.out(), result.out(), 16, row -> MASK.sees(row / 2, 50));
                requireHitAlone(name + "lse", clean.lse(), result.lse(), 1, row -> MASK.sees(row / 2, 50));
                requireHitAlone(name + "dq", clean.dq(), result.dq(), 16, row -> MASK.sees(row / 2, 50));
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void infinityInAValueReachesOnlyThoseWhoSeeIt(DType dtype) {
        Problem problem = problem(dtype, 16);
        for (Kernel kernel : Kernels.available(dtype)) {
            for (int world : new int[] {1, 4}) {
                Problem.Inputs inputs = problem.inputs();
                Result clean = ring(problem, world, kernel).run(inputs);
                Arrays.fill(inputs.v(), 50 * 16, 51 * 16, Double.POSITIVE_INFINITY);
                Result result = ring(problem, world, kernel).run(inputs);
                String name = kernel + " over " + world + ": ";
                requireHitAlone(name + "out", clean.out(), result.out(), 16, row -> MASK.sees(row / 2, 50));
                assertThat(result.lse()).as(name + "lse").containsExactly(clean.lse());
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void largeScoresStayFinite(DType dtype) {
        AttentionShape shape = AttentionShape.of(1, 2, 1, 8, dtype);
        for (MaskRule mask : new MaskRule[] {MaskRule.FULL, MaskRule.CAUSAL}) {
            Problem problem = new Problem(shape, TOKENS, TOKENS, mask, 1e4 / 8, 3);
            Problem.Inputs inputs = problem.inputs();
            Arrays.setAll(inputs.q(), i -> Math.signum(inputs.q()[i]));
            Arrays.setAll(inputs.k(), i -> Math.signum(inputs.k()[i]));
            Result exact = Oracle.plain(problem, inputs, DType.FLOAT64); // scores are whole numbers * 2500, up to 1e4
            assertThat(exact.largest("lse")).isGreaterThan(9000);
            for (Kernel kernel : Kernels.available(dtype)) {
                for (int world : new int[] {1, 4}) {
                    Result result = ring(problem, world, kernel).run(inputs);
                    double unit =
                            switch (dtype) {
                                case FLOAT64 -> 0x1p-52;
                                case FLOAT32 -> 0x1p-23;
                                case BFLOAT16 -> 0x1p-7;
                                case FLOAT16 -> 0x1p-10;
                            };
                    // A weight is as exact as the score behind it: 1e4 times a unit of the accumulator type.
                    double weight = 1e4 * (dtype == DType.FLOAT64 ? 0x1p-52 : 0x1p-23);
                    result.differences(exact).forEach((name, difference) -> {
                        double bound = name.equals("lse") ? 2 * weight : 8 * (unit + weight) * exact.largest(name);
                        assertThat(difference.error())
                                .as("%s with %s over %d: %s %s", problem, kernel, world, name, difference)
                                .isLessThanOrEqualTo(bound);
                    });
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void equalScoresAverage(DType dtype) {
        Problem problem = problem(dtype, 4);
        Problem.Inputs inputs = problem.inputs();
        Arrays.fill(inputs.q(), 0);
        Arrays.setAll(inputs.v(), i -> i / 4); // the token's number, at each of the 4 places
        for (Kernel kernel : Kernels.available(dtype)) {
            for (int world : new int[] {1, 3}) {
                Result result = ring(problem, world, kernel).run(inputs);
                for (int token = 0; token < TOKENS; token++) {
                    int query = token;
                    double mean = IntStream.range(0, TOKENS)
                            .filter(key -> MASK.sees(query, key))
                            .average()
                            .orElseThrow();
                    long count = IntStream.range(0, TOKENS)
                            .filter(key -> MASK.sees(query, key))
                            .count();
                    double rounding = dtype == DType.BFLOAT16 ? 0x1p-7 : dtype == DType.FLOAT16 ? 0x1p-10 : 1e-6;
                    assertThat(result.out()[token * 8])
                            .as("%s, token %d", kernel, token)
                            .isCloseTo(mean, offset(rounding * 90));
                    assertThat(result.lse()[token * 2])
                            .as("%s, token %d", kernel, token)
                            .isCloseTo(Math.log(count), offset(1e-5));
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void shardsWithoutTokensAreFine(DType dtype) {
        double bound =
                switch (dtype) {
                    case FLOAT64 -> 1e-12;
                    case FLOAT32 -> 1e-5;
                    case FLOAT16 -> 1e-2;
                    case BFLOAT16 -> 1e-1;
                };
        for (int length = 0; length < 4; length++) {
            for (MaskRule mask : new MaskRule[] {MaskRule.CAUSAL, MaskRule.FULL.window(0, 0)}) {
                Problem problem = Problem.of(AttentionShape.of(2, 2, 1, 8, dtype), length, mask, length);
                Result expected = length == 0 ? Result.none(problem) : Oracle.float64(problem);
                for (Kernel kernel : Kernels.available(dtype)) {
                    ring(problem, 4, kernel)
                            .with(dtype)
                            .run()
                            .requireWithin(bound, expected, problem + " with " + kernel);
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void bitsAreTheSameEveryTimeAndForAnyNumberOfThreads(DType dtype) {
        Problem problem = Problem.of(AttentionShape.of(1, 2, 1, 32, dtype), 150, MaskRule.CAUSAL, 11);
        int threads = Native.threads();
        try {
            for (Kernel kernel : Kernels.available(dtype)) {
                int repeats = kernel == Kernel.AUTO ? 20 : 4;
                for (int world : new int[] {1, 4}) {
                    Native.setThreads(1);
                    Result first = ring(problem, world, kernel).run();
                    for (int repeat = 1; repeat <= repeats; repeat++) {
                        Native.setThreads(1 + repeat % 5);
                        String replay = problem + " with " + kernel + " over " + world + ", repeat " + repeat
                                + ", threads " + Native.threads();
                        ring(problem, world, kernel).run().requireSameBits(first, replay);
                    }
                }
            }
        } finally {
            Native.setThreads(threads);
        }
    }
}
