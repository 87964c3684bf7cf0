package org.flashring.sync;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.comm.Mesh;
import org.flashring.comm.local.LocalGroup;
import org.flashring.support.Elements;
import org.flashring.support.FencedBuffer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Sums that are scattered, divided or both, against those of one rank that has all gradients, bit for bit. */
@Timeout(60)
class ReductionTest {
    /** What divides by 2, by 3, by 4, by none, and less than there are ranks. */
    private static final long[] COUNTS = {3, 1, 700, 2, 12, 64, 1, 37};

    static Stream<Arguments> cases() {
        return IntStream.of(1, 2, 3, 4, 8).boxed().flatMap(world -> Stream.of(DType.values())
                .flatMap(dtype ->
                        IntStream.of(1, 13, 80, 1 << 20).mapToObj(elements -> Arguments.of(world, dtype, elements))));
    }

    private static double gradient(DType dtype, int rank, int parameter, int i) {
        long mixed = (i + 1) * 0x9E3779B97F4A7C15L + (rank * 16 + parameter) * 0xBF58476D1CE4E5B9L;
        return Elements.round(dtype, (mixed >> 40) * 0x1p-21);
    }

    /** In rank order, rounded as sums are, then divided. */
    private static double mean(DType dtype, int world, int parameter, int i, double divisor) {
        double sum = gradient(dtype, 0, parameter, i);
        for (int rank = 1; rank < world; rank++) {
            sum = Elements.round(dtype.accumulator(), sum + gradient(dtype, rank, parameter, i));
        }
        sum = Elements.round(dtype, sum);
        return divisor == 1 ? sum : Elements.round(dtype, Elements.round(dtype.accumulator(), sum / divisor));
    }

    private static FencedBuffer[] gradients(DType dtype, int rank) {
        FencedBuffer[] gradients = new FencedBuffer[COUNTS.length];
        for (int p = 0; p < COUNTS.length; p++) {
            gradients[p] = new FencedBuffer(dtype, COUNTS[p]);
            for (int i = 0; i < COUNTS[p]; i++) {
                gradients[p].put(i, gradient(dtype, rank, p, i));
            }
            gradients[p].freeze();
        }
        return gradients;
    }

    private static void reduce(GradientSync sync, FencedBuffer[] gradients) {
        for (int p = gradients.length - 1; p >= 0; p--) {
            sync.ready(p, gradients[p].memory(0).address());
        }
        sync.finish();
    }

    private static void requireFences(FencedBuffer[] buffers) {
        for (int p = 0; p < buffers.length; p++) {
            BitSet inside = new BitSet();
            inside.set(0, (int) COUNTS[p]);
            buffers[p].requireUntouched("gradient " + p, inside);
        }
    }

    /** Scattered sums lie where their owners say, every element has one owner, and gathering brings all to all. */
    @ParameterizedTest(name = "{0} ranks, {1}, buckets of {2}")
    @MethodSource("cases")
    void scatteredSumsAreThoseOfOneRank(int world, DType dtype, int bucketElements) {
        double divisor = dtype == DType.FLOAT32 ? 1 : 7;
        int[][] owners =
                Arrays.stream(COUNTS).mapToObj(count -> new int[(int) count]).toArray(int[][]::new);
        LocalGroup.run(world, communicator -> {
            FencedBuffer[] gradients = gradients(dtype, communicator.rank());
            Reduction reduction = Reduction.sum().dividedBy(divisor).scatter();
            try (GradientSync sync =
                    new GradientSync(communicator, dtype, COUNTS, (long) bucketElements * dtype.bytes(), reduction)) {
                for (int round = 0; round < 2; round++) {
                    reduce(sync, gradients);
                    FencedBuffer[] updated = gradients(dtype, 99);
                    for (GradientSync.Piece piece : sync.owned()) {
                        for (long i = piece.first(); i < piece.first() + piece.count(); i++) {
                            double sum = gradients[piece.parameter()].get(i);
                            assertEquals(
                                    mean(dtype, world, piece.parameter(), (int) i, divisor),
                                    sum,
                                    "element " + i + " of gradient " + piece.parameter());
                            updated[piece.parameter()].put(i, sum);
                            synchronized (owners) {
                                owners[piece.parameter()][(int) i]++;
                            }
                        }
                    }
                    sync.gather(Arrays.stream(updated)
                            .mapToLong(buffer -> buffer.memory(0).address())
                            .toArray());
                    for (int p = 0; p < COUNTS.length; p++) {
                        for (int i = 0; i < COUNTS[p]; i++) {
                            assertEquals(mean(dtype, world, p, i, divisor), updated[p].get(i));
                        }
                    }
                    requireFences(gradients);
                    requireFences(updated);
                    gradients = gradients(dtype, communicator.rank());
                }
            }
            return null;
        });
        for (int[] owner : owners) {
            assertThat(owner)
                    .as("how often each element is owned, in two rounds")
                    .containsOnly(2);
        }
    }

    @ParameterizedTest(name = "{0} ranks")
    @ValueSource(ints = {1, 3, 4})
    void meansAreSumsDividedOnce(int world) {
        for (DType dtype : DType.values()) {
            LocalGroup.run(world, communicator -> {
                FencedBuffer[] gradients = gradients(dtype, communicator.rank());
                try (GradientSync sync = new GradientSync(
                        communicator,
                        dtype,
                        COUNTS,
                        80L * dtype.bytes(),
                        Reduction.sum().dividedBy(world))) {
                    reduce(sync, gradients);
                    for (int p = 0; p < COUNTS.length; p++) {
                        assertThat(sync.owned().get(p)).isEqualTo(new GradientSync.Piece(p, 0, COUNTS[p]));
                        for (int i = 0; i < COUNTS[p]; i++) {
                            assertEquals(mean(dtype, world, p, i, world), gradients[p].get(i));
                        }
                    }
                }
                requireFences(gradients);
                return null;
            });
        }
    }

    /** The ranks of one tensor-parallel slice have the same parameters, wherever they stand in dp and cp. */
    @ParameterizedTest
    @ValueSource(strings = {"dp=2,cp=2,tp=2", "tp=2,cp=2,dp=2", "dp=4,tp=2", "cp=2x2,tp=2"})
    void ranksOfDpTimesCpShareGradients(String axes) {
        Mesh mesh = Mesh.of(axes);
        LocalGroup.run(8, world -> {
            FencedBuffer[] gradients = gradients(DType.FLOAT64, world.rank());
            try (Communicator group = mesh.split(world, "dp x cp");
                    GradientSync sync = new GradientSync(
                            group, DType.FLOAT64, COUNTS, 640, Reduction.sum().scatter())) {
                int[] members = mesh.members("dp x cp", world.rank());
                assertThat(members).hasSize(4);
                reduce(sync, gradients);
                for (GradientSync.Piece piece : sync.owned()) {
                    int i = (int) piece.first();
                    double sum = 0;
                    for (int member : members) {
                        sum += gradient(DType.FLOAT64, member, piece.parameter(), i);
                    }
                    assertThat(gradients[piece.parameter()].get(i)).isEqualTo(sum); // multiples of 2^-21: exact
                }
            }
            return null;
        });
    }

    @Test
    void sharesAreNearlyEqual() {
        List<Long> owned = LocalGroup.run(3, communicator -> {
            try (GradientSync sync = new GradientSync(
                    communicator,
                    DType.FLOAT32,
                    new long[] {10, 3, 1},
                    12,
                    Reduction.sum().scatter())) {
                return sync.owned().stream()
                        .mapToLong(GradientSync.Piece::count)
                        .sum();
            }
        });
        assertThat(owned).containsExactly(4L + 1 + 1, 3L + 1, 3L + 1); // 10 alone, 3 alone, 1 alone
    }

    @Test
    void whatBreaksARuleIsRefused() {
        for (double divisor : new double[] {0, -1, Double.NaN, Double.POSITIVE_INFINITY}) {
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> Reduction.sum().dividedBy(divisor))
                    .withMessageContaining("divisor is " + divisor);
        }
        FencedBuffer[] buffers = {new FencedBuffer(DType.FLOAT32, 4), new FencedBuffer(DType.FLOAT32, 4)};
        long[] addresses = {buffers[0].memory(0).address(), buffers[1].memory(0).address()};
        try (Communicator alone = LocalGroup.single();
                GradientSync sync = new GradientSync(
                        alone,
                        DType.FLOAT32,
                        new long[] {4, 4},
                        64,
                        Reduction.sum().scatter())) {
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> new GradientSync(alone, DType.FLOAT32, new long[] {4}, 64, null).close())
                    .withMessageContaining("reduction is null");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> sync.gather(new long[] {addresses[0]}))
                    .withMessageContaining("tensors.length is 1");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> sync.gather(new long[] {addresses[0], addresses[1] + 2}))
                    .withMessageContaining("tensors[1]");
            sync.ready(1, addresses[1]);
            assertThatThrownBy(() -> sync.gather(addresses))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("gradient 1 is ready");
            GradientSync closed = new GradientSync(alone, DType.FLOAT32, new long[] {4, 4}, 64);
            closed.close();
            assertThatThrownBy(() -> closed.gather(addresses))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("closed");
        }
    }
}
