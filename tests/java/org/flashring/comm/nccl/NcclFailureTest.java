package org.flashring.comm.nccl;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.Ranks;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.launch.Environment;
import org.flashring.support.RankProcesses;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** A peer that stalls or dies ends in one named exception on the others, soon after the deadline; nobody hangs. */
@RequiresGpu(value = 2, nccl = true)
@Timeout(180)
class NcclFailureTest {
    private static final Duration DEADLINE = Duration.ofSeconds(2);
    private static final Duration SLACK = Duration.ofSeconds(1);

    private static final String GIVES_UP = "FLASHRING_TEST_GIVES_UP"; // the rank that does

    @TempDir
    Path folder;

    @Test
    void aThreadThatStallsIsNoticed() {
        List<Ranks.Ending> endings =
                Ranks.run(NcclGroup.create(List.of(Device.cuda(0), Device.cuda(1)), DEADLINE), communicator -> {
                    if (communicator.rank() == 0) {
                        ring(communicator, 3);
                    } else {
                        ring(communicator, 1);
                        Thread.sleep(DEADLINE.plus(DEADLINE).toMillis());
                        communicator.barrier();
                    }
                });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank 0 waited 2000 ms, the deadline, in exchange to rank 1 and from rank 1")
                .hasMessageContaining("step 1 of ring"));
        assertThat(endings.get(0).after()).isBetween(DEADLINE, DEADLINE.plus(SLACK));
    }

    @Test
    void aRankThatGivesUpIsNoticedAtOnce() {
        List<Ranks.Ending> endings =
                Ranks.run(NcclGroup.create(List.of(Device.cuda(0), Device.cuda(1)), DEADLINE), communicator -> {
                    if (communicator.rank() == 1) {
                        communicator.abort(new ArithmeticException("NaN in the loss"));
                    }
                    ring(communicator, 100_000);
                });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank 1 failed")
                .hasMessageContaining("NaN in the loss"));
        assertThat(endings.get(0).after()).isLessThan(DEADLINE);
    }

    @Test
    void aClosedCommunicatorTakesNoStream() {
        List<Ranks.Ending> endings =
                Ranks.run(NcclGroup.create(List.of(Device.cuda(0), Device.cuda(1)), DEADLINE), communicator -> {
                    communicator.barrier();
                    communicator.close();
                    communicator.stream(0);
                });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("is closed"));
    }

    /** Sends a buffer round and waits for it on the host after each round. */
    private static void ring(Communicator communicator, int rounds) {
        int next = (communicator.rank() + 1) % communicator.worldSize();
        int previous = (communicator.rank() + communicator.worldSize() - 1) % communicator.worldSize();
        long bytes = 1 << 20;
        try (DeviceBuffer buffer = DeviceBuffer.allocate(communicator.device(), 2 * bytes)) {
            for (int round = 0; round < rounds; round++) {
                communicator.at("ring", round);
                communicator.post(buffer.address(), bytes, next, buffer.address() + bytes, bytes, previous);
                communicator.await();
                communicator.synchronize();
            }
        }
    }

    @Test
    void aProcessThatIsKilledIsNoticedAtOnce() throws Exception {
        RankProcesses ranks = running();
        ranks.rank(1).destroyForcibly();
        long start = System.nanoTime();
        assertThat(ranks.exitCode(0, Duration.ofSeconds(30))).isEqualTo(3);
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(DEADLINE.plus(SLACK));
        assertThat(ranks.output(0)).contains("CommunicationException").contains("rank 1 is gone");
    }

    @Test
    void aProcessThatStopsIsNoticedAfterTheDeadline() throws Exception {
        RankProcesses ranks = running();
        try {
            ranks.signal("STOP", 1);
            long start = System.nanoTime();
            assertThat(ranks.exitCode(0, Duration.ofSeconds(30))).isEqualTo(3);
            assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(DEADLINE.plus(SLACK));
            assertThat(ranks.output(0))
                    .contains("CommunicationException")
                    .contains("rank 0 waited 2000 ms, the deadline, in exchange")
                    .contains("of ring");
        } finally {
            ranks.rank(1).destroyForcibly();
        }
    }

    @Test
    void aProcessThatIsSlowIsWaitedFor() throws Exception {
        RankProcesses ranks = running();
        ranks.pause(1, DEADLINE);
    }

    @Test
    void aProcessThatGivesUpIsNoticedAtOnce() throws Exception {
        RankProcesses ranks = running(Map.of(GIVES_UP, "1"));
        long start = System.nanoTime();
        for (int rank = 0; rank < 2; rank++) {
            assertThat(ranks.exitCode(rank, Duration.ofSeconds(30))).isEqualTo(3);
            assertThat(ranks.output(rank)).contains("rank 1 failed").contains("NaN in the loss");
        }
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(DEADLINE.plus(SLACK));
    }

    private RankProcesses running() throws Exception {
        return running(Map.of());
    }

    private RankProcesses running(Map<String, String> variables) throws Exception {
        RankProcesses ranks = RankProcesses.start(List.of(), Rank.class, 2, folder, variables);
        ranks.awaitOutput("running");
        Thread.sleep(300);
        return ranks;
    }

    /** What each process runs: a ring without end. */
    static final class Rank {
        private Rank() {}

        public static void main(String[] args) {
            try (Communicator communicator = NcclGroup.join(Environment.current(), Map.of(), DEADLINE)) {
                ring(communicator, 2);
                System.out.println("running");
                if (String.valueOf(communicator.rank()).equals(System.getenv(GIVES_UP))) {
                    communicator.abort(new ArithmeticException("NaN in the loss"));
                }
                ring(communicator, Integer.MAX_VALUE);
            } catch (CommunicationException e) {
                System.out.println(e);
                System.exit(3);
            }
        }
    }
}
