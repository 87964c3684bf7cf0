package org.flashring.cli.bench;

import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.cli.support.DeviceOption;
import org.flashring.cli.support.Machine;
import org.flashring.cli.support.Table;
import org.flashring.device.Device;

/**
 * This library alone on a GPU: batches of calls that are queued together, timed from an idle device to an idle device.
 */
final class DeviceBench {
    private static final double BATCH_MILLIS = 20; // long beside what queueing and waiting take
    private static final int MOST_CALLS = 100; // of a batch: a stream takes their kernels without making the host wait
    private static final long CHECKED_LENGTH = 16384; // the plain formula is slow
    private static final long CHECKED_ELEMENTS = 1 << 27; // of a tensor, which comes to the host as float64

    /**
     * One pass of one case.
     *
     * @param bench the case
     * @param pass forward or backward
     * @param calls calls of a batch
     * @param batchMillis milliseconds of a call, the mean of each batch
     * @param millis their median
     * @param hostMicros microseconds of a call until it was queued and returned, the least of all batches
     * @param flops floating-point operations of a call
     * @param bytes bytes that a call must read and write at least
     * @param largestError largest |result - exact| over out, or over dq, dk and dv; NaN where it was not looked at
     */
    record Line(
            BenchCase bench,
            String pass,
            int calls,
            double[] batchMillis,
            double millis,
            double hostMicros,
            double flops,
            double bytes,
            double largestError) {
        private Line(BenchCase bench, String pass, Times times, double flops, double bytes, double largestError) {
            this(
                    bench,
                    pass,
                    times.calls,
                    times.batchMillis,
                    Median.of(times.batchMillis),
                    times.hostMicros,
                    flops,
                    bytes,
                    largestError);
        }
    }

    private record Times(int calls, double[] batchMillis, double hostMicros) {}

    /** What {@code --json} writes. */
    record Result(Machine machine, String device, int repeats, List<Line> lines) {}

    private DeviceBench() {}

    /** Returns the lines of all cases, {@code repeats} batches each, and prints each as it comes. */
    static Result run(List<BenchCase> cases, int repeats, Device device, PrintWriter out) {
        Table table = heading(out, DeviceOption.name(device), repeats);
        List<Line> lines = new ArrayList<>();
        for (BenchCase bench : cases) {
            List<Line> both = run(bench, repeats, device);
            both.forEach(line -> print(table, line));
            lines.addAll(both);
        }
        return new Result(Machine.current(), DeviceOption.name(device), repeats, lines);
    }

    private static List<Line> run(BenchCase bench, int repeats, Device device) {
        try (DeviceContender contender = DeviceContender.drawn(bench, device)) {
            Times forward = time(contender, contender::forward, repeats);
            Times backward = time(contender, contender::backward, repeats);
            double outputError = Double.NaN;
            double gradientError = Double.NaN;
            if (checked(bench)) {
                try (DeviceContender exact = contender.exactFirstHead()) {
                    exact.forward();
                    exact.backward();
                    outputError = contender.outputError(exact);
                    gradientError = contender.gradientError(exact);
                }
            }
            return List.of(
                    new Line(bench, "forward", forward, bench.forwardFlops(), bench.forwardBytes(), outputError),
                    new Line(bench, "backward", backward, bench.backwardFlops(), bench.backwardBytes(), gradientError));
        }
    }

    private static boolean checked(BenchCase bench) {
        AttentionShape shape = bench.shape();
        return shape.dtype() != DType.FLOAT64
                && bench.length() <= CHECKED_LENGTH
                && bench.length() * (shape.queryHeads() / shape.kvHeads()) * shape.headDim() <= CHECKED_ELEMENTS;
    }

    /** Warms up, chooses how many calls make a batch, and times batches of them. */
    private static Times time(DeviceContender contender, Runnable pass, int batches) {
        time(contender, pass, 1, 1);
        double once = time(contender, pass, 1, 1).batchMillis[0];
        return time(contender, pass, (int) Math.max(1, Math.min(MOST_CALLS, Math.ceil(BATCH_MILLIS / once))), batches);
    }

    private static Times time(DeviceContender contender, Runnable pass, int calls, int batches) {
        double[] millis = new double[batches];
        double hostMicros = Double.POSITIVE_INFINITY;
        for (int batch = 0; batch < batches; batch++) {
            contender.synchronize();
            long start = System.nanoTime();
            for (int call = 0; call < calls; call++) {
                pass.run();
            }
            long queued = System.nanoTime();
            contender.synchronize();
            millis[batch] = (System.nanoTime() - start) / 1e6 / calls;
            hostMicros = Math.min(hostMicros, (queued - start) / 1e3 / calls);
        }
        return new Times(calls, millis, hostMicros);
    }

    private static Table heading(PrintWriter out, String device, int repeats) {
        out.printf(
                Locale.ROOT,
                "%s; median of %d batches of calls, of %.0f ms or %d calls each%n",
                device,
                repeats,
                BATCH_MILLIS,
                MOST_CALLS);
        out.println(BenchCase.FLOPS + "; bytes: each operand once");
        out.println("Largest error: |result - exact| over the first key head of the first sequence, exact being the"
                + " plain formula in float64");
        out.println("on the same device; not taken of float64 itself and of sequences longer than " + CHECKED_LENGTH);
        out.println("Host us: what a call takes until it is queued and returns, the least of all batches");
        out.println("PyTorch is not beside it: its Java preset is built for the CPU.");
        out.println();
        return new Table(
                        "Element type",
                        "Shape",
                        "Mask",
                        "Pass",
                        " ms",
                        " TFLOP/s",
                        " GB/s",
                        " Host us",
                        " Largest error")
                .live(out, 12, 22, 6, 8, 10, 8, 8, 8, 13);
    }

    private static void print(Table table, Line line) {
        BenchCase bench = line.bench();
        table.row(
                bench.shape().dtype().name().toLowerCase(Locale.ROOT),
                bench.label(),
                bench.causal() ? "causal" : "full",
                line.pass(),
                String.format(Locale.ROOT, "%.3f", line.millis()),
                String.format(Locale.ROOT, "%.1f", line.flops() / line.millis() / 1e9),
                String.format(Locale.ROOT, "%.1f", line.bytes() / line.millis() / 1e6),
                String.format(Locale.ROOT, "%.1f", line.hostMicros()),
                Double.isNaN(line.largestError()) ? "-" : String.format(Locale.ROOT, "%.1e", line.largestError()));
    }
}
