package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.attention.RingAttention;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.support.HeapBytes;
import org.flashring.support.MaskRule;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.RankTensors;
import org.flashring.support.Strategies;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Forward and backward put nothing on the Java heap. */
class AllocationTest {
    @ParameterizedTest
    @CsvSource({
        "1, FLOAT64, ring",
        "1, BFLOAT16, ring",
        "4, FLOAT64, ring",
        "4, FLOAT32, ring",
        "4, BFLOAT16, ring",
        "2, BFLOAT16, gather 1",
        "2, FLOAT64, gather 2",
        "2, BFLOAT16, halo"
    })
    void callsAllocateNothing(int world, DType dtype, String name) {
        Problem problem = Problem.of(AttentionShape.of(1, 6, 3, 8, dtype), 19, MaskRule.CAUSAL, 1);
        Strategy strategy = Strategies.named(name);
        boolean ringAlone = strategy instanceof Ring;
        Plan plan = Plan.of(
                org.flashring.plan.Problem.of(problem.shape(), Layout.zigzag(19, world), Mask.causal()),
                strategy,
                AttentionOptions.defaults().withWireDType(dtype));
        List<Long> allocated = LocalGroup.run(world, communicator -> {
            Positions positions = plan.queries().positions(communicator.rank());
            RankTensors t = new RankTensors(problem.shape(), positions, positions, Placement.DENSE, dtype);
            t.scatter(problem.inputs());
            try (RingAttention ring = ringAlone ? new RingAttention(plan, communicator) : null;
                    ShardedAttention any = ringAlone ? null : new ShardedAttention(plan, communicator)) {
                return HeapBytes.of(calls(ring, any, t));
            }
        });
        assertThat(allocated).allMatch(bytes -> bytes < HeapBytes.OF_AN_OBJECT_A_CALL);
    }

    /** Returns a forward and a backward pass: of a ring with its operands one by one, else as records. */
    private static Runnable calls(RingAttention ring, ShardedAttention any, RankTensors t) {
        Forward of = new Forward(t.q.tensor(), t.k.tensor(), t.v.tensor(), t.out.tensor(), t.lse.tensor());
        Backward backward = new Backward(of, t.dout.tensor(), t.dq.tensor(), t.dk.tensor(), t.dv.tensor());
        if (ring != null) {
            return () -> {
                ring.forward(of.q(), of.k(), of.v(), of.out(), of.lse());
                ring.backward(
                        of.q(),
                        of.k(),
                        of.v(),
                        of.out(),
                        of.lse(),
                        backward.dout(),
                        backward.dq(),
                        backward.dk(),
                        backward.dv());
            };
        }
        return () -> {
            any.forward(of, 0);
            any.backward(backward, 0);
        };
    }
}
