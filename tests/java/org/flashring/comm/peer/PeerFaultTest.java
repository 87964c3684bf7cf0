package org.flashring.comm.peer;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.flashring.DType;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Stream;
import org.flashring.internal.CudaIpc;
import org.flashring.launch.Environment;
import org.flashring.support.RankProcesses;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** A process that dies, stops, stalls or gives up ends in one named exception on the others, whose GPU works on. */
@RequiresGpu
@Timeout(180)
class PeerFaultTest {
    private static final Duration DEADLINE = Duration.ofSeconds(2);
    private static final Duration SLACK = Duration.ofSeconds(1);
    private static final String MODE = "FLASHRING_TEST_MODE";

    @TempDir
    Path folder;

    private RankProcesses running(String mode) throws Exception {
        RankProcesses ranks = RankProcesses.start(List.of(), Rank.class, 2, folder, Map.of(MODE, mode));
        ranks.awaitOutput("running");
        Thread.sleep(300);
        return ranks;
    }

    /** Fails unless rank 0 ends with an exception that says all of {@code words}, soon after {@code start}. */
    private static void requireEnd(RankProcesses ranks, long start, Duration within, String... words) throws Exception {
        assertThat(ranks.exitCode(0, Duration.ofSeconds(30)))
                .as(ranks.output(0))
                .isEqualTo(3);
        assertThat(ranks.output(0)).contains("CommunicationException").contains(words);
        assertThat(ranks.output(0)).as("memory of a failed group can be freed").contains("works on");
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(within);
    }

    @Test
    void aProcessThatIsKilledIsNoticedAtOnce() throws Exception {
        RankProcesses ranks = running("ring");
        ranks.rank(1).destroyForcibly();
        requireEnd(ranks, System.nanoTime(), DEADLINE.plus(SLACK), "rank 1 is gone");
    }

    @Test
    void aProcessThatStopsIsNoticedAfterTheDeadline() throws Exception {
        RankProcesses ranks = running("ring");
        try {
            ranks.signal("STOP", 1);
            requireEnd(
                    ranks,
                    System.nanoTime(),
                    DEADLINE.plus(SLACK).plusSeconds(1),
                    "rank 0 waited 2000 ms, the deadline, in",
                    "of ring");
        } finally {
            ranks.rank(1).destroyForcibly();
        }
    }

    @Test
    void aProcessThatIsSlowIsWaitedFor() throws Exception {
        RankProcesses ranks = running("ring");
        ranks.pause(1, DEADLINE);
    }

    @Test
    void aRankThatStallsIsNamed() throws Exception {
        RankProcesses ranks = running("stall");
        long start = System.nanoTime();
        requireEnd(
                ranks,
                start,
                DEADLINE.plus(SLACK).plusSeconds(1),
                "rank 0 waited 2000 ms, the deadline, in receive for rank 1",
                "step 7 of ring");
        ranks.rank(1).destroyForcibly();
    }

    /** The letter has come, the GPU of its sender does not. */
    @Test
    void aGpuThatStallsIsNamed() throws Exception {
        RankProcesses ranks = running("gpu stalls");
        requireEnd(
                ranks,
                System.nanoTime(),
                DEADLINE.plus(SLACK).plusSeconds(1),
                "rank 0 waited 2000 ms, the deadline, in exchange to rank 1 and from rank 1");
        ranks.rank(1).destroyForcibly();
    }

    /** Rank 0's stream waits for a word that a dead process will never write. */
    @Test
    void aStreamThatWaitsForADeadProcessIsReleased() throws Exception {
        RankProcesses ranks = running("gpu stalls");
        ranks.rank(1).destroyForcibly();
        requireEnd(ranks, System.nanoTime(), DEADLINE.plus(SLACK), "rank 1 is gone");
    }

    /** As above, and what comes next is to be copied from a buffer in the place of one that rank 0 has open. */
    @Test
    void aGpuThatStallsIsNamedWhereMemoryIsToBeClosed() throws Exception {
        RankProcesses ranks = running("gpu stalls, buffer replaced");
        requireEnd(
                ranks,
                System.nanoTime(),
                DEADLINE.plus(SLACK).plusSeconds(1),
                "rank 0 waited 2000 ms, the deadline, in exchange to rank 1 and from rank 1");
        String output = ranks.output(1);
        ranks.rank(1).destroyForcibly();
        assumeTrue(output.contains("in its place"), "CUDA puts the new buffer elsewhere: nothing had to be closed");
    }

    /** What the closed group left in streams behind the stall ends when that does, and the watchdog with it. */
    @Test
    void aGroupIsClosedWhileTheGpuStalls() throws Exception {
        RankProcesses ranks = running("own gpu stalls");
        requireEnd(
                ranks,
                System.nanoTime(),
                DEADLINE.plus(SLACK).plusSeconds(4),
                "rank 1 waited 2000 ms, the deadline, in exchange",
                "the stall is over");
    }

    @Test
    void aRankThatGivesUpIsNoticedAtOnce() throws Exception {
        RankProcesses ranks = RankProcesses.start(List.of(), Rank.class, 2, folder, Map.of(MODE, "give up"));
        ranks.awaitOutput("running");
        requireEnd(ranks, System.nanoTime(), DEADLINE.plus(SLACK), "rank 1 failed", "NaN in the loss");
    }

    @Test
    void sizesThatDifferAreNamed() throws Exception {
        RankProcesses ranks = RankProcesses.start(List.of(), Rank.class, 2, folder, Map.of(MODE, "sizes"));
        ranks.awaitOutput("running");
        requireEnd(ranks, System.nanoTime(), DEADLINE.plus(SLACK), "bytes from rank", "which sends");
    }

    @Test
    void collectivesThatDifferAreNamed() throws Exception {
        RankProcesses ranks = RankProcesses.start(List.of(), Rank.class, 2, folder, Map.of(MODE, "counts"));
        ranks.awaitOutput("running");
        requireEnd(ranks, System.nanoTime(), DEADLINE.plus(SLACK), "calls allReduce of FLOAT32 with", "bytes, rank");
    }

    @Test
    void aRankThatLeavesWithBatchesUnderWayFailsTheGroup() throws Exception {
        RankProcesses ranks = RankProcesses.start(List.of(), Rank.class, 2, folder, Map.of(MODE, "leave"));
        ranks.awaitOutput("running");
        requireEnd(
                ranks,
                System.nanoTime(),
                DEADLINE.plus(SLACK),
                "rank 1 left the group with 1 exchanges posted but not awaited");
    }

    /** What each process runs; rank 0 tells how it ends, and whether its GPU works on. */
    static final class Rank {
        private static final long BYTES = 1 << 20;

        private Rank() {}

        public static void main(String[] args) {
            String mode = System.getenv(MODE);
            int code = 0;
            int rank = Environment.current().rank();
            try (Communicator ranks = PeerContractTest.join(DEADLINE);
                    Stream stream = Stream.create(ranks.device())) {
                try (DeviceBuffer memory = DeviceBuffer.allocate(ranks.device(), 2 * BYTES)) {
                    ranks.stream(stream.handle());
                    ring(ranks, memory.address(), 2);
                    System.out.println("running");
                    run(mode, ranks, memory.address(), stream);
                } catch (CommunicationException e) {
                    System.out.println(e);
                    code = 3;
                    if (rank == 0) {
                        stream.synchronize();
                    }
                }
                if (rank == 0) {
                    try (DeviceBuffer other = DeviceBuffer.allocate(ranks.device(), BYTES)) {
                        other.fill(1, 0);
                        Stream.wrap(ranks.device(), 0).synchronize();
                        System.out.println("works on");
                    }
                }
            } catch (InterruptedException e) {
                code = 4;
            }
            Runtime.getRuntime().halt(code); // a GPU that stalls is the process's end
        }

        private static void run(String mode, Communicator ranks, long memory, Stream stream)
                throws InterruptedException {
            boolean first = ranks.rank() == 0;
            int peer = 1 - ranks.rank();
            ranks.at("ring", 7);
            switch (mode) {
                case "ring" -> ring(ranks, memory, Integer.MAX_VALUE);
                case "stall" -> {
                    if (!first) {
                        Thread.sleep(60_000);
                    }
                    ring(ranks, memory, 1);
                }
                case "gpu stalls" -> {
                    if (!first) {
                        stall(stream);
                    }
                    ring(ranks, memory, 1);
                }
                case "gpu stalls, buffer replaced" -> {
                    DeviceBuffer old = DeviceBuffer.allocate(ranks.device(), 2 * BYTES);
                    long place = old.address();
                    ring(ranks, place, 1);
                    old.close();
                    DeviceBuffer replaced = DeviceBuffer.allocate(ranks.device(), 2 * BYTES);
                    if (!first) {
                        System.out.println(replaced.address() == place ? "in its place" : "elsewhere");
                        stall(stream);
                    }
                    exchange(ranks, memory);
                    exchange(ranks, replaced.address());
                    ranks.synchronize();
                }
                case "own gpu stalls" -> {
                    DeviceBuffer word = first ? stall(stream) : null;
                    try {
                        ring(ranks, memory, 1);
                    } catch (CommunicationException e) {
                        if (first) {
                            leave(ranks, stream, word);
                        }
                        throw e;
                    }
                }
                case "give up" -> {
                    if (!first) {
                        ranks.abort(new ArithmeticException("NaN in the loss"));
                    }
                    ring(ranks, memory, 100_000);
                }
                case "sizes" -> {
                    ranks.post(memory, 8, peer, memory + BYTES, first ? 8 : 16, peer);
                    ranks.await();
                    ranks.barrier();
                }
                case "counts" -> {
                    ranks.allReduce(memory, first ? 8 : 16, DType.FLOAT32);
                    ranks.barrier();
                }
                case "leave" -> {
                    if (first) {
                        Thread.sleep(300);
                        ranks.barrier();
                    } else {
                        ranks.post(memory, 8, peer, memory + BYTES, 8, peer);
                        ranks.close();
                    }
                }
                default -> throw new AssertionError(mode);
            }
        }

        /** Makes {@code stream} wait for a word that nobody writes, which is returned. */
        private static DeviceBuffer stall(Stream stream) {
            DeviceBuffer word = DeviceBuffer.allocate(stream.device(), 4);
            word.fill(0, 0);
            Stream.wrap(stream.device(), 0).synchronize();
            CudaIpc.await(stream.handle(), word.address(), 1);
            return word;
        }

        /** Leaves the group, ends the stall and returns once nothing is left of both. */
        private static void leave(Communicator ranks, Stream stream, DeviceBuffer word) throws InterruptedException {
            ranks.close();
            try (Stream other = Stream.createUrgent(stream.device())) {
                CudaIpc.write(other.handle(), word.address(), 1);
                stream.synchronize();
            }
            long start = System.nanoTime();
            while (Thread.getAllStackTraces().keySet().stream()
                    .anyMatch(thread -> thread.getName().contains("peer watchdog"))) {
                if (System.nanoTime() - start > SLACK.toNanos()) {
                    throw new AssertionError("the watchdog goes on");
                }
                Thread.sleep(10);
            }
            System.out.println("the stall is over");
        }

        private static void exchange(Communicator ranks, long memory) {
            int peer = 1 - ranks.rank();
            ranks.post(memory, BYTES, peer, memory + BYTES, BYTES, peer);
            ranks.await();
        }

        /** Sends a buffer round and waits for it on the host after each round. */
        private static void ring(Communicator ranks, long memory, int rounds) {
            for (int round = 0; round < rounds; round++) {
                ranks.at("ring", rounds == 1 ? 7 : round);
                exchange(ranks, memory);
                ranks.synchronize();
            }
        }
    }
}
