package org.flashring.comm;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.launch.Environment;
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

    @TempDir Path folder;

    @Test
    void aThreadThatStallsIsNoticed() {
        List<Ranks.Ending> endings = Ranks.run(NcclGroup.create(List.of(Device.cuda(0), Device.cuda(1)), DEADLINE), communicator -> {
            if (communicator.rank() == 0) {
                ring(communicator, 3);
            } else {
                ring(communicator, 1);
                Thread.sleep(DEADLINE.plus(DEADLINE).toMillis());
                communicator.barrier();
            }
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown()).isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank 0 waited 2000 ms, the deadline, in exchange to rank 1 and from rank 1")
                .hasMessageContaining("step 1 of ring"));
        assertThat(endings.get(0).after()).isBetween(DEADLINE, DEADLINE.plus(SLACK));
    }

    @Test
    void aRankThatGivesUpIsNoticedAtOnce() {
        List<Ranks.Ending> endings = Ranks.run(NcclGroup.create(List.of(Device.cuda(0), Device.cuda(1)), DEADLINE), communicator -> {
            if (communicator.rank() == 1) {
                communicator.abort(new ArithmeticException("NaN in the loss"));
            }
            ring(communicator, 100_000);
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown()).isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank 1 failed").hasMessageContaining("NaN in the loss"));
        assertThat(endings.get(0).after()).isLessThan(DEADLINE);
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
        List<Process> ranks = start();
        awaitRunning(ranks);
        ranks.get(1).destroyForcibly();
        long start = System.nanoTime();
        assertThat(ranks.get(0).waitFor(30, TimeUnit.SECONDS)).isTrue();
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(DEADLINE.plus(SLACK));
        assertThat(output(0)).contains("CommunicationException").contains("rank 1 is gone");
        assertThat(ranks.get(0).exitValue()).isEqualTo(3);
    }

    @Test
    void aProcessThatStopsIsNoticedAfterTheDeadline() throws Exception {
        List<Process> ranks = start();
        awaitRunning(ranks);
        try {
            signal("STOP", ranks.get(1));
            long start = System.nanoTime();
            assertThat(ranks.get(0).waitFor(30, TimeUnit.SECONDS)).isTrue();
            assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(DEADLINE.plus(SLACK));
            assertThat(output(0)).contains("CommunicationException").contains("rank 0 waited 2000 ms, the deadline, in exchange")
                    .contains("of ring");
            assertThat(ranks.get(0).exitValue()).isEqualTo(3);
        } finally {
            ranks.get(1).destroyForcibly();
        }
    }

    private static void signal(String name, Process process) throws IOException, InterruptedException {
        assertThat(new ProcessBuilder("kill", "-" + name, String.valueOf(process.pid())).start().waitFor()).isZero();
    }

    private List<Process> start() throws IOException {
        int port;
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            port = socket.getLocalPort();
        }
        List<Process> ranks = new ArrayList<>();
        for (int rank = 0; rank < 2; rank++) {
            ProcessBuilder builder = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                    "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0", "-cp", System.getProperty("java.class.path"), Rank.class.getName());
            builder.environment().putAll(Map.of("RANK", String.valueOf(rank), "LOCAL_RANK", String.valueOf(rank), "WORLD_SIZE", "2",
                    "MASTER_ADDR", "127.0.0.1", "MASTER_PORT", String.valueOf(port)));
            ranks.add(builder.redirectErrorStream(true).redirectOutput(folder.resolve("rank" + rank).toFile()).start());
        }
        return ranks;
    }

    private void awaitRunning(List<Process> ranks) throws Exception {
        for (int i = 0; i < 600 && !(output(0).contains("running") && output(1).contains("running")); i++) {
            assertThat(ranks).allMatch(Process::isAlive, "alive: " + output(0) + output(1));
            Thread.sleep(100);
        }
        Thread.sleep(300);
    }

    private String output(int rank) throws IOException {
        return Files.readString(folder.resolve("rank" + rank));
    }

    /** What each process runs: a ring without end. */
    static final class Rank {
        private Rank() {}

        public static void main(String[] args) {
            try (Communicator communicator = NcclGroup.join(Environment.current(), Map.of(), DEADLINE)) {
                ring(communicator, 2);
                System.out.println("running");
                ring(communicator, Integer.MAX_VALUE);
            } catch (CommunicationException e) {
                System.out.println(e);
                System.exit(3);
            }
        }
    }
}
