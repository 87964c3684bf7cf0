package org.flashring.comm.local;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;
import org.flashring.DType;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.Ranks;
import org.flashring.comm.Ranks.Ending;
import org.flashring.comm.Transfers;
import org.flashring.device.HostBuffer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Ranks that throw, stall, leave, disagree or are interrupted: the others learn of it soon, and why; nothing hangs. */
@Timeout(60)
class LocalFailureTest {
    private static final int WORLD = 4;
    private static final Duration LONG = Duration.ofSeconds(15);
    private static final Duration SHORT = Duration.ofMillis(250);
    /** Far from the deadline, and more than a machine with three times as many threads as cores takes. */
    private static final Duration PROMPT = Duration.ofSeconds(5);

    /** A verb that waits for all ranks, or for rank 1 at least. */
    private static final Map<String, Ranks.Body> VERBS = new TreeMap<>(Map.of(
            "barrier", Communicator::barrier,
            "allReduce", c -> withBuffers((a, b) -> c.allReduce(a, 3, DType.FLOAT32)),
            "reduceScatter", c -> withBuffers((a, b) -> c.reduceScatter(a, 3, DType.FLOAT64, b)),
            "allGather", c -> withBuffers((a, b) -> c.allGather(a, 24, b)),
            "reduceScatter of parts",
                    c -> withBuffers((a, b) -> c.reduceScatter(a, new long[] {3, 1, 0, 2}, DType.FLOAT64, b)),
            "allGather of parts", c -> withBuffers((a, b) -> c.allGather(a, new long[] {24, 8, 0, 16}, b)),
            "allToAll", c -> withBuffers((a, b) -> c.allToAll(a, 24, b)),
            "agree", c -> c.agree(Map.of("dtype", "FLOAT32")),
            "split", c -> c.split(c.rank(), 0).close(),
            "receive",
                    c -> withBuffers((a, b) -> {
                        c.post(a, 24, c.rank(), b, 24, 1);
                        c.await();
                    })));

    @FunctionalInterface
    private interface Use {
        void with(long first, long second) throws Exception;
    }

    private static void withBuffers(Use use) throws Exception {
        try (HostBuffer first = HostBuffer.allocate(1024);
                HostBuffer second = HostBuffer.allocate(1024)) {
            use.with(first.address(), second.address());
        }
    }

    static Stream<String> verbs() {
        return VERBS.keySet().stream();
    }

    static Stream<String> collectives() {
        return verbs().filter(verb -> !verb.equals("receive"));
    }

    private static void assertPrompt(List<Ending> endings, Duration from) {
        assertThat(endings).allSatisfy(ending -> assertThat(ending.after()).isLessThan(from.plus(PROMPT)));
    }

    @ParameterizedTest
    @MethodSource("verbs")
    void aRankThatThrowsEndsTheWaitOfAllOthersAtOnceAndIsNamed(String verb) {
        IllegalStateException boom = new IllegalStateException("boom");
        Throwable[] seen = new Throwable[WORLD];
        long start = System.nanoTime();
        Throwable thrown = catchThrowable(() -> LocalGroup.run(WORLD, LONG, communicator -> {
            communicator.barrier();
            if (communicator.rank() == 1) {
                pause(50);
                throw boom;
            }
            seen[communicator.rank()] = catchThrowable(() -> VERBS.get(verb).run(communicator));
            return null;
        }));
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(PROMPT);
        assertThat(thrown)
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank 1 failed")
                .hasMessageContaining("boom")
                .hasCause(boom);
        for (int rank : new int[] {0, 2, 3}) {
            assertThat(seen[rank])
                    .as("rank %d", rank)
                    .isInstanceOf(CommunicationException.class)
                    .hasMessageContaining("rank 1 failed")
                    .hasCause(boom);
        }
    }

    @ParameterizedTest
    @MethodSource("verbs")
    void aRankThatStallsIsNamedWithTheVerbAfterTheDeadline(String verb) {
        CountDownLatch done = new CountDownLatch(WORLD - 1);
        List<Ending> endings = Ranks.run(WORLD, SHORT, communicator -> {
            if (communicator.rank() == 1) {
                done.await();
                communicator.barrier(); // too late
            }
            try {
                VERBS.get(verb).run(communicator);
            } finally {
                done.countDown();
            }
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("deadline")
                .hasMessageContaining(SHORT.toMillis() + " ms")
                .hasMessageContaining("in " + verb)
                .hasMessageContaining("for rank 1"));
        assertPrompt(endings, SHORT);
    }

    @Test
    void whatTheFailedRankWasAtIsNamed() {
        List<Ending> stalled = Ranks.run(2, SHORT, communicator -> {
            communicator.at("forward", 0);
            communicator.barrier();
            communicator.at("backward", 2 + communicator.rank());
            if (communicator.rank() == 1) {
                pause(2 * (int) SHORT.toMillis());
            }
            communicator.barrier();
        });
        assertThat(stalled).allSatisfy(ending -> assertThat(ending.thrown())
                .hasMessage("rank 0 waited 250 ms, the deadline, in barrier for rank 1 (step 2 of backward)"));
        List<Ending> aborted = Ranks.run(2, LONG, communicator -> {
            communicator.at("forward", 5);
            if (communicator.rank() == 1) {
                communicator.abort(new IllegalStateException("boom"));
            }
            communicator.at(null, 0);
            communicator.barrier();
        });
        assertThat(aborted).allSatisfy(ending -> assertThat(ending.thrown())
                .hasMessage("rank 1 failed: java.lang.IllegalStateException: boom (step 5 of forward)"));
        List<Ending> between = Ranks.run(2, LONG, communicator -> {
            communicator.at("forward", 5);
            communicator.at(null, 0);
            if (communicator.rank() == 1) {
                communicator.abort(new IllegalStateException("boom"));
            }
            communicator.barrier();
        });
        assertThat(between).allSatisfy(ending -> assertThat(ending.thrown())
                .hasMessage("rank 1 failed: java.lang.IllegalStateException: boom"));
    }

    @Test
    void aReceiverThatNeverTakesWhatItIsSentIsNamedByTheSender() {
        CountDownLatch done = new CountDownLatch(1);
        List<Ending> endings = Ranks.run(
                2,
                SHORT,
                c -> withBuffers((a, b) -> {
                    c.post(a, 8, 1 - c.rank(), b, 8, 1 - c.rank());
                    if (c.rank() == 1) {
                        done.await();
                    }
                    try {
                        c.await();
                    } finally {
                        done.countDown();
                    }
                }));
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank 0 waited 250 ms, the deadline, in send for rank 1"));
        assertPrompt(endings, SHORT);
    }

    @ParameterizedTest
    @MethodSource("verbs")
    void aRankThatLeavesEarlyIsNamedByThoseWhoNeedIt(String verb) {
        List<Ending> endings = Ranks.run(WORLD, LONG, communicator -> {
            if (communicator.rank() != 1) {
                VERBS.get(verb).run(communicator);
            }
        });
        assertThat(endings.get(1).failed()).isFalse();
        for (int rank : new int[] {0, 2, 3}) {
            assertThat(endings.get(rank).thrown())
                    .isInstanceOf(CommunicationException.class)
                    .hasMessageContaining("rank 1 has left");
        }
        assertPrompt(endings, Duration.ZERO);
    }

    @ParameterizedTest
    @MethodSource("verbs")
    void anInterruptEndsTheWaitOfAll(String verb) {
        AtomicReference<Boolean> flag = new AtomicReference<>();
        List<Ending> endings = Ranks.run(WORLD, LONG, communicator -> {
            communicator.barrier();
            if (communicator.rank() == 1) {
                pause(100);
                Thread.currentThread().interrupt();
                try {
                    communicator.barrier(); // does not complete: the others do something else, or wait for this rank
                    communicator.barrier();
                } finally {
                    flag.set(Thread.currentThread().isInterrupted());
                }
            }
            if (communicator.rank() == 0 || verb.equals("barrier")) {
                pause(300);
            }
            VERBS.get(verb).run(communicator);
        });
        assertThat(endings)
                .allSatisfy(ending -> assertThat(ending.thrown()).isInstanceOf(CommunicationException.class));
        assertThat(flag.get()).isTrue();
        assertPrompt(endings, Duration.ZERO);
    }

    @Test
    void anInterruptedRankSaysSo() {
        List<Ending> endings = Ranks.run(2, LONG, communicator -> {
            if (communicator.rank() == 1) {
                Thread.currentThread().interrupt();
                communicator.barrier();
            }
            pause(200);
            communicator.barrier();
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .hasMessageContaining("rank 1 was interrupted in barrier")
                .hasCauseInstanceOf(InterruptedException.class));
    }

    static Stream<Arguments> disagreements() {
        return collectives()
                .flatMap(one -> collectives().filter(two -> !two.equals(one)).map(two -> Arguments.of(one, two)));
    }

    @ParameterizedTest(name = "{0} against {1}")
    @MethodSource("disagreements")
    void ranksThatCallDifferentVerbsAllFail(String one, String two) {
        List<Ending> endings = Ranks.run(WORLD, LONG, communicator -> {
            VERBS.get(two).run(communicator); // leaves addresses and sizes behind that must not be taken for new ones
            VERBS.get(communicator.rank() == 1 ? one : two).run(communicator);
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining(one)
                .hasMessageContaining(two)
                .hasMessageContaining("rank 1"));
        assertPrompt(endings, Duration.ZERO);
    }

    @ParameterizedTest
    @ValueSource(strings = {"allReduce", "reduceScatter", "allGather", "allToAll"})
    void ranksThatDisagreeAboutSizesAllFail(String verb) {
        List<Ending> endings = Ranks.run(
                WORLD,
                LONG,
                c -> withBuffers((a, b) -> {
                    int count = c.rank() == 2 ? 4 : 3;
                    switch (verb) {
                        case "allReduce" -> c.allReduce(a, count, DType.FLOAT64);
                        case "reduceScatter" -> c.reduceScatter(a, count, DType.FLOAT64, b);
                        case "allGather" -> c.allGather(a, 8L * count, b);
                        default -> c.allToAll(a, 8L * count, b);
                    }
                }));
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining(verb)
                .hasMessageContaining("24")
                .hasMessageContaining("32")
                .hasMessageContaining("rank 2"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"allGather of parts", "reduceScatter of parts of FLOAT64"})
    void ranksThatDisagreeAboutPartsAllFail(String verb) {
        List<Ending> endings = Ranks.run(
                WORLD,
                LONG,
                c -> withBuffers((a, b) -> {
                    long part = c.rank() == 2 ? 4 : 3;
                    if (verb.startsWith("allGather")) {
                        c.allGather(a, new long[] {8, 8 * part, 0, 8}, b);
                    } else {
                        c.reduceScatter(a, new long[] {1, part, 0, 1}, DType.FLOAT64, b);
                    }
                }));
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageMatching("rank . calls " + verb + " with (24|32) bytes for rank 1, rank . with (24|32)"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"allReduce", "reduceScatter"})
    void ranksThatDisagreeAboutTypesAllFailThoughTheBytesAgree(String verb) {
        List<Ending> endings = Ranks.run(
                WORLD,
                LONG,
                c -> withBuffers((a, b) -> {
                    DType dtype = c.rank() == 2 ? DType.FLOAT16 : DType.BFLOAT16;
                    if (verb.equals("allReduce")) {
                        c.allReduce(a, 3, dtype);
                    } else {
                        c.reduceScatter(a, 3, dtype, b);
                    }
                }));
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining(verb)
                .hasMessageContaining("FLOAT16")
                .hasMessageContaining("BFLOAT16"));
    }

    @Test
    void aReceiverThatExpectsAnotherSizeFailsTheGroup() {
        List<Ending> endings = Ranks.run(
                WORLD,
                LONG,
                c -> withBuffers((a, b) -> {
                    c.post(a, 16, (c.rank() + 1) % WORLD, b, c.rank() == 2 ? 24 : 16, (c.rank() + 3) % WORLD);
                    c.await();
                    c.barrier();
                }));
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank 2 expected 24 bytes from rank 1, which sends 16"));
    }

    @Test
    void aBatchOfAnotherNumberOfMessagesFailsTheGroup() {
        List<Ending> endings = Ranks.run(
                WORLD,
                LONG,
                c -> withBuffers((a, b) -> {
                    Transfers batch =
                            new Transfers().send(a, 8, (c.rank() + 1) % WORLD).receive(b, 8, (c.rank() + 3) % WORLD);
                    if (c.rank() == 2) {
                        batch.receive(b + 8, 8, 1);
                    }
                    c.post(batch);
                    c.await();
                    c.barrier();
                }));
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessage("rank 2 expected 2 messages from rank 1, which sends 1"));
    }

    private static void pause(int millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
