package org.flashring.launch;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** How ranks part: nobody misses a verdict because another one was quick, nor waits for who has left. */
@Timeout(120)
class SessionTest {
    private static final Duration PATIENCE = Duration.ofSeconds(60);
    private static final String PART = "/0:1";

    private static List<Session> sessions(int world) {
        int port = RankProcesses.freePort();
        ExecutorService ranks = Executors.newFixedThreadPool(world);
        try {
            List<CompletableFuture<Session>> joining = new ArrayList<>();
            for (int rank = 0; rank < world; rank++) {
                Environment environment = new Environment(rank, rank, world, "127.0.0.1", port, "");
                joining.add(
                        CompletableFuture.supplyAsync(() -> Rendezvous.join(environment, Map.of(), PATIENCE), ranks));
            }
            List<Session> sessions =
                    joining.stream().map(CompletableFuture::join).toList();
            sessions.forEach(session -> session.listen(what -> {}));
            return sessions;
        } finally {
            ranks.shutdown();
        }
    }

    /** Rank 0 comes first, so that its own verdict is there while those of the others are still to be written. */
    @Test
    void rankZeroDoesNotCloseBeforeTheOthersHaveTheirVerdicts() throws Exception {
        int world = 8;
        for (int attempt = 0; attempt < 20; attempt++) {
            List<Session> sessions = sessions(world);
            CompletableFuture<String> first = sessions.get(0).agree("", 1, 0, world, Map.of());
            Thread leader = new Thread(() -> {
                first.join();
                sessions.get(0).close();
            });
            leader.start();
            List<CompletableFuture<String>> verdicts = new ArrayList<>();
            for (int rank = 1; rank < world; rank++) {
                verdicts.add(sessions.get(rank).agree("", 1, rank, world, Map.of()));
            }
            for (CompletableFuture<String> verdict : verdicts) {
                assertThat(verdict.get(PATIENCE.toSeconds(), TimeUnit.SECONDS)).isEmpty();
            }
            leader.join();
            sessions.forEach(Session::close);
        }
    }

    @Test
    void whoLeavesAPartIsNotWaitedFor() throws Exception {
        for (int leaver :
                new int[] {0, 1, 2}) { // rank 0 of all, which keeps the terms, and two that reach it by a connection
            List<Session> sessions = sessions(3);
            Session waiting = sessions.get((leaver + 1) % 3);
            CompletableFuture<String> before = waiting.agree(PART, 1, 0, 2, Map.of());
            sessions.get(leaver).leave(PART, 1, 2);
            String left = "rank 0 waits in agree on plan %d, but rank 1 has left the group";
            assertThat(before.get(PATIENCE.toSeconds(), TimeUnit.SECONDS)).isEqualTo(left, 1);
            assertThat(waiting.agree(PART, 2, 0, 2, Map.of()).get(PATIENCE.toSeconds(), TimeUnit.SECONDS))
                    .isEqualTo(left, 2);
            assertThat(agreeOnAll(sessions)).containsOnly("");
            sessions.forEach(Session::close);
        }
    }

    private static List<String> agreeOnAll(List<Session> sessions) throws Exception {
        List<CompletableFuture<String>> verdicts = new ArrayList<>();
        for (Session session : sessions) {
            verdicts.add(session.agree("", 1, session.rank(), sessions.size(), Map.of()));
        }
        List<String> all = new ArrayList<>();
        for (CompletableFuture<String> verdict : verdicts) {
            all.add(verdict.get(PATIENCE.toSeconds(), TimeUnit.SECONDS));
        }
        return all;
    }
}
