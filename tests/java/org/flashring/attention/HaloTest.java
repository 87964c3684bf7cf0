package org.flashring.attention;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Plan;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.support.MaskRule;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.RankTensors;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What a halo moves and holds, planned and measured. What it computes is proven by the grid of cases. */
class HaloTest {
    private static final int RANKS = 4;

    private static Plan plan(AttentionShape shape, Layout layout, Mask mask, Strategy strategy) {
        return Plan.of(org.flashring.plan.Problem.of(shape, layout, mask), strategy, AttentionOptions.defaults());
    }

    /** Bytes that all ranks have sent, in a forward pass and in a backward pass. */
    private record Sent(long forward, long backward) {}

    /** Runs {@code plan} and returns what its ranks sent, each of them as much as planned. */
    private static Sent run(Plan plan, MaskRule mask) {
        Problem problem = Problem.of(plan.shape(), Math.toIntExact(plan.keys().length()), mask, 1);
        Problem.Inputs inputs = problem.inputs();
        List<Sent> sent = LocalGroup.run(plan.worldSize(), communicator -> {
            int rank = communicator.rank();
            AtomicLong bytes = new AtomicLong();
            RankTensors t = new RankTensors(
                    plan.shape(),
                    plan.queries().positions(rank),
                    plan.keys().positions(rank),
                    Placement.DENSE,
                    plan.shape().dtype());
            t.scatter(inputs);
            Forward forward = new Forward(t.q.tensor(), t.k.tensor(), t.v.tensor(), t.out.tensor(), t.lse.tensor());
            try (ShardedAttention attention = new ShardedAttention(plan, GatherTest.counting(communicator, bytes))) {
                attention.forward(forward, 0);
                long ofForward = bytes.getAndSet(0);
                attention.backward(
                        new Backward(forward, t.dout.tensor(), t.dq.tensor(), t.dk.tensor(), t.dv.tensor()), 0);
                assertThat(ofForward).as("forward of rank %d", rank).isEqualTo(plan.forwardBytesSent(rank));
                assertThat(bytes.get()).as("backward of rank %d", rank).isEqualTo(plan.backwardBytesSent(rank));
                assertThat(attention.bytesHeld()).isEqualTo(plan.bytesHeld(rank));
                return new Sent(ofForward, bytes.get());
            }
        });
        return sent.stream()
                .reduce((a, b) -> new Sent(a.forward() + b.forward(), a.backward() + b.backward()))
                .orElseThrow();
    }

    /** Runs a causal window over contiguous shards by halo and by ring. */
    private static void aWindowMovesItsOwnLength(int shard, int window) {
        AttentionShape shape = AttentionShape.of(1, 1, 1, 4, DType.FLOAT32);
        Layout layout = Layout.contiguous((long) shard * RANKS, RANKS);
        Mask mask = Mask.causal().window(window - 1, 0);
        MaskRule rule = MaskRule.FULL.window(window - 1, 0);
        Sent halo = run(plan(shape, layout, mask, new Halo()), rule);
        Sent ring = run(plan(shape, layout, mask, new Ring()), rule);
        long rows = (RANKS - 1L) * (window - 1); // nobody sees those of the last rank
        assertThat(halo).isEqualTo(new Sent(rows * 2 * 4 * 4, rows * 2 * 2 * 4 * 4));
        assertThat(ring.forward()).isEqualTo((long) shard * RANKS * 2 * 4 * 4);
        assertThat(halo.forward()).isLessThanOrEqualTo(ring.forward() / 10);
        assertThat(halo.backward()).isLessThanOrEqualTo(ring.backward() / 10);
    }

    @Test
    void aWindowMovesItsOwnLength() {
        aWindowMovesItsOwnLength(1 << 10, 1 << 6);
    }

    @Tag("full")
    @Test
    void aWindowOf4096OverShardsOf64KMovesItsOwnLength() {
        aWindowMovesItsOwnLength(1 << 16, 1 << 12);
    }

    @ParameterizedTest
    @EnumSource
    void movesNoMoreThanAGatherWhateverTheLayout(Layout.Policy policy) {
        AttentionShape shape = new AttentionShape(2, 6, 3, 8, 4, DType.BFLOAT16);
        for (int length : new int[] {0, 3, 53}) {
            Layout layout = Layout.of(policy, length, RANKS);
            for (MaskRule mask : List.of(
                    MaskRule.FULL,
                    MaskRule.CAUSAL,
                    MaskRule.FULL.window(5, 2),
                    MaskRule.CAUSAL.documents(0, length / 3, length / 2, length))) {
                Plan halo = plan(shape, layout, mask.mask(), new Halo());
                Sent sent = run(halo, mask);
                Sent gathered = run(plan(shape, layout, mask.mask(), new Gather(3)), mask);
                assertThat(sent.forward()).as("%s", mask).isLessThanOrEqualTo(gathered.forward());
                assertThat(sent.backward()).as("%s", mask).isLessThanOrEqualTo(gathered.backward());
                if (mask == MaskRule.FULL && length > RANKS) { // each rank has queries
                    assertThat(sent).isEqualTo(gathered);
                }
            }
        }
    }

    /** Documents that end with their shards: nobody sees what others hold, and nothing is held for it. */
    @Test
    void whereNobodySeesWhatOthersHoldNothingMoves() {
        AttentionShape shape = AttentionShape.of(1, 2, 1, 8, DType.BFLOAT16);
        long[] documents = {0, 10, 20, 25, 30, 40};
        Layout layout = Layout.contiguous(40, RANKS);
        Mask mask = Mask.causal().documents(documents);
        Plan plan = plan(shape, layout, mask, new Halo());
        assertThat(plan.steps()).isEqualTo(1);
        assertThat(run(plan, MaskRule.CAUSAL.documents(documents))).isEqualTo(new Sent(0, 0));
        for (int rank = 0; rank < RANKS; rank++) {
            Plan alone = plan(shape, Layout.contiguous(10, 1), Mask.causal(), new Ring());
            assertThat(plan.bytesHeld(rank)).isEqualTo(alone.bytesHeld(0));
        }
    }

    @ParameterizedTest
    @EnumSource
    void everyRunGivesTheSameBits(Layout.Policy policy) {
        AttentionShape shape = AttentionShape.of(2, 4, 2, 16, DType.BFLOAT16);
        Problem problem = Problem.of(shape, 61, MaskRule.CAUSAL, 3);
        RingRun run = RingRun.of(problem, Layout.of(policy, 61, 5)).with(new Halo());
        Result first = run.run();
        for (int again = 0; again < 5; again++) {
            run.run().requireWithin(0, first, policy.toString());
        }
    }
}
