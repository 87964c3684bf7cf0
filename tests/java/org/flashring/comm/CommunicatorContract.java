package org.flashring.comm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.time.Duration;
import java.util.BitSet;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.function.IntFunction;
import java.util.stream.IntStream;
import org.flashring.DType;
import org.flashring.device.Stream;
import org.flashring.support.DeviceCopies;
import org.flashring.support.FencedBuffer;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * What every communicator does with data, whatever carries it. A transport's own test says how its groups are made.
 * Elements are whole numbers, whose sums are exact in any order; on a CUDA device all goes in the order of a stream of
 * the caller's.
 */
@Timeout(120)
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
public abstract class CommunicatorContract {
    private static final Duration DEADLINE = Duration.ofSeconds(20);
    private static final DType F32 = DType.FLOAT32;
    private static final int COUNT = 5001;

    /** Returns the sizes of groups that this machine can have. */
    protected abstract IntStream worlds();

    /** Returns the communicators of a new group. */
    protected abstract List<Communicator> group(int world, Duration deadline);

    private void all(int world, Ranks.Body body) {
        assertThat(Ranks.run(group(world, DEADLINE), communicator -> {
                    if (!communicator.device().isCuda()) {
                        body.run(communicator);
                        return;
                    }
                    try (Stream stream = Stream.create(communicator.device())) {
                        communicator.stream(stream.handle());
                        body.run(communicator);
                        communicator.synchronize();
                        communicator.stream(0); // this one is about to be gone
                    }
                }))
                .allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    private static double value(int rank, int i) {
        return (rank + 1) * (i % 97 - 48);
    }

    private static FencedBuffer filled(int rank, int count) {
        FencedBuffer buffer = blank(count);
        for (int i = 0; i < count; i++) {
            buffer.put(i, value(rank, i));
        }
        buffer.freeze();
        return buffer;
    }

    private static FencedBuffer blank(int count) {
        FencedBuffer buffer = new FencedBuffer(F32, count);
        buffer.freeze();
        return buffer;
    }

    private static void fencesWhole(FencedBuffer buffer, int count) {
        BitSet inside = new BitSet();
        inside.set(0, count);
        buffer.requireUntouched("what was received", inside);
    }

    private static void untouched(FencedBuffer buffer) {
        buffer.requireUntouched("what was sent", new BitSet());
    }

    /**
     * Two exchanges under way and an empty one, round and round, so that what arrives is sent on: order is what is
     * tested.
     */
    @ParameterizedTest(name = "{0} ranks")
    @MethodSource("worlds")
    void exchangesKeepTheirOrder(int world) {
        all(world, c -> {
            int next = (c.rank() + 1) % world, previous = (c.rank() + world - 1) % world;
            FencedBuffer[] forth = {filled(c.rank(), COUNT), blank(COUNT)}, back = {filled(10 + c.rank(), 7), blank(7)};
            int laps = 3 * world;
            try (DeviceCopies on = new DeviceCopies(c.device())) {
                for (int lap = 0; lap < laps; lap++) {
                    c.at("test", lap);
                    long sent = on.address(forth[lap % 2]), received = on.address(forth[1 - lap % 2]);
                    c.post(sent, 4L * COUNT, next, received, 4L * COUNT, previous);
                    c.post(on.address(back[lap % 2]), 4L * 7, previous, on.address(back[1 - lap % 2]), 4L * 7, next);
                    c.post(0, 0, next, 0, 0, previous);
                    c.await();
                }
                c.synchronize();
                on.download();
            }
            for (int i = 0; i < COUNT; i++) {
                assertEquals(value(c.rank(), i), forth[laps % 2].get(i));
                assertEquals(value(next, i), forth[1 - laps % 2].get(i));
            }
            for (int i = 0; i < 7; i++) {
                assertEquals(value(10 + c.rank(), i), back[laps % 2].get(i));
            }
            fencesWhole(forth[0], COUNT);
            fencesWhole(back[1], 7);
        });
    }

    /** Returns the elements of each message from one rank to another: none to two messages, at times of nothing. */
    private static int[] lengths(int from, int to, int round) {
        int seed = from * 5 + to * 7 + round;
        return IntStream.range(0, seed % 3)
                .map(k -> (seed + k) % 4 == 0 ? 0 : 1 + seed * (k + 2))
                .toArray();
    }

    private static int total(int world, IntFunction<int[]> lengthsOfPeer) {
        return IntStream.range(0, world)
                .map(peer -> IntStream.of(lengthsOfPeer.apply(peer)).sum())
                .sum();
    }

    private static double element(int from, int to, int round, int message, int i) {
        return ((from * 8 + to) * 8 + round) * 4 + message + 1024 * i;
    }

    /**
     * Each rank sends every other one, and itself, what it likes; one batch is awaited when the next has been posted.
     */
    @ParameterizedTest(name = "{0} ranks")
    @MethodSource("worlds")
    void batchesTakeAnySizesToAnyRanks(int world) {
        int rounds = 6;
        all(world, c -> {
            int rank = c.rank();
            FencedBuffer[] sent = new FencedBuffer[rounds];
            FencedBuffer[] received = new FencedBuffer[rounds];
            Transfers batch = new Transfers();
            try (DeviceCopies on = new DeviceCopies(c.device())) {
                for (int r = 0; r < rounds; r++) {
                    int round = r;
                    sent[r] = blank(total(world, peer -> lengths(rank, peer, round)));
                    received[r] = blank(total(world, peer -> lengths(peer, rank, round)));
                    fill(sent[r], rank, world, r);
                }
                long last = -1;
                for (int r = 0; r < rounds; r++) {
                    long ticket =
                            c.post(batch(batch.clear(), on.address(sent[r]), on.address(received[r]), rank, world, r));
                    assertThat(ticket).isEqualTo(last + 1);
                    if (r > 0) {
                        c.await(last);
                    }
                    last = ticket;
                }
                c.await(last);
                c.await(0);
                c.synchronize();
                on.download();
            }
            for (int r = 0; r < rounds; r++) {
                requireReceived(received[r], rank, world, r);
                untouched(sent[r]);
            }
        });
    }

    private static void fill(FencedBuffer buffer, int rank, int world, int round) {
        int at = 0;
        for (int peer = 0; peer < world; peer++) {
            int[] lengths = lengths(rank, peer, round);
            for (int k = 0; k < lengths.length; k++) {
                for (int i = 0; i < lengths[k]; i++) {
                    buffer.put(at++, element(rank, peer, round, k, i));
                }
            }
        }
        buffer.freeze();
    }

    /** Adds the messages of a round; those that are received in another order of ranks than those that are sent. */
    private static Transfers batch(Transfers batch, long send, long receive, int rank, int world, int round) {
        for (int peer = 0; peer < world; peer++) {
            for (int length : lengths(rank, peer, round)) {
                batch.send(send, 4L * length, peer);
                send += 4L * length;
            }
        }
        for (int peer = world - 1; peer >= 0; peer--) {
            for (int length : lengths(peer, rank, round)) {
                batch.receive(receive, 4L * length, peer);
                receive += 4L * length;
            }
        }
        return batch;
    }

    private static void requireReceived(FencedBuffer buffer, int rank, int world, int round) {
        int at = 0;
        for (int peer = world - 1; peer >= 0; peer--) {
            int[] lengths = lengths(peer, rank, round);
            for (int k = 0; k < lengths.length; k++) {
                for (int i = 0; i < lengths[k]; i++) {
                    assertEquals(element(peer, rank, round, k, i), buffer.get(at++));
                }
            }
        }
        fencesWhole(buffer, at);
    }

    /** The first of two batches is done, though the second cannot be: its peers post it only then. */
    @ParameterizedTest(name = "{0} ranks")
    @MethodSource("worlds")
    void anAwaitedBatchDoesNotWaitForLaterOnes(int world) {
        CountDownLatch done = new CountDownLatch(1);
        all(world, c -> {
            int next = (c.rank() + 1) % world;
            int previous = (c.rank() + world - 1) % world;
            FencedBuffer own = filled(c.rank(), 5);
            FencedBuffer[] received = {blank(5), blank(5)};
            try (DeviceCopies on = new DeviceCopies(c.device())) {
                Transfers batch = new Transfers().send(on.address(own), 20, next);
                long first = c.post(batch.receive(on.address(received[0]), 20, previous));
                batch.clear().send(on.address(own), 20, next).receive(on.address(received[1]), 20, previous);
                if (c.rank() == 0) {
                    c.post(batch);
                    c.await(first);
                    c.synchronize();
                    done.countDown();
                } else {
                    c.await(first);
                    done.await();
                    c.post(batch);
                }
                c.await();
                c.synchronize();
                on.download();
            }
            for (int i = 0; i < 5; i++) {
                assertEquals(value(previous, i), received[0].get(i));
                assertEquals(value(previous, i), received[1].get(i));
            }
        });
    }

    @ParameterizedTest(name = "{0} ranks")
    @MethodSource("worlds")
    void collectivesOfEqualParts(int world) {
        all(world, c -> {
            int rank = c.rank();
            FencedBuffer own = filled(rank, COUNT);
            FencedBuffer gathered = blank(world * COUNT);
            FencedBuffer sent = filled(rank, world * 11);
            FencedBuffer turned = blank(world * 11);
            FencedBuffer sum = filled(rank, COUNT);
            FencedBuffer parts = filled(rank, world * 13);
            FencedBuffer part = blank(13);
            try (DeviceCopies on = new DeviceCopies(c.device())) {
                c.allGather(on.address(own), 4L * COUNT, on.address(gathered));
                c.allToAll(on.address(sent), 4L * 11, on.address(turned));
                c.allReduce(on.address(sum), COUNT, F32);
                c.reduceScatter(on.address(parts), 13, F32, on.address(part));
                c.allReduce(on.address(part), 0, F32);
                c.synchronize();
                on.download();
            }
            for (int i = 0; i < COUNT; i++) {
                assertEquals(sum(world, i), sum.get(i));
                for (int peer = 0; peer < world; peer++) {
                    assertEquals(value(peer, i), gathered.get((long) peer * COUNT + i));
                }
            }
            for (int i = 0; i < world * 11; i++) {
                assertEquals(value(i / 11, rank * 11 + i % 11), turned.get(i));
            }
            for (int i = 0; i < 13; i++) {
                assertEquals(sum(world, rank * 13 + i), part.get(i));
            }
            fencesWhole(gathered, world * COUNT);
            fencesWhole(part, 13);
            untouched(own);
            untouched(parts);
        });
    }

    private static double sum(int world, int i) {
        return world * (world + 1) / 2.0 * (i % 97 - 48);
    }

    /** Returns the elements of each rank's part: none for some, for all but one in the last round. */
    private static long[] parts(int world, int round) {
        return IntStream.range(0, world)
                .mapToLong(rank ->
                        round == 3 ? rank == world - 1 ? 5 : 0 : (rank + round) % 3 == 0 ? 0 : 1 + rank * 1000L + round)
                .toArray();
    }

    private static int before(long[] parts, int rank) {
        return (int) IntStream.range(0, rank).mapToLong(r -> parts[r]).sum();
    }

    @ParameterizedTest(name = "{0} ranks")
    @MethodSource("worlds")
    void unequalPartsAreGathered(int world) {
        all(world, c -> {
            for (int round = 0; round < 4; round++) {
                long[] parts = parts(world, round);
                int total = before(parts, world);
                int offset = before(parts, c.rank());
                int count = (int) parts[c.rank()];
                long[] bytes =
                        IntStream.range(0, world).mapToLong(r -> 4 * parts[r]).toArray();
                FencedBuffer own = filled(c.rank(), count);
                FencedBuffer gathered = blank(total);
                FencedBuffer inPlace = blank(total);
                for (int i = 0; i < count; i++) {
                    inPlace.put(offset + i, value(c.rank(), i));
                }
                try (DeviceCopies on = new DeviceCopies(c.device())) {
                    c.allGather(on.address(own), bytes, on.address(gathered));
                    c.allGather(on.address(inPlace) + 4L * offset, bytes, on.address(inPlace));
                    c.synchronize();
                    on.download();
                }
                for (int peer = 0; peer < world; peer++) {
                    for (int i = 0; i < parts[peer]; i++) {
                        assertEquals(value(peer, i), gathered.get(before(parts, peer) + i));
                        assertEquals(value(peer, i), inPlace.get(before(parts, peer) + i));
                    }
                }
                fencesWhole(gathered, total);
                fencesWhole(inPlace, total);
                untouched(own);
            }
        });
    }

    @ParameterizedTest(name = "{0} ranks")
    @MethodSource("worlds")
    void unequalPartsAreSummed(int world) {
        all(world, c -> {
            for (int round = 0; round < 4; round++) {
                long[] parts = parts(world, round);
                int total = before(parts, world);
                int offset = before(parts, c.rank());
                int count = (int) parts[c.rank()];
                FencedBuffer send = filled(c.rank(), total);
                FencedBuffer receive = blank(count);
                FencedBuffer inPlace = filled(c.rank(), total);
                try (DeviceCopies on = new DeviceCopies(c.device())) {
                    c.reduceScatter(on.address(send), parts, F32, on.address(receive));
                    c.reduceScatter(on.address(inPlace), parts, F32, on.address(inPlace) + 4L * offset);
                    c.synchronize();
                    on.download();
                }
                for (int i = 0; i < count; i++) {
                    assertEquals(sum(world, offset + i), receive.get(i));
                    assertEquals(sum(world, offset + i), inPlace.get(offset + i));
                }
                untouched(send);
                fencesWhole(receive, count);
                BitSet own = new BitSet();
                own.set(offset, offset + count);
                inPlace.requireUntouched("others' parts", own);
            }
        });
    }

    @ParameterizedTest(name = "{0} ranks")
    @MethodSource("worlds")
    void partsOfAGroupAreGroups(int world) {
        all(world, c -> {
            try (Communicator half = c.split(c.rank() % 2, world - c.rank())) { // keys fall with the rank
                int members = (world + 1 - c.rank() % 2) / 2;
                assertThat(half.worldSize()).isEqualTo(members);
                assertThat(half.rank()).isEqualTo(members - 1 - c.rank() / 2);
                assertThat(half.device()).isEqualTo(c.device());
                FencedBuffer one = filled(0, 1);
                try (DeviceCopies on = new DeviceCopies(half.device())) {
                    half.allReduce(on.address(one), 1, F32);
                    half.synchronize();
                    on.download();
                }
                assertEquals(value(0, 0) * members, one.get(0));
                half.barrier();
            }
            c.barrier();
        });
    }
}
