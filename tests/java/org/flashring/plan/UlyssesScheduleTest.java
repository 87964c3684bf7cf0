package org.flashring.plan;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import java.util.Random;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Schedules of ranks that exchange heads: every head of every visible pair is computed once. */
class UlyssesScheduleTest {
    @ParameterizedTest
    @ValueSource(ints = {0, 1})
    void itIsTheOneWrittenByHand(int rank) {
        Problem small = Problem.of(ScheduleTest.shape(2), Layout.contiguous(4, 2), Mask.full());
        Schedule schedule = new Ulysses().schedules(small).apply(rank);
        Schedule byHand = HandWritten.ulyssesOfTwo(small, rank);
        assertThat(List.of(schedule.sources(), schedule.forward(), schedule.backward(), schedule.slots()))
                .isEqualTo(List.of(byHand.sources(), byHand.forward(), byHand.backward(), byHand.slots()));
        assertThat(schedule.room()).isEqualTo(byHand.room());
        assertThat(schedule.heads()).usingRecursiveComparison().isEqualTo(byHand.heads());
    }

    /** Whatever the heads: fewer key heads than ranks, heads that do not divide, parts of groups that do not. */
    @Test
    void ulyssesComputesEveryPairOnce() {
        int exchanged = 0;
        for (int seed = 0; seed < 20; seed++) {
            Problem any = ScheduleTest.random(new Random(seed), 6);
            long kvHeads = 1L + seed % 5;
            AttentionShape shape = AttentionShape.of(1, (1L + seed % 4) * kvHeads, kvHeads, 3, DType.FLOAT32);
            Problem problem = new Problem(shape, any.queries(), any.keys(), any.mask(), any.score());
            for (int ranks = 2; ranks <= Math.min(shape.queryHeads(), problem.worldSize()); ranks++) {
                if (problem.worldSize() % ranks != 0) {
                    continue;
                }
                for (Strategy inner : ScheduleTest.STRATEGIES) {
                    Strategy strategy = new Ulysses(ranks, inner);
                    try {
                        ScheduleSimulation.run(problem, ScheduleTest.all(problem, strategy.schedules(problem)));
                        exchanged++;
                    } catch (AssertionError e) {
                        throw new AssertionError(strategy + ", seed " + seed + ": " + problem, e);
                    }
                }
            }
        }
        assertThat(exchanged).isGreaterThan(20);
    }

    @Test
    void headsAreDealtInWholeGroupsOrPartsOfOne() {
        assertThat(Ulysses.shares(AttentionShape.of(1, 10, 5, 3, DType.FLOAT32), 2))
                .containsExactly(new HeadExchange.Share(0, 6, 0, 3), new HeadExchange.Share(6, 4, 3, 2));
        assertThat(Ulysses.shares(AttentionShape.of(1, 10, 2, 3, DType.FLOAT32), 4))
                .containsExactly(
                        new HeadExchange.Share(0, 3, 0, 1),
                        new HeadExchange.Share(3, 2, 0, 1),
                        new HeadExchange.Share(5, 3, 1, 1),
                        new HeadExchange.Share(8, 2, 1, 1));
    }

    @Test
    void ulyssesRefusesMoreRanksThanHeadsAndGroupsThatDoNotDivide() {
        Problem fewHeads = Problem.of(ScheduleTest.shape(1), Layout.zigzag(12, 4), Mask.causal());
        assertThatThrownBy(() -> new Ulysses().schedules(fewHeads))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("ranks of ulysses is 4; it must be at most the 2 query heads; a ring between groups of"
                        + " fewer ranks (2-D) serves more");
        assertThatThrownBy(() -> new Ulysses(3, new Ring()).schedules(fewHeads))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("ranks of ulysses is 3; it must divide the 4 ranks that there are");
        new Ulysses(2, new Ring()).schedules(fewHeads);
    }
}
