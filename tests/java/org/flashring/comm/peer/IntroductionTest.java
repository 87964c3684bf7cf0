package org.flashring.comm.peer;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.flashring.comm.Communicator;
import org.flashring.comm.process.ProcessGroup;
import org.flashring.comm.transport.TransportCommunicator;
import org.flashring.launch.Environment;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Ranks find out together whether there are peer copies, and all say the same of why there are none. */
@Timeout(60)
class IntroductionTest {
    private static final int WORLD = 3;

    /** Returns what each rank found out; threads play the processes. */
    private static List<String> found(Function<Introduction, String> body) {
        int port = RankProcesses.freePort();
        List<CompletableFuture<String>> results = IntStream.range(0, WORLD)
                .mapToObj(rank -> CompletableFuture.supplyAsync(
                        () -> {
                            try (Communicator group = ProcessGroup.join(
                                    new Environment(rank, rank, WORLD, "127.0.0.1", port, ""),
                                    Map.of(),
                                    Duration.ofSeconds(20))) {
                                String cause =
                                        body.apply(new Introduction(((TransportCommunicator) group).transport()));
                                group.barrier();
                                return cause;
                            }
                        },
                        task -> new Thread(task, "rank " + rank).start()))
                .toList();
        return results.stream().map(CompletableFuture::join).toList();
    }

    private static int rank() {
        return Integer.parseInt(Thread.currentThread().getName().substring("rank ".length()));
    }

    @Test
    void ranksOfOneHostThatLackNothingFindNothing() {
        assertThat(found(each -> each.exchange(rank(), "a", ""))).containsOnly("");
        assertThat(found(each -> each.exchange(rank(), "a", "") + each.agree("")))
                .containsOnly("");
    }

    @Test
    void anotherHostIsNamedByAll() {
        assertThat(found(each -> each.exchange(rank(), rank() == 1 ? "b" : "a", "")))
                .containsOnly("rank 1 is on another host than rank 0");
        assertThat(found(each -> each.exchange(rank(), "", ""))).containsOnly("rank 0 is on another host than rank 0");
    }

    @Test
    void theFirstRankThatCannotIsNamedByAll() {
        assertThat(found(each -> each.exchange(rank(), "a", rank() == 0 ? "" : "no waits " + rank())))
                .containsOnly("rank 1: no waits 1");
        assertThat(found(each -> each.exchange(rank(), "a", "") + each.agree(rank() == 2 ? "cannot open" : "")))
                .containsOnly("rank 2: cannot open");
    }

    @Test
    void aLongCauseIsCutAndNothingElse() {
        assertThat(found(each -> each.exchange(rank(), "a", rank() == 2 ? "x".repeat(1000) : "")))
                .containsOnly("rank 2: " + "x".repeat(255));
    }
}
