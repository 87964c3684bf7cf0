package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.util.List;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;
import org.flashring.support.MaskRule;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.RankTensors;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Forward and backward put nothing on the Java heap. */
class AllocationTest {
    /** Few, so that most of what follows is interpreted: compiled code may hide small objects. */
    private static final int WARM_UP = 5;
    private static final int CALLS = 1000;
    /** The machine charges a thread some hundred bytes when it compiles what it runs; one object a call would be 16,000. */
    private static final long COMPILER = 12_000;

    @ParameterizedTest
    @CsvSource({"1, FLOAT64", "1, BFLOAT16", "4, FLOAT64", "4, FLOAT32", "4, BFLOAT16"})
    void callsAllocateNothing(int world, DType dtype) {
        Problem problem = Problem.of(AttentionShape.of(1, 2, 1, 8, dtype), 19, MaskRule.CAUSAL, 1);
        Plan plan = Plan.of(problem.shape(), Layout.zigzag(19, world), Mask.causal(), AttentionOptions.defaults().withWireDType(dtype));
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        List<Long> allocated = LocalGroup.run(world, communicator -> {
            Positions positions = plan.queries().positions(communicator.rank());
            RankTensors t = new RankTensors(problem.shape(), positions, positions, Placement.DENSE, dtype);
            t.scatter(problem.inputs());
            Tensor q = t.q.tensor();
            Tensor k = t.k.tensor();
            Tensor v = t.v.tensor();
            Tensor out = t.out.tensor();
            Tensor lse = t.lse.tensor();
            Tensor dout = t.dout.tensor();
            Tensor dq = t.dq.tensor();
            Tensor dk = t.dk.tensor();
            Tensor dv = t.dv.tensor();
            try (RingAttention ring = new RingAttention(plan, communicator)) {
                long before = 0;
                for (int call = 0; call < WARM_UP + CALLS; call++) {
                    if (call <= WARM_UP) { // asked in warm-up too, for its own first call allocates
                        before = threads.getCurrentThreadAllocatedBytes();
                    }
                    ring.forward(q, k, v, out, lse);
                    ring.backward(q, k, v, out, lse, dout, dq, dk, dv);
                }
                return threads.getCurrentThreadAllocatedBytes() - before;
            }
        });
        assertThat(allocated).allMatch(bytes -> bytes < COMPILER);
    }
}
