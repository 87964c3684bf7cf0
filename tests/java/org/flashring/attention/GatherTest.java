package org.flashring.attention;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Communicator;
import org.flashring.comm.Transfers;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Gather;
import org.flashring.plan.Plan;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.support.MaskRule;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.RankTensors;
import org.flashring.support.Strategies;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What a gather's plan says of bytes, and who may run it. What it computes is proven by the grid of cases. */
class GatherTest {
    private static final Problem PROBLEM =
            Problem.of(new AttentionShape(2, 6, 3, 8, 4, DType.BFLOAT16), 23, MaskRule.CAUSAL, 1);
    private static final Layout LAYOUT = Layout.zigzag(23, 3);

    private static Plan plan(Strategy strategy) {
        org.flashring.plan.Problem problem = org.flashring.plan.Problem.of(
                PROBLEM.shape(), LAYOUT, PROBLEM.mask().mask());
        return Plan.of(problem, strategy, AttentionOptions.defaults());
    }

    @ParameterizedTest
    @ValueSource(strings = {"ring", "ring 1", "ring 2", "gather 1", "gather 2", "gather 3"})
    void sendsWhatWasPlanned(String strategy) {
        Plan plan = plan(Strategies.named(strategy));
        LocalGroup.run(3, communicator -> {
            int rank = communicator.rank();
            AtomicLong sent = new AtomicLong();
            RankTensors t = new RankTensors(
                    PROBLEM.shape(), LAYOUT.positions(rank), LAYOUT.positions(rank), Placement.DENSE, DType.FLOAT32);
            t.scatter(PROBLEM.inputs());
            Forward forward = new Forward(t.q.tensor(), t.k.tensor(), t.v.tensor(), t.out.tensor(), t.lse.tensor());
            try (ShardedAttention attention = new ShardedAttention(plan, counting(communicator, sent))) {
                attention.forward(forward, 0);
                assertThat(sent.getAndSet(0))
                        .as("forward of rank %d", rank)
                        .isEqualTo(plan.forwardBytesSent(rank))
                        .isPositive();
                attention.backward(
                        new Backward(forward, t.dout.tensor(), t.dq.tensor(), t.dk.tensor(), t.dv.tensor()), 0);
                assertThat(sent.get())
                        .as("backward of rank %d", rank)
                        .isEqualTo(plan.backwardBytesSent(rank))
                        .isPositive();
                assertThat(attention.bytesHeld()).isEqualTo(plan.bytesHeld(rank));
            }
            return null;
        });
    }

    /** Returns {@code real}, which adds the bytes of what is sent to {@code sent}. */
    static Communicator counting(Communicator real, AtomicLong sent) {
        return (Communicator) Proxy.newProxyInstance(
                GatherTest.class.getClassLoader(), new Class<?>[] {Communicator.class}, (proxy, method, arguments) -> {
                    if (arguments != null && arguments[0] instanceof Transfers transfers) {
                        for (int i = 0; i < transfers.sends(); i++) {
                            sent.addAndGet(transfers.sendBytes(i));
                        }
                    }
                    try {
                        return method.invoke(real, arguments);
                    } catch (InvocationTargetException e) {
                        throw e.getCause();
                    }
                });
    }

    /**
     * Every rank gets every other's keys and values once, and sends each its share of the gradients, whatever comes at
     * once.
     */
    @Test
    void bytesSentAreThoseOfAnAllGatherAndAReduceScatter() {
        for (long heads = 1; heads <= 4; heads++) {
            Plan plan = plan(new Gather(heads));
            for (int rank = 0; rank < 3; rank++) {
                long own = 2 * LAYOUT.localLength(rank) * 3 * (8 + 4);
                long others = 2 * 23 * 3 * (8 + 4) - own;
                assertThat(plan.forwardBytesSent(rank)).isEqualTo(2 * own * 2);
                assertThat(plan.backwardBytesSent(rank)).isEqualTo(2 * own * 2 + others * 4);
                assertThat(plan.steps()).isEqualTo(heads == 1 ? 4 : heads == 2 ? 3 : 2);
            }
        }
    }

    /**
     * Keys and values of all, twice (as they come and in order), their gradients, gradients for others and from others,
     * own ones: all of one head.
     */
    @Test
    void bytesHeldGrowWithTheHeadsGatheredAtOnce() {
        Plan one = plan(new Gather(1));
        Plan all = plan(new Gather(3));
        for (int rank = 0; rank < 3; rank++) {
            long perHead = 2 * 23 * (8 + 4);
            long own = 2 * LAYOUT.localLength(rank) * (8 + 4);
            long head = 2 * perHead * 2 + perHead * 4 + (perHead - own) * 4 + 2 * own * 4 + own * 4;
            long queries = 2 * LAYOUT.localLength(rank) * 6 * (1 + 8) * 4; // delta and dQ
            long roundedUp = 64 * 14;
            assertThat(one.bytesHeld(rank) - one.workspaceBytes(rank))
                    .isBetween(head + queries, head + queries + roundedUp);
            assertThat(all.bytesHeld(rank) - all.workspaceBytes(rank))
                    .isBetween(3 * head + queries, 3 * head + queries + roundedUp);
        }
    }

    @Test
    void aRingRefusesAPlanThatIsNone() {
        assertThatThrownBy(() -> new RingAttention(plan(new Gather(2)), LocalGroup.single()))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("plan.strategy is gather of 2 heads; it must be the ring; ShardedAttention takes any");
    }

    @Test
    void flopsAreThoseOfTheRing() {
        for (int rank = 0; rank < 3; rank++) {
            assertThat(plan(new Gather(2)).forwardFlops(rank))
                    .isEqualTo(plan(new Ring()).forwardFlops(rank))
                    .isPositive();
        }
        assertThat(List.of(plan(new Gather(1)).source(0, 0), plan(new Gather(1)).source(0, 1)))
                .containsOnly(-1);
    }
}
