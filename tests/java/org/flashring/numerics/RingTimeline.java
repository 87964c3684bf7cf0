package org.flashring.numerics;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.bytedeco.cuda.cudart.CUevent_st;
import org.bytedeco.cuda.global.cudart;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.device.CurrentDevice;
import org.flashring.device.Event;
import org.flashring.launch.Environment;
import org.flashring.plan.Plan;
import org.flashring.support.DeviceTensors;

/**
 * Not a test: where the time of a ring step goes, by CUDA events in the caller's stream, for two processes with a GPU
 * each ({@code launch --nproc 2 -- org.flashring.numerics.RingTimeline}). Rank 0 prints a table; docs/profiling.md
 * reads it.
 */
public final class RingTimeline {
    private static final long[] LENGTHS = {8_192, 32_768, 131_072};
    private static final int HEADS = 32;
    private static final int KV_HEADS = 8;
    private static final int DIM = 128;
    private static final int WARM_UP = 2;
    private static final int REPEATS = 9;
    private static final AttentionShape SHAPE = AttentionShape.of(1, HEADS, KV_HEADS, DIM, DType.BFLOAT16);

    /** What was marked in one pass, and the milliseconds from each mark to the next in {@link #REPEATS} passes. */
    private record Passes(List<String> marks, List<double[]> times) {
        /** Returns the median milliseconds that follow mark {@code at}. */
        double after(int at) {
            double[] sorted =
                    times.stream().mapToDouble(pass -> pass[at]).sorted().toArray();
            return sorted[sorted.length / 2];
        }
    }

    private final Communicator real;
    private final List<CUevent_st> events = new ArrayList<>();
    private final List<String> marks = new ArrayList<>();

    private RingTimeline(Communicator real) {
        this.real = real;
    }

    public static void main(String[] args) {
        try (Communicator communicator =
                NcclGroup.join(Environment.current(), plan(LENGTHS[0]).terms(), Duration.ofSeconds(60))) {
            CurrentDevice.enter(communicator.device());
            RingTimeline timeline = new RingTimeline(communicator);
            timeline.print("| tokens | pass, step | bytes exchanged | exchange alone, ms | work, ms | waited after it,"
                    + " ms | hidden |");
            timeline.print("|---:|---|---:|---:|---:|---:|---:|");
            for (long length : LENGTHS) {
                timeline.measure(plan(length));
            }
            communicator.barrier();
        }
    }

    private static Plan plan(long length) {
        return Plan.of(
                SHAPE,
                Layout.zigzag(length, 2),
                Mask.causal(),
                AttentionOptions.defaults().onCuda());
    }

    private void measure(Plan plan) {
        int rank = real.rank();
        long tokens = plan.queries().localLength(rank);
        try (DeviceTensors on = new DeviceTensors(real.device());
                RingAttention ring = new RingAttention(plan, marking())) {
            Tensor q = on.make(tokens, HEADS, DIM);
            Tensor k = on.make(tokens, KV_HEADS, DIM);
            Tensor v = on.make(tokens, KV_HEADS, DIM);
            Tensor out = on.make(tokens, HEADS, DIM);
            Tensor lse = on.lse(tokens, HEADS);
            Tensor dout = on.make(tokens, HEADS, DIM);
            Tensor dq = on.make(tokens, HEADS, DIM);
            Tensor dk = on.make(tokens, KV_HEADS, DIM);
            Tensor dv = on.make(tokens, KV_HEADS, DIM);
            long keys = plan.forwardBytesSent(rank, 0);
            long gradients = plan.backwardBytesSent(rank, 1);
            double keysAlone = exchangeAlone(on, keys);
            double gradientsAlone = exchangeAlone(on, gradients);
            Passes forward = repeat(() -> ring.forward(q, k, v, out, lse));
            row(plan, "forward, 0", keys, keysAlone, forward, forward.marks().indexOf("forward 0"));
            row(plan, "forward, 1", 0, 0, forward, forward.marks().indexOf("forward 1"));
            Passes backward = repeat(() -> ring.backward(q, k, v, out, lse, dout, dq, dk, dv));
            row(plan, "backward, 0", keys, keysAlone, backward, backward.marks().indexOf("backward 0"));
            row(
                    plan,
                    "backward, 1",
                    gradients,
                    gradientsAlone,
                    backward,
                    backward.marks().indexOf("backward 1"));
            row(
                    plan,
                    "gradients home",
                    gradients,
                    gradientsAlone,
                    backward,
                    backward.marks().lastIndexOf("computed") - 1);
        }
    }

    /**
     * Returns {@link #real} with a mark in the caller's stream where a step begins and on both sides of every await.
     */
    private Communicator marking() {
        return (Communicator) Proxy.newProxyInstance(
                Communicator.class.getClassLoader(), new Class<?>[] {Communicator.class}, (self, method, arguments) -> {
                    boolean await = method.getName().equals("await");
                    if (method.getName().equals("at")) {
                        mark(arguments[0] + " " + arguments[1]);
                    } else if (await) {
                        mark("computed");
                    }
                    try {
                        return method.invoke(real, arguments);
                    } catch (InvocationTargetException e) {
                        throw e.getCause();
                    } finally {
                        if (await) {
                            mark("joined");
                        }
                    }
                });
    }

    private void mark(String what) {
        if (marks.size() == events.size()) {
            CUevent_st event = new CUevent_st();
            require(cudart.cudaEventCreate(event));
            events.add(event);
        }
        Event.wrap(real.device(), events.get(marks.size()).address()).record(0);
        marks.add(what);
    }

    private Passes repeat(Runnable pass) {
        List<double[]> all = new ArrayList<>();
        for (int n = 0; n < WARM_UP + REPEATS; n++) {
            real.barrier();
            marks.clear();
            pass.run();
            real.synchronize();
            double[] times = new double[marks.size() - 1];
            for (int i = 0; i < times.length; i++) {
                float[] millis = new float[1];
                require(cudart.cudaEventElapsedTime(millis, events.get(i), events.get(i + 1)));
                times[i] = millis[0];
            }
            all.add(times);
        }
        return new Passes(List.copyOf(marks), all.subList(WARM_UP, all.size()));
    }

    private double exchangeAlone(DeviceTensors on, long bytes) {
        long send = on.memory(bytes).address();
        long receive = on.memory(bytes).address();
        int other = 1 - real.rank();
        return repeat(() -> {
                    mark("begin");
                    real.post(send, bytes, other, receive, bytes, other);
                    real.await();
                    mark("end");
                })
                .after(0);
    }

    /**
     * Prints one step: what follows mark {@code at}, which is its work, and then its wait for {@code bytes}, which
     * alone take {@code alone}.
     */
    private void row(Plan plan, String name, long bytes, double alone, Passes passes, int at) {
        double waited = passes.after(at + 1);
        String hidden = bytes == 0 ? "" : String.format(Locale.ROOT, "%.0f %%", 100 * Math.max(0, 1 - waited / alone));
        print(String.format(
                Locale.ROOT,
                "| %,d | %s | %,d | %.3f | %.3f | %.3f | %s |",
                plan.queries().length(),
                name,
                bytes,
                alone,
                passes.after(at),
                waited,
                hidden));
    }

    private void print(String line) {
        if (real.rank() == 0) {
            System.out.println(line);
        }
    }

    private static void require(int status) {
        if (status != cudart.cudaSuccess) {
            throw new IllegalStateException(
                    "CUDA: " + cudart.cudaGetErrorString(status).getString());
        }
    }
}
