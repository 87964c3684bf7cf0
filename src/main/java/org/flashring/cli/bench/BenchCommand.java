package org.flashring.cli.bench;

import java.io.IOException;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.bytedeco.openblas.global.openblas_nolapack;
import org.bytedeco.pytorch.global.torch;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.cli.DeviceOption;
import org.flashring.cli.JsonOption;
import org.flashring.cli.Machine;
import org.flashring.cli.Progress;
import org.flashring.cli.ShapeOptions;
import org.flashring.cli.Table;
import org.flashring.device.Device;
import org.flashring.internal.Checks;
import org.flashring.internal.Native;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code flashring bench}: this library beside PyTorch's scaled_dot_product_attention, in one run, or alone on a GPU. */
@Command(
        name = "bench",
        description = {"Time this library beside PyTorch's scaled_dot_product_attention: the same inputs, the same threads, turn by turn.",
                "Options that take several values take them apart by commas; every combination is run.",
                "With --device cuda this library runs alone, on the first GPU: PyTorch's Java preset is built for the CPU."},
        mixinStandardHelpOptions = true,
        sortOptions = false,
        footer = {"", "Example:", "  flashring bench --dtype float32 --length 1024,4096 --dim 64 --causal",
            "  flashring bench --device cuda --dtype bfloat16 --length 16384"})
public final class BenchCommand implements Callable<Integer> {
    @Spec private CommandSpec spec;

    @Option(names = "--dtype", split = ",",
            description = "float64, float32, bfloat16, float16 (default: float32,bfloat16; on CUDA, where float32 has the plain kernel alone,"
                    + " float16,bfloat16).")
    private List<DType> dtypes;

    @Option(names = "--batch", defaultValue = "1", description = "Sequences (default: ${DEFAULT-VALUE}).")
    private long batch;

    @Option(names = "--heads", defaultValue = "8", description = "Query heads (default: ${DEFAULT-VALUE}).")
    private long heads;

    @Option(names = "--kv-heads", description = "Key and value heads (default: as many as query heads).")
    private Long kvHeads;

    @Option(names = "--length", split = ",", defaultValue = "4096", description = "Tokens of a sequence (default: ${DEFAULT-VALUE}).")
    private List<Long> lengths;

    @Option(names = "--dim", split = ",", defaultValue = "64,128", description = "Size of a head (default: ${DEFAULT-VALUE}).")
    private List<Long> dims;

    @Option(names = "--causal", description = "Causal attention alone (default: causal and full).")
    private boolean causal;

    @Option(names = "--full", description = "Full attention alone.")
    private boolean full;

    @Option(names = "--threads", paramLabel = "N", description = "Threads of both (default: all cores).")
    private Integer threads;

    @Option(names = "--repeats", paramLabel = "N", defaultValue = "7", description = "Timed runs of each, after two to warm up (default: ${DEFAULT-VALUE}).")
    private int repeats;

    @Mixin private DeviceOption device;

    @Mixin private JsonOption json;

    /** One line of the table. */
    record Line(DType dtype, String shape, long batch, long heads, long kvHeads, long length, long dim, boolean causal, double flashRingMillis,
            double torchMillis, double ratio, Contest.Score score) {}

    /**
     * What {@code --json} writes. Times are medians, in milliseconds; a ratio above 1 says that this library is faster. Above
     * the number of cores, the load average before the start says that others were using the machine.
     */
    record Result(Machine machine, double loadAverage, int threads, int repeats, List<Line> lines) {}

    @Override
    public Integer call() throws IOException {
        Checks.atLeast("--repeats", repeats, 1);
        Device first = device.devices().get(0);
        List<BenchCase> cases = cases(dtypes != null ? dtypes : List.of(first.isCuda() ? DType.FLOAT16 : DType.FLOAT32, DType.BFLOAT16));
        if (first.isCuda()) {
            onDevice(cases, first);
        } else {
            onHost(cases);
        }
        return 0;
    }

    private void onDevice(List<BenchCase> cases, Device gpu) throws IOException {
        if (threads != null) {
            throw new IllegalArgumentException("--threads and --device cuda do not go together: threads are the host's");
        }
        DeviceBench.Result result = DeviceBench.run(cases, repeats, gpu);
        DeviceBench.print(spec.commandLine().getOut(), result);
        json.write(result);
    }

    private void onHost(List<BenchCase> cases) throws IOException {
        int nativeThreads = Native.threads();
        int torchThreads = torch.get_num_threads();
        int used = threads == null ? nativeThreads : (int) Checks.atLeast("--threads", threads, 1);
        try {
            useThreads(used, used);
            double load = ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage();
            Result result = new Result(Machine.current(), load, used, repeats, run(cases));
            print(spec.commandLine().getOut(), result);
            json.write(result);
        } finally {
            useThreads(nativeThreads, torchThreads);
        }
    }

    private static void useThreads(int ours, int theirs) {
        if (Native.setThreads(ours) != Native.OK) {
            throw new IllegalArgumentException(Native.lastError());
        }
        torch.set_num_threads(theirs);
        openblas_nolapack.blas_set_num_threads(1); // PyTorch calls it from each of its own threads
    }

    private List<BenchCase> cases(List<DType> types) {
        List<BenchCase> cases = new ArrayList<>();
        for (DType dtype : types) {
            for (long length : lengths) {
                Checks.atLeast("--length", length, 1);
                for (long dim : dims) {
                    AttentionShape shape = ShapeOptions.shape(batch, heads, kvHeads, "--dim", dim, dtype);
                    if (causal || !full) {
                        cases.add(new BenchCase(shape, length, true));
                    }
                    if (full || !causal) {
                        cases.add(new BenchCase(shape, length, false));
                    }
                }
            }
        }
        return cases;
    }

    private List<Line> run(List<BenchCase> cases) {
        List<Line> lines = new ArrayList<>();
        try (Progress progress = new Progress("bench", (long) cases.size() * Contest.runs(repeats))) {
            for (BenchCase bench : cases) {
                AttentionShape shape = bench.shape();
                for (Contest.Score score : Contest.run(bench, repeats, () -> progress.step(shape.toString()))) {
                    lines.add(new Line(shape.dtype(), bench.label(), shape.batch(), shape.queryHeads(), shape.kvHeads(), bench.length(), shape.headDim(),
                            bench.causal(), score.flashRingMedian(), score.torchMedian(), score.ratio(), score));
                }
            }
        }
        return lines;
    }

    private static void print(PrintWriter out, Result result) {
        out.printf(Locale.ROOT, "%s, %d threads; median of %d runs, in milliseconds; load average before: %.1f%n", result.machine().processor(),
                result.threads(), result.repeats(), result.loadAverage());
        out.println(BenchCase.FLOPS);
        out.println();
        Table table = new Table("Element type", "Shape", "Mask", "Pass", " FlashRing ms", " PyTorch ms", " FlashRing GFLOP/s",
                " PyTorch GFLOP/s", " Ratio", " Largest difference");
        for (Line line : result.lines()) {
            table.row(line.dtype().name().toLowerCase(Locale.ROOT), line.shape(), line.causal() ? "causal" : "full", line.score().pass(),
                    format("%.2f", line.flashRingMillis()), format("%.2f", line.torchMillis()),
                    format("%.1f", line.score().flops() / line.flashRingMillis() / 1e6), format("%.1f", line.score().flops() / line.torchMillis() / 1e6),
                    format("%.2f", line.ratio()), format("%.1e", line.score().largestDifference()));
        }
        table.print(out);
        out.printf("%nA ratio above 1 says that FlashRing is faster.%n");
    }

    private static String format(String pattern, double value) {
        return String.format(Locale.ROOT, pattern, value);
    }
}
