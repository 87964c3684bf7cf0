package org.flashring.sync;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.util.Arrays;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Shards put together again are the whole batch with its labels shifted before the cut, token by token. */
class ShardedBatchTest {
    private static final int ROWS = 2;

    /** Documents by their offsets; the last offset may lie below the length, leaving tokens outside every document. */
    private record Documents(int length, long... offsets) {
        Mask mask() {
            return offsets.length == 0 ? Mask.causal() : Mask.causal().documents(offsets);
        }

        /**
         * Returns the first position of the document of {@code position} and the one after its last, or null outside
         * all.
         */
        int[] around(int position) {
            if (offsets.length == 0) {
                return new int[] {0, length};
            }
            for (int i = 1; i < offsets.length; i++) {
                if (offsets[i - 1] <= position && position < offsets[i]) {
                    return new int[] {(int) offsets[i - 1], (int) Math.min(length, offsets[i])};
                }
            }
            return null;
        }

        @Override
        public String toString() {
            return length + " tokens in " + Arrays.toString(offsets);
        }
    }

    static Stream<Arguments> cases() {
        return Stream.of(
                        new Documents(0),
                        new Documents(1),
                        new Documents(2),
                        new Documents(37),
                        new Documents(64),
                        new Documents(16, 0, 8, 16),
                        new Documents(17, 0, 1, 2, 9, 9, 16, 17),
                        new Documents(23, 0, 0, 23),
                        new Documents(20, 0, 7, 15),
                        new Documents(12, 0, 5, 30),
                        new Documents(9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9))
                .flatMap(documents -> Stream.of(Layout.Policy.values())
                        .flatMap(policy -> IntStream.of(1, 2, 3, 4, 8).boxed().flatMap(world -> IntStream.of(1, 2, 5)
                                .mapToObj(shift -> Arguments.of(documents, policy, world, shift)))));
    }

    @ParameterizedTest(name = "{0}, {1} over {2}, shift {3}")
    @MethodSource("cases")
    void shardsTogetherAreTheWholeBatchShiftedFirst(Documents documents, Layout.Policy policy, int world, int shift) {
        int length = documents.length();
        long[][] tokens = new long[ROWS][length];
        long[][] targets = new long[ROWS][length];
        Random random = new Random(length * 31L + world);
        for (int row = 0; row < ROWS; row++) {
            for (int i = 0; i < length; i++) {
                tokens[row][i] = random.nextInt(50_000);
                targets[row][i] = random.nextInt(4) == 0 ? ShardedBatch.IGNORE_INDEX : random.nextInt(50_000);
            }
        }
        Layout layout = Layout.of(policy, length, world);
        int[] held = new int[length];
        long counted = 0;
        for (int rank = 0; rank < world; rank++) {
            ShardedBatch shard = ShardedBatch.of(tokens, new Labels(targets, shift, layout, documents.mask()), rank);
            Positions positions = layout.positions(rank);
            assertThat(shard.batch()).isEqualTo(ROWS);
            assertThat(shard.localLength()).isEqualTo((int) positions.length());
            assertThat(shard.tokens()).hasSize(ROWS * shard.localLength());
            for (int i = 0; i < shard.localLength(); i++) {
                int position = (int) positions.position(i);
                held[position]++;
                int[] document = documents.around(position);
                boolean learns = document != null && position + shift < document[1];
                for (int row = 0; row < ROWS; row++) {
                    int at = row * shard.localLength() + i;
                    assertThat(shard.tokens()[at]).isEqualTo(tokens[row][position]);
                    assertThat(shard.labels()[at])
                            .as("label of position %d", position)
                            .isEqualTo(learns ? targets[row][position + shift] : ShardedBatch.IGNORE_INDEX);
                    if (document != null) {
                        assertThat(shard.positions()[at]).isEqualTo(position - document[0]);
                    }
                }
            }
            long labels = Arrays.stream(shard.labels())
                    .filter(label -> label != ShardedBatch.IGNORE_INDEX)
                    .count();
            assertThat(shard.targets()).isEqualTo(labels);
            counted += labels;
        }
        assertThat(held).as("how often each position is held").containsOnly(length == 0 ? new int[0] : new int[] {1});
        assertThat(counted).as("targets over all ranks").isEqualTo(targetsOf(documents, targets, shift));
    }

    /**
     * Counts targets document by document: all but the first {@code shift} tokens of each, that are not to be ignored.
     */
    private static long targetsOf(Documents documents, long[][] targets, int shift) {
        long[] offsets = documents.offsets().length == 0 ? new long[] {0, documents.length()} : documents.offsets();
        long count = 0;
        for (int i = 1; i < offsets.length; i++) {
            for (long position = offsets[i - 1] + shift;
                    position < Math.min(offsets[i], documents.length());
                    position++) {
                for (long[] row : targets) {
                    count += row[(int) position] == ShardedBatch.IGNORE_INDEX ? 0 : 1;
                }
            }
        }
        return count;
    }

    @Test
    void theLastTokenOfAShardLearnsTheFirstOfTheNext() {
        long[][] tokens = {{10, 11, 12, 13, 14, 15, 16, 17}};
        Layout layout = Layout.contiguous(8, 2);
        Mask mask = Mask.causal().documents(0, 6, 8);
        ShardedBatch first = ShardedBatch.of(tokens, layout, mask, 0);
        ShardedBatch second = ShardedBatch.of(tokens, layout, mask, 1);
        assertThat(first.labels()).containsExactly(11, 12, 13, 14);
        assertThat(second.labels()).containsExactly(15, ShardedBatch.IGNORE_INDEX, 17, ShardedBatch.IGNORE_INDEX);
        assertThat(second.positions()).containsExactly(4, 5, 0, 1);
        assertThat(first.targets() + second.targets()).isEqualTo(6);
    }

    @Test
    void rowsHaveTheirOwnDocuments() {
        long[][] tokens = {{10, 11, 12, 13, 14, 15}, {20, 21, 22, 23, 24, 25}};
        Mask mask = Mask.causal().packedRows(new long[] {0, 6}, new long[] {0, 1, 4});
        ShardedBatch first = ShardedBatch.of(tokens, Layout.contiguous(6, 2), mask, 0);
        ShardedBatch second = ShardedBatch.of(tokens, Layout.contiguous(6, 2), mask, 1);
        long none = ShardedBatch.IGNORE_INDEX;
        assertThat(first.labels()).containsExactly(11, 12, 13, none, 22, 23);
        assertThat(first.positions()).containsExactly(0, 1, 2, 0, 0, 1);
        assertThat(second.labels()).containsExactly(14, 15, none, none, none, none);
        assertThat(second.positions()).startsWith(3, 4, 5, 2);
        assertThat(second.tokens()).containsExactly(13, 14, 15, 23, 24, 25);
        assertThat(first.targets() + second.targets()).isEqualTo(7);
    }

    @Test
    void masksThatSayNothingOfTheseTokensAreRefused() {
        long[][] tokens = {{1, 2, 3}};
        Layout layout = Layout.contiguous(3, 1);
        Mask rows = Mask.causal().packedRows(new long[] {0, 3}, new long[] {0, 3});
        assertThatThrownBy(() -> ShardedBatch.of(tokens, layout, rows, 0))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("tokens.length is 1; it must be 2, the rows that the mask has documents of");
        Mask cross = Mask.full().documents(new long[] {0, 3}, new long[] {0, 5});
        assertThatThrownBy(() -> ShardedBatch.of(tokens, layout, cross, 0))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith("mask is full, 1 documents of queries and of keys; it must have one list");
    }

    /**
     * A million tokens in documents of 16: what a rank makes is its tokens, positions and labels, and a copy of the
     * documents' offsets.
     */
    @ParameterizedTest
    @EnumSource(Layout.Policy.class)
    void aMillionTokensTakeMemoryInProportion(Layout.Policy policy) {
        int length = 1 << 20;
        int world = 8;
        int documents = length / 16;
        long[][] tokens = {new long[length]};
        long[] offsets = LongStream.rangeClosed(0, documents).map(i -> 16 * i).toArray();
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        threads.getCurrentThreadAllocatedBytes();
        long start = threads.getCurrentThreadAllocatedBytes();
        Layout layout = Layout.of(policy, offsets, world);
        Mask mask = Mask.causal().documents(offsets);
        long laidOut = threads.getCurrentThreadAllocatedBytes() - start;
        assertThat(laidOut)
                .as("bytes of layout and mask")
                .isLessThan(1000L * documents * (policy == Layout.Policy.ZIGZAG ? world : 1));
        long targets = 0;
        for (int rank = 0; rank < world; rank++) {
            start = threads.getCurrentThreadAllocatedBytes();
            ShardedBatch shard = ShardedBatch.of(tokens, layout, mask, rank);
            long made = threads.getCurrentThreadAllocatedBytes() - start;
            assertThat(made)
                    .as("bytes of rank %d", rank)
                    .isLessThan(3L * 8 * shard.localLength() + 8L * documents + 10_000);
            targets += shard.targets();
        }
        assertThat(targets).isEqualTo(length - documents);
    }

    @Test
    void arraysAreTheCallersToChange() {
        long[][] tokens = {{1, 2, 3, 4}};
        ShardedBatch batch = ShardedBatch.of(tokens, Layout.contiguous(4, 1), Mask.causal(), 0);
        tokens[0][0] = 99;
        batch.tokens()[1] = 99;
        batch.labels()[1] = 99;
        batch.positions()[1] = 99;
        assertThat(batch.tokens()).containsExactly(1, 2, 3, 4);
        assertThat(batch.labels()).containsExactly(2, 3, 4, ShardedBatch.IGNORE_INDEX);
        assertThat(batch.positions()).containsExactly(0, 1, 2, 3);
    }
}
