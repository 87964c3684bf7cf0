package org.flashring.sync;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import java.util.BitSet;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.DType;
import org.flashring.comm.local.LocalGroup;
import org.flashring.support.Elements;
import org.flashring.support.FencedBuffer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Bucketed sums against plain ones, bit for bit, whatever the sizes, the buckets and the order in which gradients come.
 */
@Timeout(60)
class GradientSyncTest {
    private static final long[] COUNTS = {3, 1, 700, 2, 2, 64, 1, 1, 33, 5};

    /** Bucket sizes in elements: every gradient alone, edges that just fit and just do not, all in one. */
    static Stream<Arguments> cases() {
        return IntStream.of(1, 2, 3, 4, 8).boxed().flatMap(world -> Stream.of(DType.values())
                .flatMap(dtype -> IntStream.of(1, 5, 38, 39, 40, 104, 812, 1 << 20)
                        .mapToObj(elements -> Arguments.of(world, dtype, elements))));
    }

    private static double gradient(DType dtype, int rank, int round, int parameter, int i) {
        long mixed = (i + 1) * 0x9E3779B97F4A7C15L + (rank * 64 + round * 16 + parameter) * 0xBF58476D1CE4E5B9L;
        return Elements.round(dtype, (mixed >> 40) * 0x1p-21);
    }

    private static double sum(DType dtype, int world, int round, int parameter, int i) {
        double sum = gradient(dtype, 0, round, parameter, i);
        for (int rank = 1; rank < world; rank++) {
            sum = Elements.round(dtype.accumulator(), sum + gradient(dtype, rank, round, parameter, i));
        }
        return Elements.round(dtype, sum);
    }

    @ParameterizedTest(name = "{0} ranks, {1}, buckets of {2}")
    @MethodSource("cases")
    void everyGradientBecomesItsSumOverRanks(int world, DType dtype, int bucketElements) {
        LocalGroup.run(world, communicator -> {
            int rank = communicator.rank();
            FencedBuffer[] gradients = Arrays.stream(COUNTS)
                    .mapToObj(count -> new FencedBuffer(dtype, count))
                    .toArray(FencedBuffer[]::new);
            try (GradientSync sync =
                    new GradientSync(communicator, dtype, COUNTS, (long) bucketElements * dtype.bytes())) {
                for (int round = 0; round < 2; round++) {
                    for (int p = 0; p < COUNTS.length; p++) {
                        for (int i = 0; i < COUNTS[p]; i++) {
                            gradients[p].put(i, gradient(dtype, rank, round, p, i));
                        }
                        gradients[p].freeze();
                    }
                    for (int p : order(rank, round)) {
                        sync.ready(p, gradients[p].memory(0).address());
                    }
                    sync.finish();
                    for (int p = 0; p < COUNTS.length; p++) {
                        BitSet inside = new BitSet();
                        inside.set(0, (int) COUNTS[p]);
                        gradients[p].requireUntouched("gradient " + p, inside);
                        for (int i = 0; i < COUNTS[p]; i++) {
                            assertEquals(
                                    sum(dtype, world, round, p, i),
                                    gradients[p].get(i),
                                    "element " + i + " of gradient " + p);
                        }
                    }
                }
            }
            return null;
        });
    }

    /** The order in which gradients come: that of backward first, then another one on each rank. */
    private static List<Integer> order(int rank, int round) {
        List<Integer> order = IntStream.range(0, COUNTS.length).boxed().collect(Collectors.toList());
        Collections.reverse(order);
        if (round > 0) {
            Collections.shuffle(order, new Random(rank));
        }
        return order;
    }

    @Test
    void bucketsFillFromTheLastGradientAndNeverBeyondTheirSize() {
        assertThat(buckets(1)).isEqualTo(10);
        assertThat(buckets(38)).isEqualTo(6); // from the last: 5 + 33 | 1 + 1 | 64 | 2 + 2 | 700 | 1 + 3
        assertThat(buckets(812)).isEqualTo(1);
        assertThat(buckets(811)).isEqualTo(2);
    }

    private static int buckets(int elements) {
        try (GradientSync sync = new GradientSync(LocalGroup.single(), DType.FLOAT64, COUNTS, 8L * elements)) {
            return sync.buckets();
        }
    }

    @Test
    void aBucketIsSummedAsSoonAsItIsCompleteAndThoseBeforeItAre() {
        LocalGroup.run(2, communicator -> {
            FencedBuffer[] gradients = {new FencedBuffer(DType.FLOAT32, 1), new FencedBuffer(DType.FLOAT32, 1)};
            try (GradientSync sync = new GradientSync(communicator, DType.FLOAT32, new long[] {1, 1}, 4)) {
                gradients[0].put(0, 1);
                gradients[1].put(0, 2);
                sync.ready(1, gradients[1].memory(0).address());
                assertThat(gradients[1].get(0)).isEqualTo(4); // before finish, while backward goes on
                sync.ready(0, gradients[0].memory(0).address());
                assertThat(gradients[0].get(0)).isEqualTo(2);
                sync.finish();
            }
            return null;
        });
    }

    @Test
    void aMissingGradientIsNamed() {
        try (GradientSync sync = new GradientSync(LocalGroup.single(), DType.FLOAT32, new long[] {4, 4, 4}, 64)) {
            FencedBuffer gradient = new FencedBuffer(DType.FLOAT32, 4);
            sync.ready(2, gradient.memory(0).address());
            sync.ready(0, gradient.memory(0).address());
            assertThatThrownBy(sync::finish)
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("gradient 1 of 3");
        }
    }
}
