package org.flashring.sync;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Random;
import java.util.stream.IntStream;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.comm.Mesh;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What each rank of a mesh gets of a batch: its replica's rows, its shard's columns, what its stage reads. */
class PipelineStageTest {
    private static final int LENGTH = 23;
    private static final Mask MASK = Mask.causal().documents(0, 9, 10, 23);
    private static final long IGNORE = ShardedBatch.IGNORE_INDEX;

    private static long[][] random(int rows, int seed) {
        Random random = new Random(seed);
        return IntStream.range(0, rows)
                .mapToObj(row -> random.longs(LENGTH, 0, 50_000).toArray())
                .toArray(long[][]::new);
    }

    @Test
    void stagesGoByTheCoordinateOnPp() {
        Mesh mesh = Mesh.of("pp=4,cp=2");
        assertThat(IntStream.range(0, 8).mapToObj(rank -> PipelineStage.of(mesh, rank)))
                .containsExactly(
                        PipelineStage.FIRST,
                        PipelineStage.FIRST,
                        PipelineStage.MIDDLE,
                        PipelineStage.MIDDLE,
                        PipelineStage.MIDDLE,
                        PipelineStage.MIDDLE,
                        PipelineStage.LAST,
                        PipelineStage.LAST);
        assertThat(PipelineStage.of(Mesh.of("cp=4"), 3)).isEqualTo(PipelineStage.ONLY);
        assertThat(PipelineStage.of(Mesh.of("cp=2,pp=2"), 3)).isEqualTo(PipelineStage.LAST);
    }

    /**
     * Every token of the batch is read once by the first stage, and every target learnt once by the last, whatever the
     * mesh; the last stage is given no tokens, the first no targets, the middle neither.
     */
    @ParameterizedTest
    @CsvSource({
        "'pp=3,dp=2,cp=2', 5, 1, ZIGZAG",
        "'cp=3,pp=4,dp=2', 4, 2, STRIPED",
        "'dp=4,cp=2,pp=2', 3, 3, CONTIGUOUS",
        "'dp=2,cp=2x2', 2, 1, ZIGZAG"
    })
    void everyTokenIsReadOnceAndEveryTargetLearntOnce(String axes, int rows, int shift, Layout.Policy policy) {
        Mesh mesh = Mesh.of(axes);
        long[][] tokens = random(rows, 1);
        long[][] targets = random(rows, 2);
        Layout layout = Layout.of(policy, LENGTH, mesh.size("cp"));
        int[][] read = new int[rows][LENGTH];
        int[][] learnt = new int[rows][LENGTH];
        for (int rank = 0; rank < mesh.worldSize(); rank++) {
            PipelineStage stage = PipelineStage.of(mesh, rank);
            ShardedBatch batch = ShardedBatch.of(
                    mesh,
                    rows,
                    stage.hasTokens() ? tokens : null,
                    new Labels(stage.hasLabels() ? targets : null, shift, layout, MASK),
                    rank);
            int firstRow = (int) mesh.part("dp", rank, rows).first();
            long counted = 0;
            for (int row = 0; row < batch.batch(); row++) {
                for (int i = 0; i < batch.localLength(); i++) {
                    int position =
                            (int) layout.positions(mesh.coordinate("cp", rank)).position(i);
                    int at = row * batch.localLength() + i;
                    int start = position < 9 ? 0 : position < 10 ? 9 : 10;
                    int end = position < 9 ? 9 : position < 10 ? 10 : 23;
                    assertThat(batch.positions()[at]).isEqualTo(position - start);
                    if (stage.hasTokens()) {
                        assertThat(batch.tokens()[at]).isEqualTo(tokens[firstRow + row][position]);
                        read[firstRow + row][position]++;
                    }
                    if (stage.hasLabels()) {
                        boolean learns = position + shift < end;
                        assertThat(batch.labels()[at])
                                .isEqualTo(learns ? targets[firstRow + row][position + shift] : IGNORE);
                        if (learns) {
                            learnt[firstRow + row][position + shift]++;
                            counted++;
                        }
                    }
                }
            }
            assertThat(batch.targets()).isEqualTo(counted);
        }
        for (int row = 0; row < rows; row++) {
            assertThat(read[row]).containsOnly(1);
            for (int position = 0; position < LENGTH; position++) {
                int start = position < 9 ? 0 : position < 10 ? 9 : 10;
                assertThat(learnt[row][position]).isEqualTo(position - start >= shift ? 1 : 0);
            }
        }
    }

    @Test
    void aStageHasWhatItReadsAlone() {
        Layout layout = Layout.contiguous(LENGTH, 2);
        ShardedBatch last = ShardedBatch.of(PipelineStage.LAST, 2, null, new Labels(random(2, 3), 1, layout, MASK), 1);
        assertThat(last.targets()).isEqualTo(2 * 10); // positions 12 to 21
        assertThatThrownBy(last::tokens)
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("no tokens");
        ShardedBatch first =
                ShardedBatch.of(PipelineStage.FIRST, 2, random(2, 3), new Labels(null, 1, layout, MASK), 1);
        assertThat(first.tokens()).hasSize(2 * 11);
        assertThat(first.targets()).isZero();
        assertThatThrownBy(first::labels)
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("no labels");
        ShardedBatch middle = ShardedBatch.of(PipelineStage.MIDDLE, 2, null, new Labels(null, 1, layout, MASK), 0);
        assertThat(middle.positions()).hasSize(2 * 12);
    }

    @Test
    void aReplicaWithoutARowHasNoTargets() {
        ShardedBatch none = ShardedBatch.of(
                Mesh.of("dp=3,cp=2"), 2, random(2, 4), new Labels(random(2, 5), 1, Layout.zigzag(LENGTH, 2), MASK), 5);
        assertThat(none.batch()).isZero();
        assertThat(none.tokens()).isEmpty();
        assertThat(none.targets()).isZero();
    }

    @Test
    void whatAStageReadsMustBeGiven() {
        Layout layout = Layout.contiguous(LENGTH, 2);
        Mesh mesh = Mesh.of("pp=2,cp=2");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> ShardedBatch.of(mesh, 2, null, new Labels(random(2, 1), 1, layout, MASK), 0))
                .withMessageContaining("tokens is null");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> ShardedBatch.of(mesh, 2, random(2, 1), new Labels(null, 1, layout, MASK), 2))
                .withMessageContaining("targets is null");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> ShardedBatch.of(mesh, 3, random(2, 1), new Labels(null, 1, layout, MASK), 0))
                .withMessageContaining("tokens.length is 2; it must be 3");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> ShardedBatch.of(
                        Mesh.of("dp=2,cp=3"), 2, random(2, 1), new Labels(random(2, 1), 1, layout, MASK), 0))
                .withMessageContaining("layout.worldSize is 2; it must be 3");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> ShardedBatch.of(PipelineStage.MIDDLE, 0, null, new Labels(null, 1, layout, MASK), 0))
                .withMessageContaining("rows is 0");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> ShardedBatch.of((PipelineStage) null, 1, null, new Labels(null, 1, layout, MASK), 0))
                .withMessageContaining("stage is null");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> PipelineStage.of(null, 0))
                .withMessageContaining("mesh is null");
    }
}
