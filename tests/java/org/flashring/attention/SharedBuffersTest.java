package org.flashring.attention;

import static org.assertj.core.api.Assertions.assertThat;

import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;
import org.flashring.support.MaskRule;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.RankTensors;
import org.flashring.support.Result;
import org.flashring.support.Strategies;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What forward alone and what backward alone needs share their places, so nothing may live there from call to call. */
class SharedBuffersTest {
    private static final int LENGTH = 29;
    private static final int RANKS = 4;
    private static final Layout LAYOUT = Layout.zigzag(LENGTH, RANKS);

    private static Problem problem(long headDim, long valueDim, long seed) {
        AttentionShape shape = new AttentionShape(2, 8, 4, headDim, valueDim, DType.BFLOAT16);
        return Problem.of(shape, LENGTH, MaskRule.CAUSAL.window(17, 0), seed);
    }

    private static Plan plan(Problem problem, Strategy strategy) {
        org.flashring.plan.Problem whole = org.flashring.plan.Problem.of(
                problem.shape(), LAYOUT, problem.mask().mask());
        return Plan.of(whole, strategy, AttentionOptions.defaults());
    }

    private static Strategy strategy(String name) {
        return name.equals("2-d") ? new Ulysses(2, new Ring()) : Strategies.named(name);
    }

    @ParameterizedTest
    @CsvSource({
        "ring, 8, 8",
        "ring, 16, 4",
        "ring, 4, 16",
        "ring ahead, 8, 4",
        "ring 1, 16, 4",
        "ring 2, 4, 8",
        "gather 1, 8, 4",
        "halo, 4, 8",
        "ulysses, 8, 8",
        "2-d, 4, 8",
        "2-d, 16, 4"
    })
    void callsOnTwoSetsOfTensorsMayCome(String strategy, long headDim, long valueDim) {
        Problem first = problem(headDim, valueDim, 1);
        Problem second = problem(headDim, valueDim, 2);
        Plan plan = plan(first, strategy(strategy));
        Result ofFirst = alone(plan, first);
        Result ofSecond = alone(plan, second);
        Result mixedFirst = Result.none(first);
        Result mixedSecond = Result.none(second);
        LocalGroup.run(RANKS, communicator -> {
            RankTensors a = tensors(first, communicator);
            RankTensors b = tensors(second, communicator);
            try (ShardedAttention attention = new ShardedAttention(plan, communicator)) {
                attention.forward(forward(b), 0);
                attention.backward(backward(b), 0);
                attention.backward(backward(b), 0);
                attention.forward(forward(a), 0);
                attention.forward(forward(b), 0);
                attention.backward(backward(a), 0);
                attention.backward(backward(b), 0);
            }
            a.gather(mixedFirst);
            b.gather(mixedSecond);
            return null;
        });
        mixedFirst.requireSameBits(ofFirst, strategy);
        mixedSecond.requireSameBits(ofSecond, strategy);
    }

    private static Result alone(Plan plan, Problem problem) {
        Result result = Result.none(problem);
        LocalGroup.run(RANKS, communicator -> {
            RankTensors t = tensors(problem, communicator);
            try (ShardedAttention attention = new ShardedAttention(plan, communicator)) {
                attention.forward(forward(t), 0);
                attention.backward(backward(t), 0);
            }
            t.gather(result);
            return null;
        });
        return result;
    }

    private static RankTensors tensors(Problem problem, Communicator communicator) {
        RankTensors t = new RankTensors(
                problem.shape(),
                LAYOUT.positions(communicator.rank()),
                LAYOUT.positions(communicator.rank()),
                Placement.DENSE,
                DType.BFLOAT16);
        t.scatter(problem.inputs());
        return t;
    }

    private static Forward forward(RankTensors t) {
        return new Forward(t.q.tensor(), t.k.tensor(), t.v.tensor(), t.out.tensor(), t.lse.tensor());
    }

    private static Backward backward(RankTensors t) {
        return new Backward(forward(t), t.dout.tensor(), t.dq.tensor(), t.dk.tensor(), t.dv.tensor());
    }

    /**
     * A ring holds two blocks of keys and values, and beside them the larger of two sets: the state and lse's rest of
     * forward; delta, dQ, a block's dK and dV and two of them that travel, of backward.
     */
    @ParameterizedTest
    @CsvSource({"8, 8, BFLOAT16", "16, 4, BFLOAT16", "4, 256, FLOAT16", "8, 4, FLOAT32"})
    void aRingHoldsTheLargerOfWhatItsPassesNeed(long headDim, long valueDim, DType dtype) {
        AttentionShape shape = new AttentionShape(2, 8, 4, headDim, valueDim, dtype);
        Plan plan = Plan.of(shape, Layout.zigzag(64, RANKS), Mask.causal(), AttentionOptions.defaults());
        long tokens = 2 * 64 / RANKS;
        boolean rounded = dtype != DType.FLOAT32;
        long block = tokens * 4 * (headDim + valueDim);
        long ofForward = tokens * 8 * ((rounded ? valueDim : 0) + 1) * 4;
        long ofBackward = tokens * 8 * ((rounded ? headDim : 0) + 1) * 4 + 3 * block * 4;
        long keys = 2 * block * dtype.bytes();
        for (int rank = 0; rank < RANKS; rank++) {
            assertThat(plan.bytesHeld(rank) - plan.workspaceBytes(rank))
                    .as("rank %d", rank)
                    .isBetween(keys + Math.max(ofForward, ofBackward), keys + Math.max(ofForward, ofBackward) + 63);
        }
    }
}
