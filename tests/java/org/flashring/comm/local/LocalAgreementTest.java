package org.flashring.comm.local;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.ref.WeakReference;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.Ranks;
import org.flashring.comm.Ranks.Ending;
import org.flashring.plan.Plan;
import org.flashring.support.Disagreement;
import org.flashring.support.Placement;
import org.flashring.support.RankTensors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Ranks whose plans differ, or that run them in another order or number, all learn of it before anything is computed.
 */
@Timeout(60)
class LocalAgreementTest {
    private static final int WORLD = Disagreement.WORLD;
    private static final Duration LONG = Duration.ofSeconds(30);
    private static final Duration SHORT = Duration.ofMillis(250);
    /** Far from the deadline, and more than a busy machine takes. */
    private static final Duration PROMPT = Duration.ofSeconds(15);

    private static final AttentionShape SHAPE = AttentionShape.of(1, 2, 1, 8, DType.FLOAT32);
    private static final Plan A = Plan.of(SHAPE, Layout.zigzag(24, WORLD), Mask.causal(), AttentionOptions.defaults());
    private static final Plan B = Plan.of(SHAPE, Layout.zigzag(24, WORLD), Mask.full(), AttentionOptions.defaults());

    static List<Disagreement> disagreements() {
        return Disagreement.all();
    }

    /** One rank's attention with tensors that fit. */
    private record Attention(ShardedAttention attention, RankTensors t) implements AutoCloseable {
        static Attention of(Plan plan, Communicator communicator) {
            int rank = communicator.rank();
            return new Attention(
                    new ShardedAttention(plan, communicator),
                    new RankTensors(
                            plan.shape(),
                            plan.queries().positions(rank),
                            plan.keys().positions(rank),
                            Placement.DENSE,
                            plan.shape().dtype()));
        }

        private Forward operands() {
            return new Forward(t.q.tensor(), t.k.tensor(), t.v.tensor(), t.out.tensor(), t.lse.tensor());
        }

        void forward() {
            attention.forward(operands(), 0);
        }

        void backward() {
            attention.backward(
                    new Backward(operands(), t.dout.tensor(), t.dq.tensor(), t.dk.tensor(), t.dv.tensor()), 0);
        }

        @Override
        public void close() {
            attention.close();
        }
    }

    private static void allFail(List<Ending> endings, String... named) {
        assertThat(endings).allSatisfy(ending -> {
            assertThat(ending.thrown())
                    .isInstanceOf(CommunicationException.class)
                    .hasMessageContainingAll(named);
            assertThat(ending.after()).isLessThan(PROMPT);
        });
        assertThat(endings)
                .extracting(ending -> ending.thrown().getMessage())
                .as("one reason for all")
                .containsOnly(endings.get(0).thrown().getMessage());
    }

    @ParameterizedTest
    @MethodSource("disagreements")
    void anotherPlanIsOneErrorOnEveryRank(Disagreement disagreement) {
        allFail(
                Ranks.run(WORLD, LONG, communicator -> {
                    Plan plan = communicator.rank() == 2 ? disagreement.other() : disagreement.usual();
                    try (Attention attention = Attention.of(plan, communicator)) {
                        attention.forward();
                    }
                }),
                "plan 1",
                disagreement.named());
    }

    private static List<Long> sent(Plan plan, int rank) {
        return IntStream.range(0, plan.steps())
                .mapToObj(step -> plan.forwardBytesSent(rank, step))
                .toList();
    }

    /** What the byte counts of messages show was an error before; these were wrong results. */
    @Test
    void mostOfThemMoveTheSameBytes() {
        List<Disagreement> silent =
                Disagreement.all().stream().filter(Disagreement::silent).toList();
        assertThat(silent).hasSizeGreaterThan(16).allSatisfy(each -> {
            for (int rank = 0; rank < WORLD; rank++) {
                int own = rank;
                assertThat(sent(each.other(), own)).isEqualTo(sent(each.usual(), own));
            }
        });
    }

    @Test
    void anOffsetAmongAMillionIsFoundAndSaidInFewWords() {
        long[] cuSeqlens = LongStream.rangeClosed(0, 1_000_000).toArray();
        Map<String, String> one = Plan.of(
                        SHAPE,
                        Layout.contiguous(24, WORLD),
                        Mask.causal().documents(cuSeqlens),
                        AttentionOptions.defaults())
                .terms();
        cuSeqlens[700_001]--;
        Map<String, String> other = Plan.of(
                        SHAPE,
                        Layout.contiguous(24, WORLD),
                        Mask.causal().documents(cuSeqlens),
                        AttentionOptions.defaults())
                .terms();
        List<Ending> endings =
                Ranks.run(WORLD, LONG, communicator -> communicator.agree(communicator.rank() == 1 ? other : one));
        allFail(endings, "mask: cuSeqlens[687511..750011] is 687511 to 750011 #", "on rank 1", "on rank 0");
        assertThat(endings.get(0).thrown().getMessage().length()).isLessThan(250);
    }

    @Test
    void anotherFirstCallIsAnError() {
        allFail(
                Ranks.run(WORLD, LONG, communicator -> {
                    try (Attention attention = Attention.of(A, communicator)) {
                        if (communicator.rank() == 1) {
                            attention.backward();
                        } else {
                            attention.forward();
                        }
                    }
                }),
                "first call is backward on rank 1, forward on rank 0");
    }

    @Test
    void plansInAnotherOrderAreAnError() {
        allFail(
                Ranks.run(WORLD, LONG, communicator -> {
                    boolean turned = communicator.rank() == 2;
                    try (Attention first = Attention.of(turned ? B : A, communicator);
                            Attention second = Attention.of(turned ? A : B, communicator)) {
                        first.forward();
                        second.forward();
                    }
                }),
                "plan 1",
                "mask is full on rank 2, causal on rank 0");
    }

    /** Making an operation waits for nobody: ranks may do so long before they call it, or just then. */
    @Test
    void ranksThatMakeTheirOperationsEarlyOrLateAgree() {
        assertThat(Ranks.run(WORLD, LONG, communicator -> {
                    if (communicator.rank() == 0) {
                        try (Attention first = Attention.of(A, communicator);
                                Attention second = Attention.of(B, communicator)) {
                            first.forward();
                            second.forward();
                            first.backward();
                        }
                    } else {
                        try (Attention first = Attention.of(A, communicator)) {
                            first.forward();
                            communicator.device();
                            try (Attention second = Attention.of(B, communicator)) {
                                second.forward();
                            }
                            first.backward();
                        }
                    }
                }))
                .allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    /** Runs plan A on all ranks, then plan B on all but rank 2, which does {@code instead}. */
    private static List<Ending> withoutSecondPlan(Duration deadline, Ranks.Body instead) {
        return Ranks.run(WORLD, deadline, communicator -> {
            try (Attention first = Attention.of(A, communicator)) {
                first.forward();
                if (communicator.rank() == 2) {
                    instead.run(communicator);
                    first.forward();
                    return;
                }
                try (Attention second = Attention.of(B, communicator)) {
                    second.forward();
                }
            }
        });
    }

    @Test
    void aRankThatGoesOnWithItsOldPlanIsNamedAtOnce() {
        allFail(
                withoutSecondPlan(LONG, communicator -> {}),
                "rank 2 waits in receive for rank 1, which calls agree on plan 2");
    }

    @Test
    void aRankThatIsAtAnotherVerbIsNamedAtOnce() {
        allFail(withoutSecondPlan(LONG, Communicator::barrier), "calls barrier", "calls agree on plan 2", "rank 2");
    }

    @Test
    void aRankThatLeavesBeforeTheSecondPlanIsNamedAtOnce() {
        List<Ending> endings = withoutSecondPlan(LONG, Communicator::close);
        assertThat(endings.subList(0, 2)).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("waits in agree on plan 2, but rank 2 has left the group"));
    }

    @Test
    void aRankThatStallsBeforeTheSecondPlanIsNamedAfterTheDeadline() {
        allFail(
                withoutSecondPlan(SHORT, communicator -> Thread.sleep(2_000)),
                "waited 250 ms, the deadline, in agree on plan 2 for rank 2");
    }

    @Test
    void aThousandRandomEqualPlansAgree() {
        assertThat(Ranks.run(WORLD, LONG, communicator -> {
                    for (int seed = 0; seed < 1000; seed++) {
                        communicator.agree(Disagreement.random(seed).terms()); // each rank makes its own
                    }
                }))
                .allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    @Test
    void partsOfAGroupAgreeByThemselves() {
        assertThat(Ranks.run(4, LONG, communicator -> {
                    try (Communicator part = communicator.split(communicator.rank() % 2, 0)) {
                        part.agree(Map.of("color", String.valueOf(communicator.rank() % 2)));
                        communicator.agree(Map.of());
                    }
                }))
                .allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    @Test
    void nothingOfAPlanIsKeptOnceAllHaveAgreed() throws InterruptedException {
        List<Communicator> group = LocalGroup.create(2, LONG);
        WeakReference<Object> terms = agreed(group);
        for (int i = 0; i < 50 && terms.get() != null; i++) {
            System.gc();
            Thread.sleep(20);
        }
        assertThat(terms.get()).isNull();
        group.forEach(Communicator::close);
    }

    private static WeakReference<Object> agreed(List<Communicator> group) throws InterruptedException {
        Map<String, String> terms = Disagreement.random(1).terms();
        List<Thread> threads = new ArrayList<>();
        for (Communicator communicator : group) {
            threads.add(new Thread(() -> communicator.agree(terms)));
        }
        threads.forEach(Thread::start);
        threads.forEach(Ranks::join);
        return new WeakReference<>(terms);
    }
}
