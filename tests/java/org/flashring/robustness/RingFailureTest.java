package org.flashring.robustness;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.HostBuffer;
import org.flashring.plan.Plan;
import org.flashring.sync.GradientSync;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * One of four ranks dies or stalls before each call that a training step makes: in forward, in backward, in the
 * gradient sum. The others end at once, or after the deadline, with the reason; nothing hangs or crashes, and a new
 * group works.
 */
@Timeout(120)
class RingFailureTest {
    private static final int WORLD = 4;
    private static final Duration LONG = Duration.ofSeconds(20);
    /** Far from the deadline, and more than a machine with three times as many threads as cores takes. */
    private static final Duration PROMPT = Duration.ofSeconds(5);

    private static final AttentionShape SHAPE = new AttentionShape(Operand.BATCH, 4, 2, 8, 6, DType.BFLOAT16);
    private static final Plan PLAN =
            Plan.of(SHAPE, Layout.zigzag(WORLD * Operand.LENGTH, WORLD), Mask.full(), AttentionOptions.defaults());
    /** An agreement; forward: 3 exchanges and 4 waits; backward: 7 and 5; one sum. */
    private static final int CALLS = 1 + 3 + 4 + 7 + 5 + 1;

    /** Forward, backward and a gradient sum; returns the number of calls to the communicator. */
    private static int trainingStep(Communicator communicator, IntConsumer before) {
        FaultyCommunicator faulty = new FaultyCommunicator(communicator, before);
        Tensor[] t = Stream.of(Operand.values()).map(Operand::good).toArray(Tensor[]::new);
        try (RingAttention ring = new RingAttention(PLAN, faulty);
                GradientSync sync = new GradientSync(faulty, DType.FLOAT32, new long[] {30, 40}, 1 << 20);
                HostBuffer gradients = HostBuffer.allocate(280)) {
            Operand.call(ring, false, t);
            Operand.call(ring, true, t);
            sync.ready(1, gradients.address());
            sync.ready(0, gradients.address() + 160);
            sync.finish();
        }
        return faulty.calls();
    }

    static Stream<Arguments> points() {
        return IntStream.range(0, CALLS).boxed().flatMap(call -> IntStream.of(0, 2)
                .mapToObj(rank -> Arguments.of(rank, call)));
    }

    @Test
    void aStepMakesTheCallsThatTheseTestsBreakOneByOne() {
        assertThat(LocalGroup.run(WORLD, communicator -> trainingStep(communicator, call -> {})))
                .containsOnly(CALLS);
    }

    @ParameterizedTest(name = "rank {0} before call {1}")
    @MethodSource("points")
    void aRankThatDiesEndsAllOthersAtOnce(int dying, int point) {
        IllegalStateException death = new IllegalStateException("killed before call " + point);
        Throwable[] seen = new Throwable[WORLD];
        long start = System.nanoTime();
        Throwable thrown = catchThrowable(() -> LocalGroup.run(WORLD, LONG, communicator -> {
            int rank = communicator.rank();
            try {
                return trainingStep(communicator, call -> {
                    if (rank == dying && call == point) {
                        throw death;
                    }
                });
            } catch (RuntimeException e) {
                seen[rank] = e;
                throw e;
            }
        }));
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(PROMPT);
        assertThat(thrown)
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank " + dying + " failed")
                .hasCause(death);
        for (int rank = 0; rank < WORLD; rank++) {
            if (rank == dying) {
                assertThat(seen[rank]).isSameAs(death);
            } else if (seen[rank] != null) { // a rank may have finished all that it needed the dying one for
                assertThat(seen[rank])
                        .isInstanceOf(CommunicationException.class)
                        .hasMessageContaining(death.getMessage());
            }
        }
        long survivors = Arrays.stream(seen).filter(failure -> failure == null).count();
        assertThat(survivors).as("ranks that did not notice").isZero();
    }

    @ParameterizedTest(name = "rank {0} before call {1}")
    @MethodSource("stalls")
    void aRankThatStallsEndsAllOthersAfterTheDeadline(int stalling, int point) {
        Duration deadline = Duration.ofMillis(200);
        Duration[] after = new Duration[WORLD];
        Throwable thrown = catchThrowable(() -> LocalGroup.run(WORLD, deadline, communicator -> {
            int rank = communicator.rank();
            long start = System.nanoTime();
            try {
                return trainingStep(communicator, call -> {
                    if (rank == stalling && call == point) {
                        sleep(deadline.multipliedBy(3));
                    }
                });
            } finally {
                after[rank] = Duration.ofNanos(System.nanoTime() - start);
            }
        }));
        assertThat(thrown)
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("the deadline")
                .hasMessageMatching(".*in ((receive|send) for rank \\d \\(step \\d of"
                        + " (forward|backward)\\)|(allReduce.*|agree on plan 1) for rank \\d)");
        for (int rank = 0; rank < WORLD; rank++) {
            assertThat(after[rank]).as("rank %d", rank).isLessThan(deadline.plus(PROMPT));
        }
    }

    static Stream<Arguments> stalls() {
        return Stream.of(0, 1, 4, 8, 13, CALLS - 1).map(call -> Arguments.of(1, call));
    }

    /** Its buffers are freed next: no peer may be at them. */
    @Test
    void aRingThatFailsHasEndedTheGroupBeforeItThrows() {
        LocalGroup.run(2, LONG, communicator -> {
            Plan plan = Plan.of(SHAPE, Layout.zigzag(2 * Operand.LENGTH, 2), Mask.full(), AttentionOptions.defaults());
            FaultyCommunicator faulty = new FaultyCommunicator(communicator, call -> {
                if (communicator.rank() == 1 && call == 2) { // its keys are posted
                    throw new IllegalStateException("killed");
                }
            });
            try (RingAttention ring = new RingAttention(plan, faulty)) {
                Throwable thrown = catchThrowable(() -> Operand.call(ring, false, null, null));
                assertThat(thrown).hasMessageContaining("killed");
                assertThat(catchThrowable(communicator::barrier))
                        .isInstanceOf(CommunicationException.class)
                        .hasMessageContaining("rank 1 failed");
            }
            return null;
        });
    }

    @Test
    void aRankWithATensorOfTheWrongShapeIsTheOneThatIsNamed() {
        Throwable thrown = catchThrowable(() -> LocalGroup.run(WORLD, LONG, communicator -> {
            try (RingAttention ring = new RingAttention(PLAN, communicator)) {
                boolean wrong = communicator.rank() == 3;
                Operand.call(ring, false, Operand.K, wrong ? Operand.K.off(0, 1, 0, 0) : Operand.K.good());
            }
            return null;
        }));
        assertThat(thrown)
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("rank 3")
                .hasMessageContaining("k shape");
    }

    @Test
    void aNewGroupWorksAfterAFailedOne() {
        assertThat(catchThrowable(() -> LocalGroup.run(
                        WORLD,
                        LONG,
                        communicator -> trainingStep(communicator, call -> {
                            if (communicator.rank() == 1 && call == 4) {
                                throw new IllegalStateException("killed");
                            }
                        }))))
                .isNotNull();
        List<Integer> calls = LocalGroup.run(WORLD, LONG, communicator -> trainingStep(communicator, call -> {}));
        assertThat(calls).containsOnly(CALLS);
    }

    private static void sleep(Duration duration) {
        try {
            Thread.sleep(duration.toMillis());
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }
}
