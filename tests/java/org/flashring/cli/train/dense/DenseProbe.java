package org.flashring.cli.train.dense;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.flashring.DType;
import org.flashring.device.HostBuffer;

/** What tests read and set of a rank: parameters and gradients as arrays, by the names of checkpoints. */
public final class DenseProbe {
    private DenseProbe() {}

    /** Sets all parameters. Collective. */
    public static void setParameters(DenseRank rank, Map<String, double[]> values) {
        double[] all = new double[(int) rank.parameterCount()];
        for (Parameters.Parameter parameter : rank.parameters().all()) {
            double[] value = values.get(parameter.name());
            System.arraycopy(value, 0, all, (int) parameter.start(), value.length);
        }
        rank.initialize(1);
        for (ShardedAdamW.Share share : rank.optimizer().shares()) {
            long to = rank.optimizer().address(ShardedAdamW.State.MASTER, share);
            rank.staging().put(rank.ops().wide(), to, share.count(), (first, some, count) -> {
                System.arraycopy(all, (int) (share.first() + first), some, 0, count);
            });
        }
        rank.optimizer().publish();
    }

    /** Returns the gradients of the mean loss that this rank sums; 0 for those of others. Collective. */
    public static double[] gradients(DenseRank rank, long[][] tokens) {
        rank.gradients(tokens);
        double[] all = new double[(int) rank.parameterCount()];
        for (ShardedAdamW.Share share : rank.optimizer().shares()) {
            load(rank, rank.ops().wide(), rank.optimizer().gradients(share), all, (int) share.first(), (int)
                    share.count());
        }
        return all;
    }

    /** Returns a share's gradients, which have been summed. */
    static double[] summed(DenseRank rank, ShardedAdamW.Share share) {
        double[] values = new double[(int) share.count()];
        load(rank, rank.ops().wide(), rank.optimizer().gradients(share), values, 0, values.length);
        return values;
    }

    private static void load(DenseRank rank, DType type, long from, double[] to, int at, int count) {
        try (HostBuffer here = HostBuffer.allocate((long) count * type.bytes())) {
            rank.ops().download(here.address(), from, (long) count * type.bytes());
            HostOps.view().load(type, here.address(), to, at, count);
        }
    }

    /** Returns all weights. */
    public static double[] weights(DenseRank rank) {
        double[] all = new double[(int) rank.parameterCount()];
        load(rank, rank.ops().type(), rank.optimizer().weight(0), all, 0, all.length);
        return all;
    }

    /** Returns the parts of an array that holds a value for each parameter, by name. */
    public static Map<String, double[]> byName(DenseModel model, double[] all) {
        Map<String, double[]> values = new LinkedHashMap<>();
        for (Parameters.Parameter parameter : new Parameters(model).all()) {
            values.put(parameter.name(), Arrays.copyOfRange(all, (int) parameter.start(), (int) parameter.end()));
        }
        return values;
    }

    /** Returns the sums of arrays of one length. */
    public static double[] sum(List<double[]> parts) {
        double[] sum = new double[parts.get(0).length];
        for (double[] part : parts) {
            for (int i = 0; i < sum.length; i++) {
                sum[i] += part[i];
            }
        }
        return sum;
    }

    /** Sets all that a step does not keep for the next one to NaN. */
    static void poison(DenseRank rank) {
        MemoryPlan plan = StepMemory.of(rank.settings(), rank.all().rank());
        long base = rank.optimizer().weight(0) - plan.offset("weights");
        for (MemoryPlan.Block block : plan.blocks()) {
            if (block.phases().size() < Phase.values().length) {
                long count = block.bytes() / Double.BYTES;
                rank.staging().put(DType.FLOAT64, base + plan.offset(block.name()), count, (first, some, now) -> {
                    Arrays.fill(some, 0, now, Double.NaN);
                });
            }
        }
    }
}
