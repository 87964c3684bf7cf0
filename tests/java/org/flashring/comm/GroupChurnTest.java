package org.flashring.comm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import java.lang.ref.WeakReference;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.IntStream;
import org.flashring.DType;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.HostBuffer;
import org.flashring.launch.Environment;
import org.flashring.launch.Rendezvous;
import org.flashring.launch.Session;
import org.flashring.support.Leaks;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;

/**
 * A group that failed leaves nothing behind: fifty of them, one after the other, cost no thread, no descriptor and no
 * memory.
 */
@Timeout(120)
@EnabledOnOs(value = OS.LINUX, disabledReason = "descriptors are counted in /proc")
class GroupChurnTest {
    private static final int WORLD = 3;
    private static final Duration DEADLINE = Duration.ofSeconds(20);

    @Test
    void groupsOfThreads() throws InterruptedException {
        List<WeakReference<Object>> groups = new ArrayList<>();
        Leaks.leavesNothing(groups, () -> {
            assertThatThrownBy(() -> LocalGroup.run(WORLD, DEADLINE, communicator -> {
                        synchronized (groups) {
                            groups.add(new WeakReference<>(communicator));
                        }
                        try (HostBuffer buffer = HostBuffer.allocate(64);
                                Communicator part = communicator.split(communicator.rank() / 2, 0)) {
                            communicator.agree(Map.of("dtype", "FLOAT32"));
                            part.agree(Map.of());
                            communicator.allReduce(buffer.address(), 4, DType.FLOAT32);
                            communicator.agree(Map.of("mask", communicator.rank() == 1 ? "full" : "causal"));
                        }
                        return null;
                    }))
                    .isInstanceOf(CommunicationException.class)
                    .hasMessageContaining("mask is full on rank 1");
            assertThat(LocalGroup.run(WORLD, DEADLINE, communicator -> {
                        communicator.barrier();
                        return communicator.rank();
                    }))
                    .containsExactly(0, 1, 2);
        });
    }

    @Test
    void sessionsOfProcesses() throws InterruptedException {
        List<WeakReference<Object>> groups = new ArrayList<>();
        Leaks.leavesNothing(groups, () -> session(groups));
    }

    /** Threads play the processes: each has its own end of the connections. One of them fails; then all leave. */
    private static void session(List<WeakReference<Object>> groups) {
        int port = RankProcesses.freePort();
        List<CompletableFuture<String>> ranks = IntStream.range(0, WORLD)
                .mapToObj(rank -> CompletableFuture.supplyAsync(
                        () -> {
                            CompletableFuture<String> heard = new CompletableFuture<>();
                            try (Session session = Rendezvous.join(
                                    new Environment(rank, rank, WORLD, "127.0.0.1", port, ""), Map.of(), DEADLINE)) {
                                synchronized (groups) {
                                    groups.add(new WeakReference<>(session));
                                }
                                session.listen(heard::complete);
                                assertThat(session.agree("", 1, rank, WORLD, Map.of())
                                                .get(20, TimeUnit.SECONDS))
                                        .isEmpty();
                                if (rank == 1) {
                                    session.fail("rank 1 has had enough");
                                    return "rank 1 has had enough";
                                }
                                return heard.get(20, TimeUnit.SECONDS);
                            } catch (ExecutionException e) {
                                return e.getCause().getMessage(); // rank 1 was quicker than rank 0's verdict
                            } catch (InterruptedException | TimeoutException e) {
                                throw new AssertionError(e);
                            }
                        },
                        command -> new Thread(command).start()))
                .toList();
        assertThat(ranks).allSatisfy(rank -> assertThat(rank.join()).isEqualTo("rank 1 has had enough"));
    }

    @Test
    void ranksThatCannotStart() throws InterruptedException {
        Leaks.leavesNothing(List.of(), () -> {
            int port = RankProcesses.freePort();
            List<CompletableFuture<Throwable>> ranks = IntStream.range(0, WORLD)
                    .mapToObj(rank -> CompletableFuture.supplyAsync(
                            () -> {
                                Environment environment = new Environment(rank, rank, WORLD, "127.0.0.1", port, "");
                                return catchThrowable(() -> Rendezvous.join(
                                        environment, Map.of("mask", rank == 1 ? "full" : "causal"), DEADLINE));
                            },
                            command -> new Thread(command).start()))
                    .toList();
            assertThat(ranks)
                    .allSatisfy(rank -> assertThat(rank.join()).hasMessageContaining("mask is full on rank 1"));
        });
    }
}
