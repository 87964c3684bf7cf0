package org.flashring.numerics;

import java.time.Duration;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.stream.IntStream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.launch.Environment;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.support.NoiseTensors;

/**
 * Not a test: how the speed of ring, gather and halo scales, and the memory it takes, beside what the same GPUs do
 * alone in the same run. Over NCCL with a process per GPU ({@code launch --nproc 4 --
 * org.flashring.numerics.RingBench}), or with the argument {@code threads} over copies between all GPUs of one process
 * ({@code launch --nproc 1 -- org.flashring.numerics.RingBench threads}); where there is no GPU, that tries small
 * shapes on four threads of the host. The argument {@code gather=N} takes that strategy, of N key heads at once,
 * {@code halo} that one. Rank 0 prints a table.
 */
public final class RingBench {
    private static final Duration DEADLINE = Duration.ofSeconds(60);
    private static final boolean GPU = Cuda.isAvailable();
    private static final long SHRINK = GPU ? 1 : 256;
    private static final long ALONE = 8_192 / SHRINK;
    private static final int DIM = 128;
    private static final int KV_HEADS = 8;
    private static final int WARM_UP = 2;
    private static final int PASSES = 11;

    /** Seconds of the median pass, until every rank had finished, and the device memory gone meanwhile. */
    private record Figures(double forward, double backward, long taken) {}

    private final Communicator ranks;
    private final Strategy strategy;
    private final Random random;

    private RingBench(Communicator ranks, Strategy strategy) {
        this.ranks = ranks;
        this.strategy = strategy;
        this.random = new Random(ranks.rank());
    }

    public static void main(String[] args) {
        List<String> arguments = List.of(args);
        Strategy strategy = arguments.stream()
                .filter(argument -> argument.startsWith("gather="))
                .findFirst()
                .<Strategy>map(argument -> new Gather(Long.parseLong(argument.substring("gather=".length()))))
                .orElse(arguments.contains("halo") ? new Halo() : new Ring());
        if (arguments.contains("threads")) {
            List<Device> devices = GPU
                    ? IntStream.range(0, Cuda.deviceCount())
                            .mapToObj(Device::cuda)
                            .toList()
                    : Collections.nCopies(4, Device.HOST);
            LocalGroup.run(devices, DEADLINE, ranks -> new RingBench(ranks, strategy).table());
        } else {
            Environment environment = Environment.current();
            try (Communicator ranks = NcclGroup.join(
                    environment,
                    plan(32, Mask.causal(), ALONE, environment.worldSize(), strategy)
                            .terms(),
                    DEADLINE)) {
                new RingBench(ranks, strategy).table();
            }
        }
    }

    private static Plan plan(int heads, Mask mask, long length, int worldSize, Strategy strategy) {
        Layout layout =
                mask.equals(Mask.causal()) ? Layout.zigzag(length, worldSize) : Layout.contiguous(length, worldSize);
        AttentionOptions options = AttentionOptions.defaults();
        Problem problem = Problem.of(AttentionShape.of(1, heads, KV_HEADS, DIM, DType.BFLOAT16), layout, mask);
        return Plan.of(problem, strategy, GPU ? options.onCuda() : options);
    }

    private Void table() {
        time(
                plan(32, Mask.causal(), ALONE, ranks.worldSize(), strategy),
                ranks,
                1); // CUDA and NCCL take memory of their own at first use
        print("| heads | mask | tokens | GPUs | pass | ms | TFLOP/s per GPU | of one GPU alone with " + ALONE
                + " tokens | bytes taken, rank 0 | planned |");
        print("|---|---|---:|---:|---|---:|---:|---:|---:|---:|");
        rows(64, Mask.causal(), ALONE * ranks.worldSize(), PASSES);
        rows(64, Mask.full(), ALONE * ranks.worldSize(), PASSES);
        rows(32, Mask.causal(), 131_072 / SHRINK, PASSES);
        rows(32, Mask.causal(), 1_048_576 / SHRINK, 1);
        ranks.barrier();
        return null;
    }

    private void rows(int heads, Mask mask, long length, int passes) {
        Plan single = plan(heads, mask, ALONE, 1, strategy);
        Figures alone;
        try (Communicator one = LocalGroup.single(ranks.device())) {
            alone = time(single, one, PASSES);
        }
        row(single, "forward", 1, alone.forward(), alone.forward(), alone);
        row(single, "backward", 2.5, alone.backward(), alone.backward(), alone);
        Plan plan = plan(heads, mask, length, ranks.worldSize(), strategy);
        Figures ring = time(plan, ranks, passes);
        row(
                plan,
                "forward",
                1,
                ring.forward(),
                alone.forward() * plan.forwardFlops(ranks.rank()) / single.forwardFlops(0),
                ring);
        row(
                plan,
                "backward",
                2.5,
                ring.backward(),
                alone.backward() * plan.forwardFlops(ranks.rank()) / single.forwardFlops(0),
                ring);
    }

    /** Returns how {@code plan} does over {@code group}, which is this rank alone, as all others meanwhile, or all. */
    private Figures time(Plan plan, Communicator group, int passes) {
        long tokens = plan.queries().localLength(group.rank());
        long before = free();
        try (ShardedAttention attention = new ShardedAttention(plan, group);
                NoiseTensors tensors = new NoiseTensors(ranks.device(), plan.shape(), tokens, random)) {
            double forward = median(passes, () -> attention.forward(tensors.forward(), 0));
            double backward = median(passes, () -> attention.backward(tensors.backward(), 0));
            return new Figures(forward, backward, before - free());
        }
    }

    /** Returns the seconds of the median pass, warmed up unless it is the only one. */
    private double median(int passes, Runnable pass) {
        double[] seconds = new double[passes];
        for (int n = passes == 1 ? 0 : -WARM_UP; n < passes; n++) {
            ranks.barrier();
            long start = System.nanoTime();
            pass.run();
            ranks.barrier();
            seconds[Math.max(n, 0)] = (System.nanoTime() - start) / 1e9;
        }
        Arrays.sort(seconds);
        return seconds[passes / 2];
    }

    private long free() {
        return GPU ? Cuda.memory(ranks.device()).free() : 0;
    }

    /**
     * Prints a pass of {@code plan}, which takes {@code flops} forward passes' work and would take {@code ideal}
     * seconds at the speed of one GPU alone.
     */
    private void row(Plan plan, String pass, double flops, double seconds, double ideal, Figures figures) {
        print(String.format(
                Locale.ROOT,
                "| %d/%d | %s | %,d | %d | %s | %.3f | %.1f | %.3f | %,d | %,d |",
                plan.shape().queryHeads(),
                KV_HEADS,
                plan.mask().equals(Mask.causal()) ? "causal" : "full",
                plan.queries().length(),
                plan.worldSize(),
                pass,
                seconds * 1e3,
                flops * plan.forwardFlops(0) / seconds / 1e12,
                ideal / seconds,
                figures.taken(),
                plan.bytesHeld(0) + plan.callerBytes(0)));
    }

    private void print(String line) {
        if (ranks.rank() == 0) {
            System.out.println(line);
        }
    }
}
