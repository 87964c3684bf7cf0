package org.flashring.robustness;

import static org.flashring.robustness.BadCase.argument;
import static org.flashring.robustness.BadCase.unsupported;
import static org.flashring.robustness.Operand.LENGTH;

import java.util.List;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.Tensor;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.attention.RingAttention;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.HostBuffer;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;

/** Scores that cannot be, and sinks that do not go with them. */
final class BadScores {
    private static final AttentionShape SHAPE = new AttentionShape(Operand.BATCH, 4, 2, 8, 6, DType.BFLOAT16);
    private static final Score STANDARD = Score.standard();
    private static final Score SINKS = STANDARD.withSinks();

    private BadScores() {}

    private static Plan plan(Score score, AttentionOptions options) {
        Problem problem = Problem.of(SHAPE, Layout.contiguous(LENGTH, 1), Mask.causal());
        return Plan.of(problem.with(score), new Ring(), options);
    }

    private static Plan plan(Score score) {
        return plan(score, AttentionOptions.defaults());
    }

    private static Score alibi(double last) {
        return STANDARD.withAlibi(0.5, 0.25, 0, last);
    }

    private static Tensor heads(DType dtype, long batch, long heads, long stride) {
        HostBuffer memory = HostBuffer.allocate(8 * batch * heads * stride);
        return Tensor.strided(memory.memory(), dtype, batch, 1, heads, 1, heads * stride, heads * stride, stride);
    }

    private static void forward(Score score, Tensor sinks) {
        try (RingAttention attention = new RingAttention(plan(score), LocalGroup.single())) {
            attention.forward(operands(sinks), 0);
        }
    }

    private static Forward operands(Tensor sinks) {
        return new Forward(
                Operand.Q.good(), Operand.K.good(), Operand.V.good(), Operand.OUT.good(), Operand.LSE.good(), sinks);
    }

    private static void backward(Score score, Tensor sinks, Tensor dsinks) {
        try (RingAttention attention = new RingAttention(plan(score), LocalGroup.single())) {
            attention.backward(
                    new Backward(
                            operands(sinks),
                            Operand.DOUT.good(),
                            Operand.DQ.good(),
                            Operand.DK.good(),
                            Operand.DV.good(),
                            dsinks),
                    0);
        }
    }

    static List<BadCase> cases() {
        Tensor good = heads(DType.FLOAT32, 1, 4, 1);
        return List.of(
                argument("softcap negative", () -> STANDARD.withSoftcap(-1), "softcap", -1.0),
                argument("softcap NaN", () -> STANDARD.withSoftcap(Double.NaN), "softcap", "NaN"),
                argument(
                        "softcap infinite",
                        () -> STANDARD.withSoftcap(Double.POSITIVE_INFINITY),
                        "softcap",
                        "Infinity"),
                argument(
                        "softcap too large for float32", () -> plan(STANDARD.withSoftcap(1e300)), "softcap", "1.0E300"),
                argument(
                        "softcap too small for float32", () -> plan(STANDARD.withSoftcap(1e-40)), "softcap", "1.0E-40"),
                argument("slopes null", () -> STANDARD.withAlibi((double[]) null), "slopes", null),
                argument("slope negative", () -> STANDARD.withAlibi(0.5, -0.25), "alibiSlopes[1]", -0.25),
                argument("slope NaN", () -> STANDARD.withAlibi(Double.NaN), "alibiSlopes[0]", "NaN"),
                argument("slope infinite in float32", () -> plan(alibi(1e39)), "alibiSlopes[3]", "1.0E39"),
                argument("slope too large for float32", () -> plan(alibi(2e37)), "alibiSlopes[3]", "2.0E37"),
                argument(
                        "slope that a distance makes infinite",
                        () -> Problem.of(SHAPE, Layout.contiguous(36, 1), Mask.causal())
                                .with(alibi(1e37)),
                        "alibiSlopes[3]",
                        "1.0E37"),
                argument("slopes of fewer heads", () -> plan(STANDARD.withAlibi(0.5, 0.25)), "alibiSlopes.size", 2),
                argument("sinks that the score has not", () -> forward(STANDARD, good), "sinks", "no sinks"),
                argument("sinks left out", () -> forward(SINKS, null), "sinks", "null"),
                argument(
                        "sinks of the tensors' type",
                        () -> forward(SINKS, heads(DType.BFLOAT16, 1, 4, 1)),
                        "sinks.dtype",
                        "BFLOAT16"),
                argument(
                        "sinks of fewer heads",
                        () -> forward(SINKS, heads(DType.FLOAT32, 1, 2, 1)),
                        "sinks",
                        "[1, 1, 2, 1]"),
                argument("sinks by row", () -> forward(SINKS, heads(DType.FLOAT32, 2, 4, 1)), "sinks", "[2, 1, 4, 1]"),
                argument("sinks with gaps", () -> forward(SINKS, heads(DType.FLOAT32, 1, 4, 2)), "sinks.strideHead", 2),
                argument("sinks left out of backward", () -> backward(SINKS, null, null), "sinks", "null"),
                argument(
                        "gradients of sinks that the score has not",
                        () -> backward(STANDARD, null, good),
                        "dsinks",
                        "no sinks"),
                argument("gradients of sinks over them", () -> backward(SINKS, good, good), "dsinks", "sinks"),
                argument(
                        "gradients of sinks in float64",
                        () -> backward(SINKS, good, heads(DType.FLOAT64, 1, 4, 1)),
                        "dsinks.dtype",
                        "FLOAT64"),
                unsupported(
                        "a softcap by a kernel that serves none",
                        () -> plan(
                                STANDARD.withSoftcap(30),
                                AttentionOptions.defaults().withKernel(Kernel.AMX)),
                        "kernel = 5 (amx)",
                        "softcap"));
    }
}
