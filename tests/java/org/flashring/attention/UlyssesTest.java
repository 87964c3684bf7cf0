package org.flashring.attention;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.IntToLongFunction;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Gather;
import org.flashring.plan.Plan;
import org.flashring.plan.Ring;
import org.flashring.plan.Ulysses;
import org.flashring.support.HeapBytes;
import org.flashring.support.MaskRule;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.RankTensors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What the plan of an exchange of heads says, and that it is so. What is computed is proven by the grid of cases. */
class UlyssesTest {
    private static final int LENGTH = 23;

    private static Problem problem(long queryHeads, long kvHeads) {
        AttentionShape shape = new AttentionShape(2, queryHeads, kvHeads, 8, 4, DType.BFLOAT16);
        return Problem.of(shape, LENGTH, MaskRule.CAUSAL, 1);
    }

    private static Plan plan(Problem problem, int world, Ulysses strategy) {
        org.flashring.plan.Problem whole = org.flashring.plan.Problem.of(
                problem.shape(), Layout.zigzag(LENGTH, world), problem.mask().mask());
        return Plan.of(whole, strategy, AttentionOptions.defaults());
    }

    private static Ulysses strategy(int ranks, int gathered) {
        return new Ulysses(ranks, gathered == 0 ? new Ring() : new Gather(gathered));
    }

    /** Ranks, query and key heads, ranks of a group, heads gathered between groups. */
    @ParameterizedTest
    @CsvSource({"3, 6, 3, 3, 0", "3, 5, 5, 3, 0", "4, 6, 2, 4, 0", "4, 6, 3, 2, 0", "4, 6, 3, 2, 1", "6, 4, 1, 3, 0"})
    void sendsAndHoldsWhatWasPlanned(int world, long queryHeads, long kvHeads, int ranks, int gathered) {
        Problem problem = problem(queryHeads, kvHeads);
        Plan plan = plan(problem, world, strategy(ranks, gathered));
        LocalGroup.run(world, communicator -> {
            int rank = communicator.rank();
            AtomicLong sent = new AtomicLong();
            RankTensors t = tensors(problem, plan, rank);
            Forward forward = forward(t);
            try (ShardedAttention attention = new ShardedAttention(plan, GatherTest.counting(communicator, sent))) {
                attention.forward(forward, 0);
                assertThat(sent.getAndSet(0))
                        .as("forward of rank %d", rank)
                        .isEqualTo(plan.forwardBytesSent(rank))
                        .isEqualTo(sum(plan, step -> plan.forwardBytesSent(rank, step)))
                        .isPositive();
                attention.backward(backward(forward, t), 0);
                assertThat(sent.get())
                        .as("backward of rank %d", rank)
                        .isEqualTo(plan.backwardBytesSent(rank))
                        .isEqualTo(sum(plan, step -> plan.backwardBytesSent(rank, step)))
                        .isPositive();
                assertThat(attention.bytesHeld()).isEqualTo(plan.bytesHeld(rank));
            }
            return null;
        });
    }

    private static long sum(Plan plan, IntToLongFunction bytes) {
        long sum = 0;
        for (int step = 0; step < plan.steps(); step++) {
            sum += bytes.applyAsLong(step);
        }
        return sum;
    }

    private static RankTensors tensors(Problem problem, Plan plan, int rank) {
        RankTensors t = new RankTensors(
                problem.shape(),
                plan.queries().positions(rank),
                plan.keys().positions(rank),
                Placement.DENSE,
                DType.FLOAT32);
        t.scatter(problem.inputs());
        return t;
    }

    private static Forward forward(RankTensors t) {
        return new Forward(t.q.tensor(), t.k.tensor(), t.v.tensor(), t.out.tensor(), t.lse.tensor());
    }

    private static Backward backward(Forward forward, RankTensors t) {
        return new Backward(forward, t.dout.tensor(), t.dq.tensor(), t.dk.tensor(), t.dv.tensor());
    }

    /** Own rows of the others' heads go, others' rows of own heads come back as outputs and lse. */
    @Test
    void bytesSentAreThoseOfTwoAllToAlls() {
        Plan plan = plan(problem(6, 3), 3, new Ulysses());
        long all = 2 * LENGTH;
        for (int rank = 0; rank < 3; rank++) {
            long own = 2 * plan.queries().localLength(rank);
            long keys = (8 + 4) * 2;
            long backward = own * (4 * (8 * 2 + 4 * 2 + 2 * 4) + 2 * keys) + (all - own) * (2 * 8 * 4 + (8 + 4) * 4);
            assertThat(plan.forwardBytesSent(rank))
                    .isEqualTo(own * (4 * 8 * 2 + 2 * keys) + (all - own) * 2 * (4 * 2 + 4));
            assertThat(plan.backwardBytesSent(rank)).isEqualTo(backward);
        }
        assertThat(plan.steps()).isEqualTo(3);
        assertThat(plan.computes(0, 0) || plan.computes(0, 2)).isFalse();
        assertThat(plan.source(1, 1)).isEqualTo(-1);
    }

    @Test
    void flopsAreTheShareOfTheHeads() {
        double whole = Plan.of(
                        problem(5, 5).shape(),
                        Layout.contiguous(LENGTH, 1),
                        MaskRule.CAUSAL.mask(),
                        AttentionOptions.defaults())
                .forwardFlops(0);
        Plan plan = plan(problem(5, 5), 3, new Ulysses());
        assertThat(List.of(plan.forwardFlops(0), plan.forwardFlops(1), plan.forwardFlops(2)))
                .containsExactly(2 * whole / 5, 2 * whole / 5, whole / 5);
        assertThat(plan.headsDealt()).isEqualTo("1 to 2 of 5 query heads a rank, at most 1.20 times the mean");
        assertThat(plan.toString()).contains(plan.headsDealt());
        assertThat(plan(problem(8, 2), 4, new Ulysses()).headsDealt())
                .isEqualTo("2 of 8 query heads a rank, key heads repeated");
    }

    @ParameterizedTest
    @CsvSource("4, 6, 1, 2, 1")
    void callsAllocateNothing(int world, long queryHeads, long kvHeads, int ranks, int gathered) {
        Problem problem = problem(queryHeads, kvHeads);
        Plan plan = plan(problem, world, strategy(ranks, gathered));
        List<Long> allocated = LocalGroup.run(world, communicator -> {
            RankTensors t = tensors(problem, plan, communicator.rank());
            Forward forward = forward(t);
            Backward backward = backward(forward, t);
            try (ShardedAttention attention = new ShardedAttention(plan, communicator)) {
                return HeapBytes.of(() -> {
                    attention.forward(forward, 0);
                    attention.backward(backward, 0);
                });
            }
        });
        assertThat(allocated).allMatch(bytes -> bytes < HeapBytes.OF_AN_OBJECT_A_CALL);
    }
}
