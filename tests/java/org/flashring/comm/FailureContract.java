package org.flashring.comm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Stream;
import org.flashring.DType;
import org.flashring.comm.Ranks.Ending;
import org.flashring.device.OwnedMemory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * How every communicator fails, whatever carries it: soon, on all ranks, and saying who, in what and why. Groups have
 * two ranks, each with a piece of memory. A transport's own tests say what only it promises.
 */
@Timeout(120)
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
public abstract class FailureContract {
    protected static final int WORLD = 2;
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final int BYTES = 1024;

    /** A verb that waits for all ranks, called with the address of {@link #BYTES}. */
    @FunctionalInterface
    private interface Verb {
        void call(Communicator communicator, long memory);
    }

    private static final Map<String, Verb> VERBS = new TreeMap<>(Map.of(
            "barrier", (c, memory) -> c.barrier(),
            "allReduce", (c, memory) -> c.allReduce(memory, 3, DType.FLOAT32),
            "reduceScatter", (c, memory) -> c.reduceScatter(memory, 3, DType.FLOAT32, memory + 512),
            "reduceScatter of parts",
                    (c, memory) -> c.reduceScatter(memory, new long[] {3, 5}, DType.FLOAT32, memory + 512),
            "allGather", (c, memory) -> c.allGather(memory, 24, memory + 512),
            "allGather of parts", (c, memory) -> c.allGather(memory, new long[] {24, 8}, memory + 512),
            "allToAll", (c, memory) -> c.allToAll(memory, 24, memory + 512),
            "exchange",
                    (c, memory) -> {
                        c.post(memory, 24, 1 - c.rank(), memory + 512, 24, 1 - c.rank());
                        c.await();
                    },
            "batch",
                    (c, memory) -> c.await(c.post(new Transfers()
                            .send(memory, 24, 1 - c.rank())
                            .send(memory, 8, 1 - c.rank())
                            .receive(memory + 512, 24, 1 - c.rank())
                            .receive(memory + 768, 8, 1 - c.rank())))));

    static Stream<String> verbs() {
        return VERBS.keySet().stream();
    }

    /** Returns the communicators of a new group of two. */
    protected abstract List<Communicator> group(Duration deadline);

    /** Returns a deadline that a group that works does not miss. */
    protected abstract Duration shortDeadline();

    /** Returns what a failure calls a verb that it missed the deadline in. */
    protected abstract String named(String verb);

    /** Returns whether peers get the exception of a rank that gives up, and not its words alone. */
    protected boolean causesReachPeers() {
        return true;
    }

    private List<Ending> run(Duration deadline, Body body) {
        return Ranks.run(group(deadline), communicator -> {
            try (OwnedMemory memory = OwnedMemory.allocate(communicator.device(), BYTES)) {
                body.run(communicator, memory.address());
            }
        });
    }

    /** What a rank does. */
    @FunctionalInterface
    private interface Body {
        void run(Communicator communicator, long memory) throws Exception;
    }

    private static void call(String verb, Communicator communicator, long memory) {
        VERBS.get(verb).call(communicator, memory);
        communicator.synchronize();
    }

    @ParameterizedTest
    @MethodSource("verbs")
    void aRankThatStallsIsNoticedAfterTheDeadlineWithVerbAndStep(String verb) {
        CountDownLatch failed = new CountDownLatch(1);
        List<Ending> endings = run(shortDeadline(), (communicator, memory) -> {
            communicator.at("forward", 3);
            call(verb, communicator, memory); // works
            if (communicator.rank() == 1) {
                failed.await();
            }
            try {
                call(verb, communicator, memory);
            } finally {
                failed.countDown();
            }
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining(
                        "rank 0 waited " + shortDeadline().toMillis() + " ms, the deadline, in " + named(verb))
                .hasMessageContaining("step 3 of forward"));
        assertThat(endings.get(0).after()).isLessThan(shortDeadline().plusSeconds(5));
    }

    @Test
    void aRankThatIsSlowIsWaitedFor() {
        List<Ending> endings = run(Duration.ofSeconds(2), (communicator, memory) -> {
            for (String verb : List.of("exchange", "allReduce", "barrier")) {
                if (communicator.rank() == 1) {
                    Thread.sleep(200);
                }
                call(verb, communicator, memory);
            }
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown()).isNull());
        assertThat(endings.get(0).after()).isGreaterThan(Duration.ofMillis(500));
    }

    @ParameterizedTest
    @MethodSource("verbs")
    void aRankThatGivesUpIsNamedAtOnceAndForGood(String verb) {
        IllegalStateException boom = new IllegalStateException("boom");
        List<Ending> endings = run(LONG, (communicator, memory) -> {
            if (communicator.rank() == 1) {
                Thread.sleep(50); // rank 0 waits by now
                communicator.abort(boom);
                communicator.abort(new IllegalStateException("later"));
            }
            Throwable first = catchThrowable(() -> call(verb, communicator, memory));
            assertThat(first)
                    .isInstanceOf(CommunicationException.class)
                    .hasMessageContaining("rank 1 failed")
                    .hasMessageContaining("boom");
            if (causesReachPeers() || communicator.rank() == 1) {
                assertThat(first).hasCause(boom);
            }
            for (String other : VERBS.keySet()) {
                assertThatThrownBy(() -> call(other, communicator, memory))
                        .as(other)
                        .isInstanceOf(CommunicationException.class)
                        .hasMessage(first.getMessage());
            }
            assertThatThrownBy(() -> communicator.split(0, 0)).hasMessage(first.getMessage());
            assertThatThrownBy(() -> communicator.agree(Map.of())).hasMessage(first.getMessage());
            assertThatThrownBy(communicator::synchronize).hasMessage(first.getMessage());
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown()).isNull());
        assertThat(endings).allSatisfy(ending -> assertThat(ending.after()).isLessThan(Duration.ofSeconds(10)));
    }

    @Test
    void aRankThatLeavesWithBatchesUnderWayFailsTheGroup() {
        CountDownLatch left = new CountDownLatch(1);
        List<Ending> endings = run(LONG, (communicator, memory) -> {
            communicator.post(memory, 24, 1 - communicator.rank(), memory + 512, 24, 1 - communicator.rank());
            communicator.post(new Transfers());
            if (communicator.rank() == 1) {
                try {
                    communicator.close();
                } finally {
                    left.countDown();
                }
            } else {
                left.await();
                communicator.barrier();
            }
        });
        assertThat(endings.get(1).failed()).isFalse();
        assertThat(endings.get(0).thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank 1 left the group with 2 exchanges posted but not awaited");
    }

    @Test
    void plansThatDifferAreOneErrorOnAllRanks() {
        List<Ending> endings = run(LONG, (communicator, memory) -> {
            communicator.agree(Map.of("dtype", "FLOAT32"));
            communicator.agree(Map.of("dtype", communicator.rank() == 1 ? "FLOAT64" : "FLOAT32"));
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageStartingWith("rank 1 and rank 0 cannot agree on plan 2: dtype is FLOAT64 on rank 1"));
    }

    /** What is refused has sent nothing: the group works on. */
    @Test
    void whatIsRefusedChangesNothing() {
        List<Ending> endings = run(LONG, (communicator, memory) -> {
            int peer = 1 - communicator.rank();
            Transfers batch = new Transfers().send(memory, 8, peer).receive(memory + 512, 8, peer);
            if (communicator.rank() == 0) { // alone
                assertThatIllegalArgumentException()
                        .isThrownBy(() -> communicator.post(memory, 8, 2, memory + 512, 8, 1));
                assertThatIllegalArgumentException()
                        .isThrownBy(() -> communicator.post(new Transfers().send(memory, 8, 2)));
                assertThatIllegalArgumentException().isThrownBy(() -> communicator.await(0));
                assertThatIllegalArgumentException()
                        .isThrownBy(() -> communicator.allGather(memory, new long[1], memory + 512));
                assertThatIllegalArgumentException().isThrownBy(() -> communicator.split(-1, 0));
            }
            for (int round = 0; round < 2; round++) {
                for (int i = 0; i < 8; i++) {
                    communicator.post(batch);
                    batch.clear().send(memory, 8, peer).receive(memory + 512 + 8 * (i + 1), 8, peer);
                }
                assertThatIllegalStateException()
                        .isThrownBy(() -> communicator.post(batch))
                        .withMessage("more than 8 exchanges posted without await");
                communicator.await(8 * round + 3);
                communicator.await();
                batch.clear().send(memory, 8, peer).receive(memory + 512, 8, peer);
            }
            communicator.barrier();
            communicator.close();
            assertThatIllegalStateException()
                    .isThrownBy(() -> communicator.post(batch))
                    .withMessageContaining("is closed");
            communicator.close();
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    @Test
    void aThreadThatComesIntoAnothersCallIsRefused() {
        CountDownLatch waiting = new CountDownLatch(1);
        List<Ending> endings = run(LONG, (communicator, memory) -> {
            if (communicator.rank() == 0) {
                Thread other = new Thread(
                        () -> {
                            while (catchThrowable(communicator::barrier) != null) {
                                Thread.onSpinWait(); // refused: this thread is inside
                            }
                        },
                        "other");
                other.start();
                while (!isBusy(communicator)) {
                    Thread.onSpinWait();
                }
                assertThatIllegalStateException()
                        .isThrownBy(communicator::close)
                        .withMessageContaining("another thread");
                waiting.countDown();
                other.join();
            } else {
                waiting.await();
                communicator.barrier();
            }
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    /** Returns whether another thread is inside, without waiting for peers. */
    private static boolean isBusy(Communicator communicator) {
        Throwable thrown = catchThrowable(() -> communicator.stream(0));
        assertThat(thrown == null || thrown.getMessage().contains("another thread"))
                .isTrue();
        return thrown != null;
    }
}
