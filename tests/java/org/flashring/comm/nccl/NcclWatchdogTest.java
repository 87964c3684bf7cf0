package org.flashring.comm.nccl;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.transport.Deadline;
import org.flashring.internal.Assembly;
import org.flashring.support.Disagreement;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** How ranks that are threads of an NCCL group agree on the host: that part takes neither GPU nor NCCL. */
@Timeout(60)
class NcclWatchdogTest {
    private static final int WORLD = Disagreement.WORLD;
    private static final Duration LONG = Duration.ofSeconds(30);
    private static final Duration SHORT = Duration.ofMillis(250);

    static List<Disagreement> disagreements() {
        return Disagreement.all();
    }

    private static Assembly.Guest guest(long plan, int rank, Map<String, String> terms) {
        return new Assembly.Guest("", plan, rank, WORLD, terms);
    }

    /** Returns what each rank got. */
    private static List<Throwable> run(IntConsumer body) {
        List<CompletableFuture<Throwable>> ranks = IntStream.range(0, WORLD)
                .mapToObj(rank -> CompletableFuture.supplyAsync(
                        () -> catchThrowable(() -> body.accept(rank)),
                        command -> new Thread(command, "rank " + rank).start()))
                .toList();
        return ranks.stream().map(CompletableFuture::join).toList();
    }

    @ParameterizedTest
    @MethodSource("disagreements")
    void anotherPlanIsOneErrorOnEveryRank(Disagreement disagreement) {
        NcclWatchdog watchdog = new NcclWatchdog(Deadline.of(LONG), null);
        List<Throwable> seen = run(rank -> {
            watchdog.agree("", guest(1, rank, Map.of()));
            watchdog.agree("", guest(2, rank, (rank == 2 ? disagreement.other() : disagreement.usual()).terms()));
        });
        assertThat(seen).allSatisfy(each -> assertThat(each)
                .isInstanceOf(CommunicationException.class)
                .hasMessage(seen.get(0).getMessage())
                .hasMessageStartingWith("rank 2 and rank 0 cannot agree on plan 2: " + disagreement.named()));
        assertThat(catchThrowable(watchdog::check)).isInstanceOf(CommunicationException.class);
    }

    @Test
    void aRankThatDoesNotComeIsNamedAfterTheDeadline() {
        NcclWatchdog watchdog = new NcclWatchdog(Deadline.of(SHORT), null);
        assertThat(run(rank -> {
                    if (rank != 1) {
                        watchdog.agree("", guest(1, rank, Map.of()));
                    }
                }))
                .satisfies(seen -> assertThat(seen.get(1)).isNull())
                .filteredOn(each -> each != null)
                .hasSize(2)
                .allSatisfy(each -> assertThat(each)
                        .isInstanceOf(CommunicationException.class)
                        .hasMessageMatching("rank [02] waited 250 ms, the deadline, in agree on plan 1 for rank 1.*"));
    }

    @Test
    void aRankThatLeavesIsNamedAtOnce() {
        NcclWatchdog watchdog = new NcclWatchdog(Deadline.of(LONG), null);
        List<Throwable> seen = run(rank -> {
            if (rank == 1) {
                watchdog.leave("", rank, WORLD);
            } else {
                watchdog.agree("", guest(1, rank, Map.of()));
            }
        });
        assertThat(List.of(seen.get(0), seen.get(2))).allSatisfy(each -> assertThat(each)
                .isInstanceOf(CommunicationException.class)
                .hasMessageMatching("rank [02] waits in agree on plan 1, but rank 1 has left the group"));
    }

    @Test
    void groupsAgreeByThemselvesAndWhatCannotBeIsRefused() {
        NcclWatchdog watchdog = new NcclWatchdog(Deadline.of(LONG), null);
        assertThat(run(rank -> {
                    if (rank < 2) {
                        watchdog.agree("", new Assembly.Guest("/0:1", 1, rank, 2, Map.of("part", "1")));
                    } else {
                        watchdog.agree("", new Assembly.Guest("/0:2", 1, 0, 1, Map.of("part", "2")));
                    }
                    watchdog.agree("", guest(1, rank, Map.of()));
                }))
                .containsOnlyNulls();
        assertThat(run(rank -> watchdog.agree("", new Assembly.Guest("/1:0", 1, 0, 2, Map.of()))))
                .filteredOn(each -> each != null)
                .isNotEmpty()
                .allSatisfy(each ->
                        assertThat(each).hasMessageContaining("rank 0 of 2 cannot agree on plan 1 with rank 0 of 2"));
    }
}
