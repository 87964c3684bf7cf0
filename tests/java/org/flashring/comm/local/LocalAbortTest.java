package org.flashring.comm.local;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.Ranks;
import org.flashring.comm.Ranks.Ending;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Where {@code abort} reaches: parts of a group, and a thread that waits in a verb. */
@Timeout(60)
class LocalAbortTest {
    private static final int WORLD = 4;
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final Duration PROMPT = Duration.ofSeconds(10);

    @Test
    void abortReachesGroupsSplitOff() {
        List<Ending> endings = Ranks.run(WORLD, LONG, communicator -> {
            try (Communicator part = communicator.split(communicator.rank() / 2, 0)) {
                if (communicator.rank() == 3) {
                    Thread.sleep(50);
                    communicator.abort(new IllegalStateException("gave up"));
                    throw new IllegalStateException("gave up");
                }
                if (communicator.rank() == 2) {
                    part.barrier(); // of ranks 2 and 3
                }
                communicator.barrier();
            }
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown()).hasMessageContaining("gave up"));
        assertThat(endings).allSatisfy(ending -> assertThat(ending.after()).isLessThan(PROMPT));
    }

    @Test
    void abortFromAnotherThreadEndsAWait() throws InterruptedException {
        Communicator waiting = LocalGroup.create(2, LONG).get(0);
        AtomicReference<Throwable> seen = new AtomicReference<>();
        Thread thread = new Thread(() -> seen.set(catchThrowable(waiting::barrier)), "waiting");
        thread.start();
        Thread.sleep(50);
        assertThatThrownBy(waiting::barrier)
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("another thread");
        assertThatThrownBy(waiting::close)
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("another thread");
        waiting.abort(new IllegalStateException("watchdog"));
        Ranks.join(thread);
        assertThat(seen.get()).isInstanceOf(CommunicationException.class).hasMessageContaining("watchdog");
        waiting.close();
    }
}
