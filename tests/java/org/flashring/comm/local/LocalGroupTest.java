package org.flashring.comm.local;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Ranks;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What {@link LocalGroup#run} returns and throws. */
@Timeout(60)
class LocalGroupTest {
    private static final Duration LONG = Duration.ofSeconds(15);
    private static final Duration SHORT = Duration.ofMillis(250);

    @Test
    void runReturnsThoughARankFinishesLongBeforeTheOthers() {
        List<Integer> results = LocalGroup.run(2, SHORT, communicator -> {
            communicator.barrier();
            if (communicator.rank() == 0) {
                pause((int) SHORT.toMillis() * 3); // writes a report, say
            }
            return communicator.rank();
        });
        assertThat(results).containsExactly(0, 1);
    }

    @Test
    void runRethrowsErrorsAsTheyAreAndNamesTheRank() {
        AssertionError error = new AssertionError("wrong");
        assertThatThrownBy(() -> LocalGroup.run(3, LONG, communicator -> {
                    if (communicator.rank() == 2) {
                        throw error;
                    }
                    communicator.barrier();
                    return null;
                }))
                .isSameAs(error);
        assertThat(error.getSuppressed()).singleElement().asString().contains("rank 2 failed");
    }

    @Test
    void runKeepsTheKindOfAnArgumentError() {
        assertThatThrownBy(() -> LocalGroup.run(3, LONG, communicator -> {
                    if (communicator.rank() == 2) {
                        throw new IllegalArgumentException("steps is 0; it must be at least 1");
                    }
                    communicator.barrier();
                    return null;
                }))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("rank 2: steps is 0; it must be at least 1");
    }

    @Test
    void interruptingTheCallerOfRunEndsAllRanks() {
        AtomicReference<Throwable> seen = new AtomicReference<>();
        Thread caller = new Thread(
                () -> seen.set(catchThrowable(() -> LocalGroup.run(2, LONG, communicator -> {
                    if (communicator.rank() == 0) {
                        communicator.barrier();
                    }
                    pauseUntilInterrupted();
                    return null;
                }))),
                "caller");
        caller.start();
        pause(100);
        caller.interrupt();
        Ranks.join(caller);
        assertThat(seen.get()).isInstanceOf(CommunicationException.class);
    }

    private static void pause(int millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static void pauseUntilInterrupted() {
        pause((int) LONG.toMillis());
    }
}
