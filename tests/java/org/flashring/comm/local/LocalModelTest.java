package org.flashring.comm.local;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.time.Duration;
import java.util.BitSet;
import java.util.List;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.comm.Ranks;
import org.flashring.support.Elements;
import org.flashring.support.FencedBuffer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Every verb against a few lines of plain Java, bit for bit, on buffers with fences; all worlds, types and awkward
 * counts.
 */
@Timeout(60)
class LocalModelTest {
    private static final Duration DEADLINE = Duration.ofSeconds(10);
    private static final int CHUNK = 16384; // elements a reduction sums at a time

    /**
     * Returns nothing, one, odd, fewer and more than ranks, and for some also more per rank than a reduction's chunk.
     */
    private static int[] counts(int world, DType dtype) {
        boolean large = world == 1 || world == 3 && dtype == DType.BFLOAT16;
        return large ? new int[] {0, 1, 2, 7, 61, 501, CHUNK * world + 5} : new int[] {0, 1, 2, 7, 61, 501};
    }

    static Stream<Arguments> worldsAndTypes() {
        return IntStream.rangeClosed(1, 8).boxed().flatMap(world -> Stream.of(DType.values())
                .map(dtype -> Arguments.of(world, dtype)));
    }

    /** Element {@code i} of what {@code rank} holds at the start. */
    private static double initial(DType dtype, int rank, int i) {
        long mixed = (i + 1) * 0x9E3779B97F4A7C15L + rank * 0xBF58476D1CE4E5B9L;
        return Elements.round(dtype, (mixed >> 40) * 0x1p-21); // [-4, 4) with more digits than the narrow types hold
    }

    private static FencedBuffer filled(DType dtype, int rank, int count) {
        FencedBuffer buffer = new FencedBuffer(dtype, count);
        for (int i = 0; i < count; i++) {
            buffer.put(i, initial(dtype, rank, i));
        }
        buffer.freeze();
        return buffer;
    }

    private static FencedBuffer blank(DType dtype, int count) {
        FencedBuffer buffer = new FencedBuffer(dtype, count);
        buffer.freeze();
        return buffer;
    }

    private static long address(FencedBuffer buffer) {
        return buffer.memory(0).address();
    }

    private static void untouched(FencedBuffer buffer) {
        buffer.requireUntouched("what was sent", new BitSet());
    }

    private static void fencesWhole(FencedBuffer buffer, int count) {
        BitSet inside = new BitSet();
        inside.set(0, count);
        buffer.requireUntouched("what was received", inside);
    }

    /** The sum in rank order, kept in the accumulator type, rounded once at the end. */
    private static double sum(DType dtype, int world, int i) {
        double sum = initial(dtype, 0, i);
        for (int rank = 1; rank < world; rank++) {
            sum = Elements.round(dtype.accumulator(), sum + initial(dtype, rank, i));
        }
        return Elements.round(dtype, sum);
    }

    private static void all(int world, Ranks.Body body) {
        assertThat(Ranks.run(world, DEADLINE, body))
                .allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    @ParameterizedTest(name = "{0} ranks, {1}")
    @MethodSource("worldsAndTypes")
    void allReduceSumsInRankOrderToTheSameBitsEverywhere(int world, DType dtype) {
        all(world, communicator -> {
            for (int count : counts(world, dtype)) {
                FencedBuffer data = filled(dtype, communicator.rank(), count);
                communicator.allReduce(address(data), count, dtype);
                for (int i = 0; i < count; i++) {
                    assertEquals(sum(dtype, world, i), data.get(i), "element " + i + " of " + count);
                }
                fencesWhole(data, count);
            }
        });
    }

    @ParameterizedTest(name = "{0} ranks, {1}")
    @MethodSource("worldsAndTypes")
    void reduceScatterGivesEachRankItsPartOfTheSum(int world, DType dtype) {
        all(world, communicator -> {
            int rank = communicator.rank();
            for (int count : counts(world, dtype)) {
                FencedBuffer send = filled(dtype, rank, world * count);
                FencedBuffer receive = blank(dtype, count);
                communicator.reduceScatter(address(send), count, dtype, address(receive));
                for (int i = 0; i < count; i++) {
                    assertEquals(sum(dtype, world, rank * count + i), receive.get(i), "element " + i + " of " + count);
                }
                untouched(send);
                fencesWhole(receive, count);

                long own = address(send) + (long) rank * count * dtype.bytes();
                communicator.reduceScatter(address(send), count, dtype, own);
                for (int i = 0; i < world * count; i++) {
                    boolean mine = i / Math.max(1, count) == rank;
                    assertEquals(
                            mine ? sum(dtype, world, i) : initial(dtype, rank, i),
                            send.get(i),
                            "element " + i + " of " + count + " in place");
                }
            }
        });
    }

    @ParameterizedTest(name = "{0} ranks, {1}")
    @MethodSource("worldsAndTypes")
    void partsOfUnequalSizesAreSummedInRankOrder(int world, DType dtype) {
        long[] parts = IntStream.range(0, world)
                .mapToLong(r -> r % 3 == 1 ? 0 : 7L * r + 1)
                .toArray();
        int total = (int) LongStream.of(parts).sum();
        all(world, communicator -> {
            int offset = (int) LongStream.of(parts).limit(communicator.rank()).sum();
            int count = (int) parts[communicator.rank()];
            FencedBuffer send = filled(dtype, communicator.rank(), total);
            FencedBuffer receive = blank(dtype, count);
            communicator.reduceScatter(address(send), parts, dtype, address(receive));
            for (int i = 0; i < count; i++) {
                assertEquals(sum(dtype, world, offset + i), receive.get(i), "element " + i + " of " + count);
            }
            untouched(send);
            fencesWhole(receive, count);
        });
    }

    @ParameterizedTest(name = "{0} ranks, {1}")
    @MethodSource("worldsAndTypes")
    void allGatherPutsRanksInOrder(int world, DType dtype) {
        all(world, communicator -> {
            int rank = communicator.rank();
            for (int count : counts(world, dtype)) {
                FencedBuffer send = filled(dtype, rank, count);
                FencedBuffer receive = blank(dtype, world * count);
                long bytes = (long) count * dtype.bytes();
                communicator.allGather(address(send), bytes, address(receive));
                FencedBuffer inPlace = blank(dtype, world * count);
                for (int i = 0; i < count; i++) {
                    inPlace.put((long) rank * count + i, initial(dtype, rank, i));
                }
                communicator.allGather(address(inPlace) + rank * bytes, bytes, address(inPlace));
                for (int i = 0; i < world * count; i++) {
                    double expected = initial(dtype, i / count, i % count);
                    assertEquals(expected, receive.get(i), "element " + i + " of " + world + " x " + count);
                    assertEquals(
                            expected, inPlace.get(i), "element " + i + " of " + world + " x " + count + " in place");
                }
                untouched(send);
                fencesWhole(receive, world * count);
            }
        });
    }

    @ParameterizedTest(name = "{0} ranks, {1}")
    @MethodSource("worldsAndTypes")
    void allToAllTransposes(int world, DType dtype) {
        all(world, communicator -> {
            int rank = communicator.rank();
            for (int count : counts(world, dtype)) {
                FencedBuffer send = filled(dtype, rank, world * count);
                FencedBuffer receive = blank(dtype, world * count);
                communicator.allToAll(address(send), (long) count * dtype.bytes(), address(receive));
                for (int i = 0; i < world * count; i++) {
                    assertEquals(
                            initial(dtype, i / count, rank * count + i % count),
                            receive.get(i),
                            "element " + i + " of " + world + " x " + count);
                }
                untouched(send);
                fencesWhole(receive, world * count);
            }
        });
    }

    @ParameterizedTest(name = "{0} ranks, {1}")
    @MethodSource("worldsAndTypes")
    void exchangesOfUnequalSizesArriveInTheOrderTheyWerePosted(int world, DType dtype) {
        // several between the same two ranks, to itself, both ways: as many as may be posted
        int[] hops = {1, -1, 0, 2, 1, 3, 1, -2};
        all(world, communicator -> {
            int rank = communicator.rank();
            for (int round = 0; round < 5; round++) {
                FencedBuffer[] sent = new FencedBuffer[hops.length];
                FencedBuffer[] received = new FencedBuffer[hops.length];
                for (int m = 0; m < hops.length; m++) {
                    int to = Math.floorMod(rank + hops[m], world);
                    int from = Math.floorMod(rank - hops[m], world);
                    sent[m] = filled(dtype, rank + 8 * m, length(rank, m, round));
                    received[m] = blank(dtype, length(from, m, round));
                    communicator.post(
                            address(sent[m]),
                            bytes(dtype, length(rank, m, round)),
                            to,
                            address(received[m]),
                            bytes(dtype, length(from, m, round)),
                            from);
                }
                communicator.await();
                for (int m = 0; m < hops.length; m++) {
                    int from = Math.floorMod(rank - hops[m], world);
                    for (int i = 0; i < length(from, m, round); i++) {
                        assertEquals(
                                initial(dtype, from + 8 * m, i),
                                received[m].get(i),
                                "element " + i + " of message " + m);
                    }
                    untouched(sent[m]);
                    fencesWhole(received[m], length(from, m, round));
                }
            }
        });
    }

    /** A length that differs by sender, message and round, often 0. */
    private static int length(int sender, int message, int round) {
        return (sender * 7 + message * 13 + round * 3) % 5 == 0 ? 0 : 1 + (sender + 1) * (message + 2) * 11;
    }

    private static long bytes(DType dtype, int count) {
        return (long) count * dtype.bytes();
    }

    @ParameterizedTest(name = "{0} ranks")
    @ValueSource(ints = {1, 2, 3, 5, 8})
    void splitGroupsByColorAndOrdersByKey(int world) {
        all(world, communicator -> {
            int rank = communicator.rank();
            int color = rank % 3;
            List<Integer> members = IntStream.range(0, world)
                    .filter(r -> r % 3 == color)
                    .boxed()
                    .sorted((a, b) -> Integer.compare(b, a))
                    .toList(); // keys fall with the rank
            try (Communicator part = communicator.split(color, -rank)) {
                assertThat(part.worldSize()).isEqualTo(members.size());
                assertThat(members.get(part.rank())).isEqualTo(rank);
                FencedBuffer data = filled(DType.FLOAT64, rank, 5);
                part.allReduce(address(data), 5, DType.FLOAT64);
                for (int i = 0; i < 5; i++) {
                    double sum = initial(DType.FLOAT64, members.get(0), i);
                    for (int m = 1; m < members.size(); m++) {
                        sum += initial(DType.FLOAT64, members.get(m), i);
                    }
                    assertEquals(sum, data.get(i));
                }
            }
            try (Communicator same = communicator.split(0, 7)) { // equal keys: the order of ranks
                assertThat(same.rank()).isEqualTo(rank);
                assertThat(same.worldSize()).isEqualTo(world);
            }
            communicator.barrier();
        });
    }

    @ParameterizedTest(name = "{0} ranks")
    @ValueSource(ints = {2, 4, 8})
    void noRankPassesABarrierBeforeTheLastHasCome(int world) {
        AtomicInteger came = new AtomicInteger();
        all(world, communicator -> {
            for (int round = 1; round <= 200; round++) {
                came.incrementAndGet();
                communicator.barrier();
                assertThat(came.get()).isGreaterThanOrEqualTo(round * world);
                communicator.barrier();
            }
        });
    }

    @Test
    void aMessageIsTakenAsSoonAsItIsPostedThoughItsSenderAwaitsLater() {
        FencedBuffer sent = filled(DType.FLOAT64, 1, 1);
        FencedBuffer received = blank(DType.FLOAT64, 1);
        all(2, communicator -> {
            if (communicator.rank() == 0) {
                communicator.post(0, 0, 1, address(received), 8, 1);
            } else {
                Thread.sleep(100); // rank 0 waits by now
                communicator.post(address(sent), 8, 0, 0, 0, 0);
                for (int i = 0; i < 1000 && Double.isNaN(received.get(0)); i++) {
                    Thread.sleep(1);
                }
                assertEquals(initial(DType.FLOAT64, 1, 0), received.get(0));
            }
            communicator.await();
        });
    }

    /**
     * Ranks run ahead and lag at random over thousands of verbs; whatever a race lets through shows as a wrong number.
     */
    @ParameterizedTest(name = "seed {0}")
    @ValueSource(longs = {1, 2, 3})
    void manyRoundsAtRandomPaceStayRight(long seed) {
        int world = 4;
        all(world, communicator -> {
            int rank = communicator.rank();
            Random pace = new Random(seed * 100 + rank);
            Random order = new Random(seed); // the same on all ranks
            FencedBuffer data = blank(DType.FLOAT32, 3);
            FencedBuffer other = blank(DType.FLOAT32, 3 * world);
            for (int round = 0; round < 3000; round++) {
                for (int spin = pace.nextInt(50); spin > 0; spin--) {
                    Thread.onSpinWait();
                }
                for (int i = 0; i < 3; i++) {
                    data.put(i, rank + round + i);
                }
                switch (order.nextInt(3)) {
                    case 0 -> {
                        communicator.allReduce(address(data), 3, DType.FLOAT32);
                        assertEquals(world * (round + 2) + 6.0, data.get(2));
                    }
                    case 1 -> {
                        communicator.allGather(address(data), 12, address(other));
                        for (int peer = 0; peer < world; peer++) {
                            assertEquals(peer + round + 1.0, other.get(3L * peer + 1));
                        }
                    }
                    default -> {
                        communicator.post(
                                address(data), 12, (rank + 1) % world, address(other), 12, (rank + 3) % world);
                        communicator.await();
                        assertEquals((rank + 3) % world + round, other.get(0));
                    }
                }
            }
        });
    }
}
