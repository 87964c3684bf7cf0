package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.offset;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.Function;
import org.bytedeco.javacpp.Pointer;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Mesh;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Ring;
import org.flashring.support.Strategies;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** A step's loss and gradients are those of one rank with one tile, however it is cut. */
class DenseStepTest {
    private static final DenseModel TINY = DenseModel.of(2, 4, 2, 16, 24, 11);
    private static final AdamW ADAM = AdamW.of(1e-2, 1);
    private static final double CLOSE = 1e-12;

    private static DenseSettings settings(String mesh, int rows, Layout.Policy policy, long length) {
        return DenseSettings.of(TINY, DType.FLOAT64, Mesh.of(mesh), rows, policy, length, new Ring());
    }

    private static long[][] tokens(int rows, int length) {
        Random random = new Random(3);
        long[][] tokens = new long[rows][length];
        for (long[] row : tokens) {
            Arrays.setAll(row, i -> random.nextInt(TINY.vocabulary()));
        }
        return tokens;
    }

    private static <T> List<T> onRanks(DenseSettings settings, Function<DenseRank, T> body) {
        return LocalGroup.run(settings.mesh().worldSize(), world -> {
            try (DenseRank rank = new DenseRank(settings, ADAM, world)) {
                rank.initialize(5);
                return body.apply(rank);
            }
        });
    }

    private static double[] gradients(DenseSettings settings, long[][] tokens) {
        return DenseProbe.sum(onRanks(settings, rank -> DenseProbe.gradients(rank, tokens)));
    }

    private static void assertClose(double[] actual, double[] expected, double most) {
        assertThat(actual).hasSameSizeAs(expected);
        for (int i = 0; i < expected.length; i++) {
            if (!(Math.abs(actual[i] - expected[i]) <= most)) {
                assertThat(actual[i]).as("element %d", i).isCloseTo(expected[i], offset(most));
            }
        }
        assertThat(Arrays.stream(expected).map(Math::abs).max().orElseThrow()).isGreaterThan(1e-2);
    }

    @ParameterizedTest(name = "{0}, {1} rows of {2}, {3}, {4}, {5}, {6} head groups, tiles of {7} and {8}")
    @CsvSource({
        "cp=1, 1, 29, ZIGZAG, ring, FULL, 1, 16384, 4096",
        "cp=1, 2, 29, ZIGZAG, ring, NONE, 2, 7, 5",
        "cp=3, 1, 31, ZIGZAG, ring, NONE, 1, 5, 16",
        "cp=1, 2, 29, ZIGZAG, ring, KEEP, 2, 7, 5",
        "cp=2, 1, 29, CONTIGUOUS, ring, KEEP, 1, 5, 3",
        "cp=3, 1, 31, ZIGZAG, gather 1, FULL, 2, 1, 1",
        "cp=4, 1, 37, STRIPED, ulysses, KEEP, 1, 7, 5",
        "cp=4, 1, 37, ZIGZAG, 2 x ring, FULL, 1, 16384, 4096",
        "cp=5, 1, 41, ZIGZAG, ring, KEEP, 2, 4, 100",
        "cp=5, 1, 3, ZIGZAG, ring, FULL, 1, 4, 4",
        "'dp=2,cp=2', 3, 23, ZIGZAG, halo, FULL, 1, 6, 4"
    })
    void gradientsAreThoseOfOneRank(
            String mesh,
            int rows,
            int length,
            Layout.Policy policy,
            String strategy,
            Recompute recompute,
            int headGroups,
            int tile,
            int lossTile) {
        DenseSettings cut = new DenseSettings(
                TINY,
                DType.FLOAT64,
                Mesh.of(mesh),
                rows,
                policy,
                new long[] {0, length},
                0,
                Strategies.named(strategy),
                recompute,
                headGroups,
                tile,
                lossTile);
        long[][] tokens = tokens(rows, length);
        assertClose(
                gradients(cut, tokens),
                gradients(settings("cp=1", rows, Layout.Policy.CONTIGUOUS, length), tokens),
                CLOSE);
    }

    @ParameterizedTest(name = "{0} layers, {1} ranks, {2}, {3} head groups")
    @CsvSource({"1, 1, KEEP, 1", "3, 2, KEEP, 1", "4, 1, KEEP, 2", "5, 3, FULL, 1", "6, 2, FULL, 2", "5, 2, NONE, 2"})
    void whatWaitsInTheHostsMemoryComesBackAsItWas(int layers, int ranks, Recompute recompute, int headGroups) {
        DenseSettings kept = DenseSettings.of(
                        DenseModel.of(layers, 4, 2, 16, 24, 11),
                        DType.FLOAT32,
                        Mesh.of(1, ranks, 1, 1),
                        1,
                        Layout.Policy.ZIGZAG,
                        29,
                        new Ring())
                .with(recompute)
                .withHeadGroups(headGroups);
        long[][] tokens = tokens(1, 29);
        Function<DenseRank, List<double[]>> learn = rank -> {
            rank.step(tokens);
            DenseProbe.poison(rank);
            return List.of(DenseProbe.gradients(rank, tokens), DenseProbe.weights(rank));
        };
        List<List<double[]>> offloaded = onRanks(kept.withOffload(true), learn);
        List<List<double[]>> expected = onRanks(kept, learn);
        for (int rank = 0; rank < ranks; rank++) {
            assertThat(offloaded.get(rank).get(0)).isEqualTo(expected.get(rank).get(0));
            assertThat(offloaded.get(rank).get(1)).isEqualTo(expected.get(rank).get(1));
        }
    }

    @ParameterizedTest
    @EnumSource
    void whatIsKeptChangesNoBit(Recompute recompute) {
        DenseSettings keep =
                DenseSettings.of(TINY, DType.FLOAT32, Mesh.of("cp=2"), 1, Layout.Policy.ZIGZAG, 29, new Ring());
        long[][] tokens = tokens(1, 29);
        assertThat(gradients(keep.with(recompute), tokens)).isEqualTo(gradients(keep, tokens));
    }

    @ParameterizedTest
    @CsvSource({"1", "3"})
    void packedDocumentsAreTrainedLikeRowsOfTheirOwn(int ranks) {
        long[] offsets = {0, 13, 31};
        long[][] tokens = tokens(1, 31);
        DenseSettings packed = new DenseSettings(
                TINY,
                DType.FLOAT64,
                Mesh.of(1, ranks, 1, 1),
                1,
                Layout.Policy.ZIGZAG,
                offsets,
                0,
                new Ring(),
                Recompute.KEEP,
                1,
                8,
                8);
        double[] expected = new double[(int) new Parameters(TINY).elements()];
        for (int document = 0; document < 2; document++) {
            int length = (int) (offsets[document + 1] - offsets[document]);
            long[][] alone = {Arrays.copyOfRange(tokens[0], (int) offsets[document], (int) offsets[document + 1])};
            double[] part = gradients(settings("cp=1", 1, Layout.Policy.CONTIGUOUS, length), alone);
            for (int i = 0; i < expected.length; i++) {
                expected[i] += part[i] * (length - 1) / (31 - 2);
            }
        }
        assertClose(gradients(packed, tokens), expected, CLOSE);
    }

    @ParameterizedTest
    @CsvSource({"'cp=3', 1", "'dp=2,cp=2', 3"})
    void ranksLearnWhatOneRankLearns(String mesh, int rows) {
        long[][] tokens = tokens(rows, 29);
        Function<DenseRank, double[]> learn = rank -> {
            for (int i = 0; i < 4; i++) {
                rank.step(tokens);
            }
            return DenseProbe.weights(rank);
        };
        List<double[]> weights = onRanks(settings(mesh, rows, Layout.Policy.ZIGZAG, 29), learn);
        assertClose(
                weights.get(0),
                onRanks(settings("cp=1", rows, Layout.Policy.ZIGZAG, 29), learn).get(0),
                1e-9);
        assertThat(weights).allSatisfy(each -> assertThat(each).isEqualTo(weights.get(0)));
    }

    @ParameterizedTest
    @CsvSource({"FLOAT32, 1e-6", "FLOAT64, 1e-15"})
    void stepsRepeatToTheBitAndFloat32IsNear(DType type, double near) {
        DenseSettings wide = settings("cp=2", 1, Layout.Policy.ZIGZAG, 29);
        DenseSettings settings =
                DenseSettings.of(TINY, type, wide.mesh(), 1, Layout.Policy.ZIGZAG, 29, wide.strategy());
        long[][] tokens = tokens(1, 29);
        double[] once = gradients(settings, tokens);
        assertThat(gradients(settings, tokens)).isEqualTo(once);
        assertClose(once, gradients(wide, tokens), near);
    }

    @ParameterizedTest
    @EnumSource
    void nothingIsReadThatTheStepHasNotWritten(Recompute recompute) {
        DenseSettings settings = settings("cp=2", 1, Layout.Policy.ZIGZAG, 29).with(recompute);
        long[][] tokens = tokens(1, 29);
        onRanks(settings, rank -> {
            double[] once = DenseProbe.gradients(rank, tokens);
            DenseProbe.poison(rank);
            assertThat(DenseProbe.gradients(rank, tokens)).isEqualTo(once).doesNotContain(Double.NaN);
            return null;
        });
    }

    @Test
    void aStepWhoseGradientsAreNotFiniteIsSkippedOnAllRanks() {
        DenseSettings settings = settings("cp=3", 1, Layout.Policy.ZIGZAG, 29);
        long[][] tokens = tokens(1, 29);
        onRanks(settings, rank -> {
            double[] before = DenseProbe.weights(rank);
            rank.gradients(tokens);
            if (rank.all().rank() == 1) {
                ShardedAdamW.Share share = rank.optimizer().shares().get(0);
                HostOps.view().putDouble(rank.optimizer().gradients(share), Double.NaN);
            }
            assertThat(rank.optimizer().update().taken()).isFalse();
            assertThat(DenseProbe.weights(rank)).isEqualTo(before);
            assertThat(rank.step(tokens).taken()).isTrue();
            assertThat(rank.optimizer().updates()).isEqualTo(1);
            assertThat(DenseProbe.weights(rank)).isNotEqualTo(before);
            return null;
        });
    }

    @Test
    void longGradientsAreClippedToOneNorm() {
        DenseSettings settings = settings("cp=2", 1, Layout.Policy.ZIGZAG, 29);
        long[][] tokens = tokens(1, 29);
        List<DenseRank.Figures> figures = onRanks(settings, rank -> rank.step(tokens));
        double square =
                Arrays.stream(gradients(settings, tokens)).map(g -> g * g).sum();
        assertThat(figures.get(0).norm()).isCloseTo(Math.sqrt(square), offset(1e-12));
        assertThat(figures.get(1)).isEqualTo(figures.get(0));
    }

    /** Some objects of a step's arithmetic are there however long the rows are; arrays would grow with them. */
    @Test
    void stepsTakeNoMemoryThatGrowsWithTheTokens() {
        long arraysOfABatch = 20L * Long.BYTES * (251 - 61); // the library's copies of tokens, labels and positions
        assertThat(heapBytesOfStep(251) - heapBytesOfStep(61)).isLessThan(arraysOfABatch);
    }

    /** Returns the least bytes that a step after the first ones puts on the heap, and checks that none are outside. */
    private static long heapBytesOfStep(int length) {
        DenseSettings settings = settings("cp=1", 1, Layout.Policy.ZIGZAG, length);
        long[][] tokens = tokens(1, length);
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        return onRanks(settings, rank -> {
                    rank.step(tokens);
                    rank.step(tokens);
                    long pointers = Pointer.totalCount();
                    long least = Long.MAX_VALUE;
                    for (int i = 0; i < 3; i++) {
                        long before = threads.getCurrentThreadAllocatedBytes();
                        rank.step(tokens);
                        least = Math.min(least, threads.getCurrentThreadAllocatedBytes() - before);
                    }
                    assertThat(Pointer.totalCount()).isLessThanOrEqualTo(pointers);
                    return least;
                })
                .get(0);
    }

    @Test
    void idsThatTheVocabularyLacksAreRefused() {
        long[][] tokens = tokens(1, 29);
        tokens[0][17] = TINY.vocabulary();
        assertThatThrownBy(() -> gradients(settings("cp=1", 1, Layout.Policy.ZIGZAG, 29), tokens))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("is 11; it must lie in [0, 10]");
    }
}
