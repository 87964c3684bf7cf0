package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.offset;

import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Mesh;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Ring;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Losses by position: of a row that a token is added to, the new one's is the difference of two means. */
class PositionLossTest {
    private static final DenseModel TINY = DenseModel.of(2, 4, 2, 16, 24, 13);
    private static final int LENGTH = PositionLoss.BINS; // a token a bin

    /** What a rank says of its first step. */
    private record Seen(double loss, double[] byPosition, double batch) {}

    private static List<Seen> step(String mesh, int rows, long[] documents, long[][] tokens) {
        DenseSettings settings = new DenseSettings(
                TINY,
                DType.FLOAT64,
                Mesh.of(mesh),
                rows,
                Layout.Policy.ZIGZAG,
                documents,
                0,
                new Ring(),
                Recompute.KEEP,
                1,
                16,
                16);
        return LocalGroup.run(settings.mesh().worldSize(), world -> {
            try (DenseRank rank = new DenseRank(settings, AdamW.of(1e-2, 1), world)) {
                rank.initialize(3);
                double loss = rank.step(tokens).loss();
                return new Seen(loss, rank.lossByPosition(), rank.seconds().get("batch"));
            }
        });
    }

    private static long[][] tokens(int rows, int length) {
        long[][] tokens = new long[rows][];
        Arrays.setAll(
                tokens,
                row -> new Random(row).longs(length, 0, TINY.vocabulary()).toArray());
        return tokens;
    }

    @ParameterizedTest
    @CsvSource({"cp=3, 1", "'dp=2,cp=2', 3"})
    void eachBinHasTheMeanOfItsTokensOverAllRanks(String mesh, int rows) {
        long[][] tokens = tokens(rows, LENGTH);
        List<Seen> ranks = step(mesh, rows, new long[] {0, LENGTH}, tokens);
        double[] bins = ranks.get(0).byPosition();
        assertThat(ranks).allSatisfy(rank -> {
            assertThat(rank.byPosition()).isEqualTo(bins);
            assertThat(rank.batch()).isPositive();
        });
        assertThat(bins).hasSize(LENGTH);
        assertThat(bins[LENGTH - 1]).isNaN(); // the last token has nothing to learn
        for (int length : new int[] {2, 17, 40, LENGTH - 1}) {
            double shorter = sum(rows, length, tokens);
            double longer = sum(rows, length + 1, tokens);
            assertThat(bins[length - 1]).isCloseTo((longer - shorter) / rows, offset(1e-9));
        }
        double mean = Arrays.stream(bins).limit(LENGTH - 1).average().orElseThrow();
        assertThat(ranks.get(0).loss()).isCloseTo(mean, offset(1e-12));
    }

    private static double sum(int rows, int length, long[][] tokens) {
        long[][] starts = new long[rows][];
        Arrays.setAll(starts, row -> Arrays.copyOf(tokens[row], length));
        return step("cp=1", rows, new long[] {0, length}, starts).get(0).loss() * rows * (length - 1);
    }

    @Test
    void positionsCountFromTheBeginningOfEachDocument() {
        long[][] tokens = tokens(1, LENGTH + 20);
        double[] packed = step("cp=2", 1, new long[] {0, LENGTH, LENGTH + 20}, tokens)
                .get(0)
                .byPosition();
        double[] first = step("cp=1", 1, new long[] {0, LENGTH}, new long[][] {Arrays.copyOf(tokens[0], LENGTH)})
                .get(0)
                .byPosition();
        double second = step(
                        "cp=1", 1, new long[] {0, 2}, new long[][] {Arrays.copyOfRange(tokens[0], LENGTH, LENGTH + 2)})
                .get(0)
                .loss();
        assertThat(packed[0]).isCloseTo((first[0] + second) / 2, offset(1e-9));
        assertThat(packed[40]).isCloseTo(first[40], offset(1e-9));
    }
}
