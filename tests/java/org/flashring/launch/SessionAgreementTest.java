package org.flashring.launch;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.flashring.plan.Plan;
import org.flashring.support.Disagreement;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Processes compare plans through the session that NCCL's groups use too; no GPU is needed for that. */
@Timeout(180)
class SessionAgreementTest {
    private static final int WORLD = Disagreement.WORLD;
    private static final Duration PATIENCE = Duration.ofSeconds(120);

    @TempDir
    Path folder;

    @Test
    void everyDisagreementReachesEveryProcessAndEqualPlansAgree() throws Exception {
        RankProcesses ranks = RankProcesses.start(Rank.class, WORLD, folder);
        for (int rank = 0; rank < WORLD; rank++) {
            assertThat(ranks.exitCode(rank, PATIENCE)).as(ranks.output(rank)).isZero();
        }
        List<Disagreement> all = Disagreement.all();
        for (int rank = 0; rank < WORLD; rank++) {
            List<String> lines = ranks.output(rank).lines().toList();
            for (int i = 0; i < all.size(); i++) {
                assertThat(lines.get(i))
                        .startsWith("rank 2 and rank 0 cannot agree on plan " + (i + 1) + ": "
                                + all.get(i).named());
            }
            assertThat(lines.get(all.size())).isEqualTo("1000 agree");
            String last = lines.get(lines.size() - 1);
            assertThat(last)
                    .matches(
                            rank == 2
                                    ? "leaves"
                                    : "rank [01] waits in agree on plan 9999, but rank 2 has left the group");
        }
        assertThat(ranks.output(1)).contains("part agrees\n");
        assertThat(ranks.output(2)).contains("part agrees\n");
        assertThat(ranks.output(0))
                .doesNotContain("part agrees")
                .contains("overdue: rank 0 waited 0 ms, the deadline, in agree on plan 5 for rank 1, 2");
    }

    /** What each process runs. Disagreements end nothing here: what follows from them is the group's to decide. */
    static final class Rank {
        private Rank() {}

        public static void main(String[] args) throws Exception {
            try (Session session = Rendezvous.join(Environment.current(), Map.of(), PATIENCE)) {
                session.listen(what -> System.out.println("failed: " + what));
                // Asked first, so that no other meeting that is open later has waited longer.
                var lonely =
                        session.rank() == 0 ? session.agree("0, and two who do not come", 5, 0, WORLD, Map.of()) : null;
                int plans = 0;
                for (Disagreement each : Disagreement.all()) {
                    System.out.println(verdict(session, ++plans, session.rank() == 2 ? each.other() : each.usual()));
                }
                int agree = 0;
                for (int seed = 0; seed < 1000; seed++) {
                    agree +=
                            verdict(session, ++plans, Disagreement.random(seed)).isEmpty() ? 1 : 0;
                }
                System.out.println(agree + " agree");
                Plan plan = Disagreement.random(1);
                if (session.rank() == 0) {
                    System.out.println("overdue: " + session.overdue(0) + lonely.getNow(""));
                } else {
                    boolean agreed = session.agree("1 and 2", 1, session.rank() - 1, 2, plan.terms())
                            .get(60, TimeUnit.SECONDS)
                            .isEmpty();
                    System.out.println("part " + (agreed ? "agrees" : "does not"));
                }
                System.out.println(session.rank() == 2 ? "leaves" : verdict(session, 9999, plan));
            }
        }

        private static String verdict(Session session, long number, Plan plan)
                throws InterruptedException, TimeoutException {
            try {
                return session.agree("", number, session.rank(), WORLD, plan.terms())
                        .get(60, TimeUnit.SECONDS);
            } catch (ExecutionException e) {
                return e.getCause().getMessage();
            }
        }
    }
}
