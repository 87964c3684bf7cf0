package org.flashring.comm.process;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.flashring.DType;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.device.HostBuffer;
import org.flashring.launch.Environment;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** Real processes: one that dies or stops ends in one named exception on all others; nobody hangs, no file is left. */
@Timeout(180)
@EnabledOnOs(value = OS.LINUX, disabledReason = "processes are stopped by signals, and /dev/shm is Linux's")
class ProcessFaultTest {
    private static final Duration DEADLINE = Duration.ofSeconds(1);
    private static final Duration SLACK = Duration.ofSeconds(1);
    private static final int WORLD = 3;
    private static final List<String> IN_A_SMALL_MEMORY =
            List.of("unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=64k none /dev/shm && exec \"$@\"", "sh");

    @TempDir
    Path folder;

    @Test
    void aProcessThatIsKilledIsNoticedAtOnceAndLeavesNoFile() throws Exception {
        killed(Medium.AUTO);
    }

    @Test
    @Tag("full")
    void aProcessThatIsKilledIsNoticedThroughSocketsToo() throws Exception {
        killed(Medium.SOCKETS);
    }

    private void killed(Medium medium) throws Exception {
        RankProcesses ranks = running(medium);
        ranks.rank(1).destroyForcibly();
        long start = System.nanoTime();
        for (int rank = 0; rank < WORLD; rank += 2) {
            assertThat(ranks.exitCode(rank, Duration.ofSeconds(30)))
                    .as(ranks.output(rank))
                    .isEqualTo(3);
            assertThat(ranks.output(rank))
                    .contains("CommunicationException: rank 1 is gone")
                    .contains("; rank " + rank)
                    .contains("of ring");
        }
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(DEADLINE.plus(SLACK));
        try (Stream<Path> files = Files.list(Segment.FOLDER)) {
            assertThat(files.filter(file -> ranks.processes().stream()
                            .anyMatch(
                                    rank -> file.getFileName().toString().startsWith("flashring-" + rank.pid() + "-"))))
                    .isEmpty();
        }
    }

    @Test
    void aProcessThatStopsIsNoticedAfterTheDeadline() throws Exception {
        stopped(Medium.SOCKETS);
    }

    @Test
    @Tag("full")
    void aProcessThatStopsIsNoticedThroughMemoryToo() throws Exception {
        stopped(Medium.AUTO);
    }

    private void stopped(Medium medium) throws Exception {
        RankProcesses ranks = running(medium);
        try {
            ranks.signal("STOP", 1);
            long start = System.nanoTime();
            for (int rank = 0; rank < WORLD; rank += 2) {
                assertThat(ranks.exitCode(rank, Duration.ofSeconds(30)))
                        .as(ranks.output(rank))
                        .isEqualTo(3);
                assertThat(ranks.output(rank))
                        .contains("CommunicationException: rank ")
                        .containsPattern(" waited 1000 ms, the deadline, in (receive|send) for rank ")
                        .contains("of ring");
            }
            assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(DEADLINE.plus(SLACK));
        } finally {
            ranks.rank(1).destroyForcibly();
        }
    }

    /** A pause shorter than the deadline is no fault. */
    @Test
    @Tag("full")
    void aProcessThatIsSlowIsWaitedFor() throws Exception {
        for (Medium medium : Medium.values()) {
            RankProcesses ranks = running(medium);
            ranks.pause(1, DEADLINE);
        }
    }

    private RankProcesses running(Medium medium) throws Exception {
        RankProcesses ranks =
                RankProcesses.start(List.of(), Rank.class, WORLD, folder, Map.of(Medium.VARIABLE, medium.toString()));
        ranks.awaitOutput("running");
        Thread.sleep(200);
        return ranks;
    }

    /** A write beyond the room of a mapping would kill the process; here it is a sentence, on every rank. */
    @Test
    void aFullMemoryIsNamedByAllRanks() throws Exception {
        assumeTrue(
                new ProcessBuilder("unshare", "-rm", "true").start().waitFor() == 0,
                "this process may not have a mount namespace");
        RankProcesses ranks = RankProcesses.start(IN_A_SMALL_MEMORY, Rank.class, 2, folder, Map.of());
        for (int rank = 0; rank < 2; rank++) {
            assertThat(ranks.exitCode(rank, Duration.ofSeconds(60)))
                    .as(ranks.output(rank))
                    .isEqualTo(3);
            assertThat(ranks.output(rank))
                    .contains(
                            "rank 0 cannot join the group: cannot share memory with rank 1: /dev/shm has room for 65536"
                                    + " bytes, and")
                    .contains("set FLASHRING_MEDIUM to sockets on all ranks");
        }
    }

    /** What each process runs: a ring without end. */
    static final class Rank {
        private Rank() {}

        public static void main(String[] args) {
            try (Communicator communicator = ProcessGroup.join(Environment.current(), Map.of(), DEADLINE)) {
                ring(communicator, 2);
                System.out.println("running");
                ring(communicator, Integer.MAX_VALUE);
            } catch (CommunicationException e) {
                System.out.println(e);
                System.exit(3);
            }
        }

        private static void ring(Communicator communicator, int rounds) {
            int next = (communicator.rank() + 1) % communicator.worldSize();
            int previous = (communicator.rank() + communicator.worldSize() - 1) % communicator.worldSize();
            long bytes = 1 << 20;
            try (HostBuffer buffer = HostBuffer.allocate(2 * bytes)) {
                for (int round = 0; round < rounds; round++) {
                    communicator.at("ring", round);
                    communicator.post(buffer.address(), bytes, next, buffer.address() + bytes, bytes, previous);
                    communicator.await();
                }
                communicator.allReduce(buffer.address(), 3, DType.FLOAT32);
            }
        }
    }
}
