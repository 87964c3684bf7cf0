package org.flashring.cli.verify;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.BytePointer;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Positions;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Memory;
import org.flashring.device.Stream;
import org.flashring.plan.Plan;
import org.flashring.plan.Strategy;

/** Runs a scenario by a strategy, one thread or process per rank. */
final class ScenarioRun {
    private ScenarioRun() {}

    /** Returns what the ranks compute, which take turns on {@code devices}: the host alone, or CUDA devices. */
    static Results run(Scenario scenario, Strategy strategy, Inputs inputs, Kernel kernel, List<Device> devices) {
        AttentionOptions options = scenario.options().withKernel(kernel);
        Plan plan = Plan.of(scenario.problem(), strategy, devices.get(0).isCuda() ? options.onCuda() : options);
        List<Device> ranks = IntStream.range(0, plan.worldSize())
                .mapToObj(rank -> devices.get(rank % devices.size()))
                .toList();
        Results results = Results.zeros(scenario);
        LocalGroup.run(ranks, LocalGroup.DEFAULT_DEADLINE, communicator -> {
            if (communicator.device().isCuda()) {
                try (Stream stream = Stream.create(communicator.device())) {
                    rank(scenario, inputs, plan, communicator, stream.handle(), results);
                    communicator.barrier();
                }
            } else {
                rank(scenario, inputs, plan, communicator, 0, results);
            }
            return null;
        });
        return results;
    }

    /** Returns on every rank what all of them compute; collective. */
    static Results run(Scenario scenario, Strategy strategy, Inputs inputs, Kernel kernel, Communicator communicator) {
        AttentionOptions options = scenario.options().withKernel(kernel);
        Plan plan = Plan.of(scenario.problem(), strategy, communicator.device().isCuda() ? options.onCuda() : options);
        Results results = Results.zeros(scenario);
        rank(scenario, inputs, plan, communicator, 0, results);
        for (Results.Name name : Results.Name.values()) {
            gather(results.get(name), communicator);
        }
        return results;
    }

    /** Puts together what each rank has computed: the others have zeros there. */
    private static void gather(double[] values, Communicator communicator) {
        ByteBuffer sum = ByteBuffer.allocateDirect(values.length * Double.BYTES).order(ByteOrder.nativeOrder());
        sum.asDoubleBuffer().put(values);
        if (communicator.device().isCuda()) {
            try (DeviceBuffer copy = DeviceBuffer.allocate(communicator.device(), sum.capacity())) {
                copy.upload(new BytePointer(sum));
                communicator.allReduce(copy.address(), values.length, DType.FLOAT64);
                communicator.synchronize();
                copy.download(new BytePointer(sum));
            }
        } else {
            communicator.allReduce(Memory.of(sum).address(), values.length, DType.FLOAT64);
        }
        sum.asDoubleBuffer().get(values);
    }

    private static void rank(
            Scenario scenario, Inputs inputs, Plan plan, Communicator communicator, long stream, Results results) {
        AttentionShape shape = scenario.shape();
        DType dtype = shape.dtype();
        Positions positions = plan.queries().positions(communicator.rank());
        try (ShardedAttention attention = new ShardedAttention(plan, communicator);
                Shards shards = new Shards(communicator.device(), shape.batch(), positions, scenario.headsFirst());
                Shards heads = new Shards(communicator.device(), 1, Positions.contiguous(0, 1), false)) {
            Shard q = shards.make(dtype, shape.queryHeads(), shape.headDim()).load(inputs.q());
            Shard k = shards.make(dtype, shape.kvHeads(), shape.headDim()).load(inputs.k());
            Shard v = shards.make(dtype, shape.kvHeads(), shape.valueDim()).load(inputs.v());
            Shard dout =
                    shards.make(dtype, shape.queryHeads(), shape.valueDim()).load(inputs.dout());
            Shard out = shards.make(dtype, shape.queryHeads(), shape.valueDim());
            Shard lse = shards.make(dtype.accumulator(), shape.queryHeads(), 1);
            Shard dq = shards.make(scenario.gradients(), shape.queryHeads(), shape.headDim());
            Shard dk = shards.make(scenario.gradients(), shape.kvHeads(), shape.headDim());
            Shard dv = shards.make(scenario.gradients(), shape.kvHeads(), shape.valueDim());
            boolean given = scenario.score().sinks();
            Shard sinks = heads.make(dtype.accumulator(), shape.queryHeads(), 1).load(inputs.sinks());
            Shard dsinks = heads.make(dtype.accumulator(), shape.queryHeads(), 1);
            Forward forward = new Forward(
                    q.tensor(), k.tensor(), v.tensor(), out.tensor(), lse.tensor(), given ? sinks.tensor() : null);
            attention.forward(forward, stream);
            attention.backward(
                    new Backward(
                            forward,
                            dout.tensor(),
                            dq.tensor(),
                            dk.tensor(),
                            dv.tensor(),
                            given ? dsinks.tensor() : null),
                    stream);
            communicator.synchronize();
            if (given) {
                addTo(results.dsinks(), dsinks);
            }
            out.store(results.out());
            lse.store(results.lse());
            dq.store(results.dq());
            dk.store(results.dk());
            dv.store(results.dv());
        }
    }

    /** Adds a rank's part of the gradients of sinks; ranks are threads, or have a sum each. */
    private static void addTo(double[] sum, Shard part) {
        double[] own = new double[sum.length];
        part.store(own);
        synchronized (sum) {
            for (int head = 0; head < sum.length; head++) {
                sum[head] += own[head];
            }
        }
    }
}
