package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Positions;
import org.flashring.plan.Strategy;
import org.flashring.support.MaskRule;
import org.flashring.support.Oracle;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.flashring.support.Strategies;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Ranks that hold what their caller likes compute what one device does. */
class OwnPositionsTest {
    private static final int TOKENS = 37;
    private static final MaskRule MASK = MaskRule.CAUSAL.window(12, 0).documents(0, 15, 16, 37);

    /** Deals tokens at random; runs of equal distance in a rank's share are ranges with a stride. */
    private static Layout dealt(long seed, int world) {
        Random random = new Random(seed);
        List<List<Long>> shares = new ArrayList<>();
        for (int rank = 0; rank < world; rank++) {
            shares.add(new ArrayList<>());
        }
        for (long token = 0; token < TOKENS; token++) {
            shares.get(random.nextInt(world)).add(token);
        }
        return Layout.of(shares.stream().map(OwnPositionsTest::positions).toList());
    }

    private static Positions positions(List<Long> tokens) {
        List<Positions.Range> ranges = new ArrayList<>();
        int first = 0;
        while (first < tokens.size()) {
            int end = first + 1;
            long stride = end < tokens.size() ? tokens.get(end) - tokens.get(first) : 1;
            while (end < tokens.size() && tokens.get(end) - tokens.get(end - 1) == stride) {
                end++;
            }
            ranges.add(new Positions.Range(tokens.get(first), end - first, stride));
            first = end;
        }
        return Positions.of(ranges);
    }

    @ParameterizedTest
    @CsvSource({
        "1, ring",
        "2, ring",
        "3, ring",
        "5, ring",
        "16, ring",
        "2, gather 1",
        "3, gather 2",
        "5, gather 1",
        "3, halo",
        "5, halo"
    })
    void resultsAreThoseOfOneDevice(int world, String name) {
        Strategy strategy = Strategies.named(name);
        AttentionShape shape = AttentionShape.of(2, 4, 2, 8, DType.FLOAT64);
        Problem problem = Problem.of(shape, TOKENS, MASK, world);
        Result actual = new RingRun(
                        problem,
                        dealt(world, world),
                        dealt(world + 100, world),
                        strategy,
                        AttentionOptions.defaults(),
                        Placement.DENSE,
                        DType.FLOAT64)
                .run();
        actual.requireWithin(1e-12, Oracle.float64(problem), world + " ranks, " + strategy);
    }

    @Test
    void aLayoutIsWhatItsRanksHold() {
        Layout zigzag = Layout.zigzag(24, 3);
        Layout same = Layout.of(List.of(ends(0, 20), ends(4, 16), Positions.contiguous(8, 8)));
        assertThat(same).isEqualTo(zigzag).hasSameHashCodeAs(zigzag).isNotEqualTo(Layout.striped(24, 3));
        assertThat(same.policy()).isNull();
        assertThat(same).hasToString("own positions of 24 tokens over 3 ranks");
        assertThat(same.startingAt(100)).isEqualTo(zigzag.startingAt(100)).isNotEqualTo(zigzag);
        Layout later = Layout.of(List.of(Positions.contiguous(7, 5), Positions.contiguous(0, 0)));
        assertThat(later.start()).isEqualTo(7);
        assertThat(later.length()).isEqualTo(5);
        assertThat(Layout.of(List.of(Positions.contiguous(0, 0))).length()).isZero();
    }

    /** What is looked at, and kept, of two million million tokens is two ranges. */
    @Test
    void hugeShardsTakeNoTime() {
        long half = 1L << 40;
        Layout layout = Layout.of(List.of(Positions.contiguous(half, half), Positions.contiguous(0, half)));
        assertThat(layout.length()).isEqualTo(2 * half);
        assertThat(layout.rankOf(half - 1)).isEqualTo(1);
    }

    private static Positions ends(long first, long second) {
        return Positions.of(List.of(new Positions.Range(first, 4, 1), new Positions.Range(second, 4, 1)));
    }
}
