package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.support.Capped;
import org.flashring.support.Elements;
import org.flashring.support.Kernels;
import org.flashring.support.MaskRule;
import org.flashring.support.Oracle;
import org.flashring.support.Problem;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Errors in low precision against float64, relative to those of the plain formula in the same precision: at most twice
 * as large for outputs and three times for gradients, with every kernel of this machine, on one rank and on a ring with
 * either wire type.
 */
@Capped
class PrecisionTest {
    private static final double OUTPUTS = 2;
    private static final double GRADIENTS = 3;
    /** In float32 the lse is held in units of its largest value: each ring step rounds it once. */
    private static final double LSE_UNITS = 6;
    /**
     * In 16 bits the lse, float32 there too, is a relative error of all weights: 1/64 of what rounding one to bfloat16
     * costs.
     */
    private static final double LSE_16_BITS = 0x1p-14;
    /** In float32 the plain formula's own error is a few units and mostly luck: that many units always pass. */
    private static final double FLOAT32_UNITS = 16;

    static List<Problem> problems() {
        List<Problem> problems = new ArrayList<>();
        for (DType dtype : List.of(DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16)) {
            problems.add(Problem.of(new AttentionShape(1, 4, 2, 64, 64, dtype), 257, MaskRule.CAUSAL, 1));
            problems.add(Problem.of(new AttentionShape(2, 3, 1, 128, 128, dtype), 129, MaskRule.FULL, 2));
            problems.add(Problem.of(new AttentionShape(1, 2, 2, 80, 48, dtype), 193, MaskRule.FULL.window(30, 10), 3));
            problems.add(Problem.of(
                    new AttentionShape(1, 4, 4, 33, 33, dtype),
                    211,
                    MaskRule.CAUSAL.documents(0, 1, 60, 60, 199, 211),
                    4));
        }
        return problems;
    }

    @ParameterizedTest
    @MethodSource("problems")
    void errsLittleMoreThanThePlainFormula(Problem problem) {
        DType dtype = problem.shape().dtype();
        Result exact = Oracle.float64(problem);
        Map<String, Result.Difference> plain = Oracle.plain(problem, dtype).differences(exact);
        for (Kernel kernel : Kernels.available(dtype)) {
            AttentionOptions options = AttentionOptions.defaults().withKernel(kernel);
            check(problem, 1, options, exact, plain);
            check(problem, 4, options, exact, plain);
            check(problem, 4, options.withWireDType(dtype), exact, plain);
        }
    }

    private static void check(
            Problem problem, int world, AttentionOptions options, Result exact, Map<String, Result.Difference> plain) {
        RingRun run = RingRun.of(problem, Layout.zigzag(problem.queryLength(), world))
                .with(options)
                .with(problem.shape().dtype());
        run.run().differences(exact).forEach((name, difference) -> {
            double unit = Math.ulp(1f) * exact.largest(name);
            double bound =
                    switch (name) {
                        case "lse" -> problem.shape().dtype() == DType.FLOAT32 ? LSE_UNITS * unit : LSE_16_BITS;
                        case "out" -> OUTPUTS * plain.get(name).error();
                        default -> GRADIENTS * plain.get(name).error();
                    };
            if (problem.shape().dtype() == DType.FLOAT32 && !name.equals("lse")) {
                bound = Math.max(bound, FLOAT32_UNITS * unit);
            }
            assertThat(difference.error())
                    .as(
                            "%s with %s over %d ranks, wire %s: %s is off by %s, the plain formula by %s",
                            problem, options.kernel(), world, options.wireDType(), name, difference, plain.get(name))
                    .isLessThanOrEqualTo(bound);
        });
    }

    @ParameterizedTest
    @EnumSource(names = {"FLOAT32", "BFLOAT16", "FLOAT16"})
    void gradientsAreThoseOfTheAccumulatorTypeRoundedOnce(DType dtype) {
        Problem problem = Problem.of(AttentionShape.of(1, 2, 1, 32, dtype), 97, MaskRule.CAUSAL, 5);
        for (int world : new int[] {1, 4}) {
            RingRun run = RingRun.of(problem, Layout.striped(97, world));
            Result wide = run.with(dtype.accumulator()).run();
            Result narrow = run.with(dtype).run();
            assertThat(narrow.dq()).isEqualTo(rounded(dtype, wide.dq()));
            assertThat(narrow.dk()).isEqualTo(rounded(dtype, wide.dk()));
            assertThat(narrow.dv()).isEqualTo(rounded(dtype, wide.dv()));
        }
    }

    private static double[] rounded(DType dtype, double[] values) {
        return Arrays.stream(values).map(value -> Elements.round(dtype, value)).toArray();
    }

    static List<Kernel> float64Kernels() {
        return Kernels.available(DType.FLOAT64);
    }

    /** The grid runs on the kernel that AUTO picks; here is every other one, in float64 too. */
    @ParameterizedTest
    @MethodSource("float64Kernels")
    void everyKernelIsExactInFloat64(Kernel kernel) {
        for (MaskRule mask : List.of(
                MaskRule.FULL,
                MaskRule.CAUSAL.documents(0, 40, 41, 97),
                MaskRule.FULL.window(17, 5).prefix(9))) {
            for (int headDim : new int[] {7, 130, 256}) {
                Problem problem =
                        Problem.of(new AttentionShape(1, 2, 1, headDim, 37, DType.FLOAT64), 97, mask, headDim);
                Result exact = Oracle.float64(problem);
                for (int world : new int[] {1, 4}) {
                    RingRun run = RingRun.of(problem, Layout.zigzag(97, world))
                            .with(AttentionOptions.defaults().withKernel(kernel));
                    run.run().requireWithin(1e-12, exact, problem + " with " + kernel + " over " + world + " ranks");
                }
            }
        }
    }
}
