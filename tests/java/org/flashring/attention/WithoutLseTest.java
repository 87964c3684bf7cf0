package org.flashring.attention;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Gather;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.support.MaskRule;
import org.flashring.support.Placement;
import org.flashring.support.RankTensors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** Forward alone writes the same output whether its caller wants lse or not. */
class WithoutLseTest {
    private static final int TOKENS = 37;

    private static AttentionShape shape(DType dtype) {
        return AttentionShape.of(2, 4, 2, 8, dtype);
    }

    private static RankTensors tensors(Plan plan, int rank) {
        RankTensors tensors = new RankTensors(
                plan.shape(),
                plan.queries().positions(rank),
                plan.keys().positions(rank),
                Placement.DENSE,
                plan.shape().dtype());
        tensors.scatter(org.flashring.support.Problem.of(plan.shape(), TOKENS, MaskRule.CAUSAL, 3)
                .inputs());
        return tensors;
    }

    @ParameterizedTest
    @CsvSource({"FLOAT32, 1, 0", "BFLOAT16, 1, 0", "FLOAT32, 3, 0", "BFLOAT16, 3, 0", "FLOAT32, 3, 1", "BFLOAT16, 2, 2"
    })
    void theOutputIsTheSame(DType dtype, int world, int gathered) {
        Strategy strategy = gathered == 0 ? new Ring() : new Gather(gathered);
        Plan plan = Plan.of(
                Problem.of(shape(dtype), Layout.zigzag(TOKENS, world), Mask.causal()),
                strategy,
                AttentionOptions.defaults().forwardOnly());
        LocalGroup.run(world, communicator -> {
            RankTensors with = tensors(plan, communicator.rank());
            RankTensors without = tensors(plan, communicator.rank());
            try (ShardedAttention attention = new ShardedAttention(plan, communicator)) {
                attention.forward(forward(with), 0);
                attention.forward(
                        new Forward(
                                without.q.tensor(), without.k.tensor(), without.v.tensor(), without.out.tensor(), null),
                        0);
            }
            without.requireFencesWhole();
            int rank = communicator.rank();
            assertThat(output(without, plan, rank))
                    .containsExactly(output(with, plan, rank))
                    .doesNotContain(Double.NaN);
            return null;
        });
    }

    private static Forward forward(RankTensors t) {
        return new Forward(t.q.tensor(), t.k.tensor(), t.v.tensor(), t.out.tensor(), t.lse.tensor());
    }

    /** Returns the rank's output in its place of the whole, 0 elsewhere. */
    private static double[] output(RankTensors tensors, Plan plan, int rank) {
        double[] whole = new double[2 * TOKENS * 4 * 8];
        tensors.out.gather(whole, plan.queries().positions(rank));
        return whole;
    }

    /**
     * The place of an lse that is not given is planned: 4 bytes a query and head, and none where lse is always given.
     */
    @ParameterizedTest
    @EnumSource(
            value = DType.class,
            names = {"FLOAT32", "BFLOAT16"})
    void itsBytesArePlanned(DType dtype) {
        Plan plan = Plan.of(
                shape(dtype),
                Layout.contiguous(TOKENS, 1),
                Mask.causal(),
                AttentionOptions.defaults().forwardOnly());
        long rows = 2L * TOKENS * 4;
        assertThat(plan.bytesHeld(0) - plan.workspaceBytes(0)).isBetween(4 * rows, 4 * rows + 2 * 64);
    }

    @Test
    void whatBackwardNeedsCannotBeLeftOut() {
        Plan plan =
                Plan.of(shape(DType.FLOAT32), Layout.contiguous(TOKENS, 1), Mask.causal(), AttentionOptions.defaults());
        RankTensors t = tensors(plan, 0);
        try (FlashAttention attention = new FlashAttention(plan)) {
            assertThatThrownBy(() -> attention.forward(t.q.tensor(), t.k.tensor(), t.v.tensor(), t.out.tensor(), null))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessage("lse is null; it must be given unless the plan is forwardOnly");
        }
        assertThat(t.out.get(0, 0, 0, 0)).isNaN();
    }
}
