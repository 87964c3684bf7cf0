package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.support.Elements;
import org.flashring.support.Kernels;
import org.flashring.support.MaskRule;
import org.flashring.support.Oracle;
import org.flashring.support.Problem;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Scores that share a large offset, over rings of 1 to 8: errors against PyTorch in float64 are at most three times the
 * larger of PyTorch's in float32 and the reference kernel's on the same ring.
 */
class HardNumbersTest {
    private static final double FACTOR = 3;
    private static final int LENGTH = 96;

    record Hard(int headDim, double offset, int world) {}

    static List<Hard> cases() {
        List<Hard> cases = new ArrayList<>();
        for (int world = 1; world <= 8; world++) {
            for (double offset : new double[] {100, 1_000, 10_000}) {
                cases.add(new Hard(world % 2 == 0 ? 128 : 64, offset, world));
            }
        }
        return cases;
    }

    @ParameterizedTest
    @MethodSource("cases")
    void errsLittleMoreThanPyTorchOrTheReference(Hard hard) {
        AttentionShape shape = AttentionShape.of(1, 1, 1, hard.headDim(), DType.FLOAT32);
        Problem problem = Problem.of(shape, LENGTH, MaskRule.CAUSAL, hard.world());
        Problem.Inputs inputs = problem.inputs();
        double element = Elements.round(DType.FLOAT32, Math.sqrt(hard.offset() / problem.effectiveScale()));
        for (int token = 0; token < LENGTH; token++) {
            inputs.q()[token * hard.headDim()] = element;
            inputs.k()[token * hard.headDim()] = element;
        }
        Result exact = Oracle.plain(problem, inputs, DType.FLOAT64);
        Map<String, Result.Difference> torch =
                Oracle.plain(problem, inputs, DType.FLOAT32).differences(exact);
        Map<String, Result.Difference> reference =
                run(problem, inputs, hard, Kernel.REFERENCE).differences(exact);
        for (Kernel kernel : Kernels.available(DType.FLOAT32)) {
            Map<String, Result.Difference> ours =
                    run(problem, inputs, hard, kernel).differences(exact);
            for (String name : Result.NAMES) {
                assertThat(ours.get(name).error())
                        .as(
                                "%s with %s: %s is off by %s, PyTorch by %s, the reference kernel by %s",
                                hard, kernel, name, ours.get(name), torch.get(name), reference.get(name))
                        .isLessThanOrEqualTo(FACTOR
                                * Math.max(
                                        torch.get(name).error(),
                                        reference.get(name).error()));
            }
        }
    }

    private static Result run(Problem problem, Problem.Inputs inputs, Hard hard, Kernel kernel) {
        return RingRun.of(problem, Layout.zigzag(LENGTH, hard.world()))
                .with(AttentionOptions.defaults().withKernel(kernel))
                .run(inputs);
    }
}
