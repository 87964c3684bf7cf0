package org.flashring.sync;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.util.Arrays;
import java.util.List;
import org.flashring.comm.local.LocalGroup;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Losses weighted by tokens: the mean over all targets, whoever holds them. */
@Timeout(30)
class TokenLossTest {
    private static final long[] TARGETS = {5, 0, 17, 1, 0, 3, 100, 2};
    private static final double[] SUMS = {10.25, 0, 3.5, 7.125, 0, 0.5, 1234.75, 1e-3};

    @ParameterizedTest(name = "{0} ranks")
    @ValueSource(ints = {1, 2, 3, 4, 8})
    void everyRankGetsTheMeanOverAllTargets(int world) {
        long total = Arrays.stream(TARGETS, 0, world).sum();
        double mean = Arrays.stream(SUMS, 0, world).sum() / total;
        List<Double> means = LocalGroup.run(world, communicator -> {
            int rank = communicator.rank();
            try (TokenLoss loss = new TokenLoss(communicator)) {
                assertThat(loss.totalTargets(TARGETS[rank])).isEqualTo(total);
                double first = loss.mean(SUMS[rank], total);
                assertThat(loss.mean(SUMS[rank], total)).isEqualTo(first);
                return first;
            }
        });
        assertThat(means.get(0)).isCloseTo(mean, within(1e-12));
        assertThat(means).containsOnly(means.get(0));
    }

    @Test
    void countsBeyondWhatAFloatHoldsStayExact() {
        long many = (1L << 40) + 1;
        List<Long> totals = LocalGroup.run(3, communicator -> {
            try (TokenLoss loss = new TokenLoss(communicator)) {
                return loss.totalTargets(many);
            }
        });
        assertThat(totals).containsOnly(3 * many);
    }

    @Test
    void aBatchWithoutATargetAnywhereIsRefusedOnEveryRank() {
        LocalGroup.run(3, communicator -> {
            try (TokenLoss loss = new TokenLoss(communicator)) {
                assertThatThrownBy(() -> loss.totalTargets(0))
                        .isInstanceOf(IllegalArgumentException.class)
                        .hasMessageContaining("targets over all ranks")
                        .hasMessageContaining("0");
            }
            return null;
        });
    }
}
