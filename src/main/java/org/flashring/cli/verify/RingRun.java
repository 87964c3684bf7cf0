package org.flashring.cli.verify;

import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Plan;
import org.flashring.Positions;
import org.flashring.RingAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.LocalGroup;
import org.flashring.device.Device;
import org.flashring.internal.Combiner;

/** Runs a scenario through the ring, one thread per rank. */
final class RingRun {
    private RingRun() {}

    static Results run(Scenario scenario, Operands operands, Kernel kernel) {
        Plan plan = Plan.of(scenario.shape(), scenario.layout(), scenario.mask(), scenario.options().withKernel(kernel));
        Results results = Results.zeros(scenario);
        LocalGroup.run(plan.worldSize(), communicator -> {
            rank(scenario, operands, plan, communicator, results);
            return null;
        });
        return results;
    }

    private static void rank(Scenario scenario, Operands operands, Plan plan, Communicator communicator, Results results) {
        AttentionShape shape = scenario.shape();
        DType dtype = shape.dtype();
        Positions positions = plan.queries().positions(communicator.rank());
        boolean headsFirst = scenario.headsFirst();
        try (RingAttention attention = new RingAttention(plan, communicator); Combiner combiner = new Combiner(Device.HOST)) {
            Shard q = new Shard(dtype, shape.batch(), positions, shape.queryHeads(), shape.headDim(), headsFirst).load(operands.q(), combiner);
            Shard k = new Shard(dtype, shape.batch(), positions, shape.kvHeads(), shape.headDim(), headsFirst).load(operands.k(), combiner);
            Shard v = new Shard(dtype, shape.batch(), positions, shape.kvHeads(), shape.valueDim(), headsFirst).load(operands.v(), combiner);
            Shard dout = new Shard(dtype, shape.batch(), positions, shape.queryHeads(), shape.valueDim(), headsFirst).load(operands.dout(), combiner);
            Shard out = new Shard(dtype, shape.batch(), positions, shape.queryHeads(), shape.valueDim(), headsFirst);
            Shard lse = new Shard(dtype.accumulator(), shape.batch(), positions, shape.queryHeads(), 1, headsFirst);
            Shard dq = new Shard(scenario.gradients(), shape.batch(), positions, shape.queryHeads(), shape.headDim(), headsFirst);
            Shard dk = new Shard(scenario.gradients(), shape.batch(), positions, shape.kvHeads(), shape.headDim(), headsFirst);
            Shard dv = new Shard(scenario.gradients(), shape.batch(), positions, shape.kvHeads(), shape.valueDim(), headsFirst);
            attention.forward(q.tensor(), k.tensor(), v.tensor(), out.tensor(), lse.tensor());
            attention.backward(q.tensor(), k.tensor(), v.tensor(), out.tensor(), lse.tensor(), dout.tensor(), dq.tensor(), dk.tensor(), dv.tensor());
            out.store(results.out(), combiner);
            lse.store(results.lse(), combiner);
            dq.store(results.dq(), combiner);
            dk.store(results.dk(), combiner);
            dv.store(results.dv(), combiner);
        }
    }
}
