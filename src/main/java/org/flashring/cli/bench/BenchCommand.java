package org.flashring.cli.bench;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.Writer;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicReference;
import org.bytedeco.openblas.global.openblas_nolapack;
import org.bytedeco.pytorch.global.torch;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Threads;
import org.flashring.cli.support.DeviceOption;
import org.flashring.cli.support.Interruption;
import org.flashring.cli.support.JsonOption;
import org.flashring.cli.support.Launched;
import org.flashring.cli.support.Machine;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.support.ShapeOptions;
import org.flashring.cli.support.StrategyOption;
import org.flashring.cli.support.TransportOption;
import org.flashring.device.Device;
import org.flashring.internal.Checks;
import org.flashring.internal.Native;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/**
 * {@code flashring bench}: this library beside PyTorch's scaled_dot_product_attention, in one run, or alone on a GPU.
 */
@Command(
        name = "bench",
        description = {
            "Time this library beside PyTorch's scaled_dot_product_attention: the same inputs, the same threads, turn"
                    + " by turn.",
            "Options that take several values take them apart by commas; every combination is run.",
            "It takes a minute or so: a slow case is repeated less often. Ctrl-C keeps the lines that are there.",
            "Started by flashring launch, this library runs alone, each sequence as a ring over all processes.",
            "With --device cuda this library runs alone, on the first GPU: PyTorch's Java preset is built for the CPU.",
            "With --ranks it times strategies beside each other, turn by turn, over threads of the host or, with"
                    + " --device cuda, of GPUs, which exchange by --transport (by threads, or by the processes"
                    + " of launch)."
        },
        mixinStandardHelpOptions = true,
        sortOptions = false,
        footer = {
            "",
            "Example:",
            "  flashring bench --dtype float32 --length 1024,4096 --dim 64 --causal",
            "  flashring bench --device cuda --dtype bfloat16 --length 16384",
            "  flashring bench --ranks 4 --strategy all --dtype float32 --dim 64 --causal",
            "  flashring launch --nproc 2 -- bench --ranks 2 --device cuda --transport peer",
            "  flashring launch --nproc 2 -- bench --dtype float32 --length 4096"
        })
public final class BenchCommand implements Callable<Integer> {
    private static final int REPEATS = 7;
    private static final int MOST_RANKS = 1024; // threads of this process
    private static final long BUDGET_NANOS = 60_000_000_000L;

    @Spec
    private CommandSpec spec;

    @Option(
            names = "--dtype",
            split = ",",
            description = "float64, float32, bfloat16, float16 (default: float32,bfloat16; on CUDA, where float32 has"
                    + " the plain"
                    + " kernel alone, float16,bfloat16).")
    private List<DType> dtypes;

    @Option(names = "--batch", defaultValue = "1", description = "Sequences (default: ${DEFAULT-VALUE}).")
    private long batch;

    @Option(names = "--heads", defaultValue = "8", description = "Query heads (default: ${DEFAULT-VALUE}).")
    private long heads;

    @Option(names = "--kv-heads", description = "Key and value heads (default: as many as query heads).")
    private Long kvHeads;

    @Option(names = "--length", split = ",", description = "Tokens of a sequence (default: 1024; on CUDA 4096).")
    private List<Long> lengths;

    @Option(
            names = "--dim",
            split = ",",
            defaultValue = "64,128",
            description = "Size of a head (default: ${DEFAULT-VALUE}).")
    private List<Long> dims;

    @Option(names = "--causal", description = "Causal attention alone (default: causal and full).")
    private boolean causal;

    @Option(names = "--full", description = "Full attention alone.")
    private boolean full;

    @Option(names = "--threads", paramLabel = "N", description = "Threads of both (default: all cores).")
    private Integer threads;

    @Option(
            names = "--repeats",
            paramLabel = "N",
            description = "Timed runs of each, after two to warm up (default: 7; on the host fewer, but one at least,"
                    + " where all cases would take more than a minute).")
    private Integer repeats;

    @Option(names = "--ranks", paramLabel = "N", description = "Ranks over which --strategy is timed.")
    private Integer ranks;

    @Option(
            names = "--window",
            paramLabel = "KEYS",
            converter = Quantity.class,
            description = "With --ranks: queries see the KEYS nearest keys alone, their own counted.")
    private Long window;

    @Option(
            names = "--timeline",
            paramLabel = "DIR",
            description =
                    "With --ranks on the host: also draw into DIR what each rank does when, an SVG for each strategy.")
    private Path timeline;

    @Mixin
    private StrategyOption strategy;

    @Mixin
    private DeviceOption device;

    @Mixin
    private TransportOption transport;

    @Mixin
    private JsonOption json;

    /**
     * What {@code --json} writes. Times are medians, in milliseconds; a ratio above 1 says that this library is faster.
     * Above the number of cores, the load average before the start says that others were using the machine.
     *
     * @param complete whether all cases were run; if not, a signal ended the run
     */
    record Result(boolean complete, Machine machine, double loadAverage, int threads, List<ContestTable.Line> lines) {}

    @Override
    public Integer call() throws IOException {
        if (repeats != null) {
            Checks.atLeast("--repeats", repeats, 1);
        }
        if (window != null) {
            Checks.atLeast("--window", window, 1);
        }
        if (ranks == null && window != null) {
            throw new ParameterException(
                    spec.commandLine(),
                    "--window needs --ranks: PyTorch's attention, which is beside it else, has none.");
        }
        if (ranks == null && timeline != null) {
            throw new ParameterException(spec.commandLine(), "--timeline needs --ranks, whose steps it shows.");
        }
        if (ranks == null && !strategy.replay().isEmpty()) {
            throw new ParameterException(
                    spec.commandLine(), "--strategy needs --ranks, the number of ranks over which it is timed.");
        }
        if (ranks == null && !transport.replay().isEmpty()) {
            throw new ParameterException(
                    spec.commandLine(), "--transport needs --ranks, the number of ranks that exchange by it.");
        }
        List<Device> devices = device.devices();
        Device first = devices.get(0);
        List<BenchCase> cases = cases(
                dtypes != null ? dtypes : List.of(first.isCuda() ? DType.FLOAT16 : DType.FLOAT32, DType.BFLOAT16),
                lengths != null ? lengths : List.of(first.isCuda() ? 4096L : 1024L));
        Launched launched = Launched.of(System.getenv());
        if (ranks != null) {
            overRanks(cases, devices);
        } else if (first.isCuda()) {
            onDevice(cases, first);
        } else if (launched != null) {
            overProcesses(cases, launched);
        } else {
            onHost(cases);
        }
        return 0;
    }

    private void onDevice(List<BenchCase> cases, Device gpu) throws IOException {
        if (threads != null) {
            throw new IllegalArgumentException(
                    "--threads and --device cuda do not go together: threads are the host's");
        }
        json.write(DeviceBench.run(
                cases,
                repeats == null ? REPEATS : repeats,
                gpu,
                spec.commandLine().getOut()));
    }

    private void overRanks(List<BenchCase> cases, List<Device> devices) throws IOException {
        Checks.between("--ranks", ranks, 1, MOST_RANKS);
        if (threads != null) {
            throw new IllegalArgumentException("--threads and --ranks do not go together: FLASHRING_THREADS says it");
        }
        strategy.strategies(ranks, cases.get(0).shape()); // refuses before anything runs
        transport.requireFitting(devices.get(0));
        if (timeline != null && devices.get(0).isCuda()) {
            throw new IllegalArgumentException(
                    "--timeline and --device cuda do not go together: of a GPU's work the host sees the queueing"
                            + " alone");
        }
        if (timeline != null && !Files.isDirectory(timeline)) {
            throw new IllegalArgumentException("--timeline is " + timeline + "; it must be a directory that exists");
        }
        PrintWriter out = spec.commandLine().getOut();
        StrategyBench bench =
                new StrategyBench(cases, strategy, transport, repeats == null ? REPEATS : repeats, timeline, out);
        StrategyBench.Result result = BenchRanks.run(ranks, devices, transport, out, bench::run);
        if (result != null) {
            json.write(result);
        }
    }

    private void overProcesses(List<BenchCase> cases, Launched launched) throws IOException {
        if (threads != null) {
            Threads.set(threads);
        }
        PrintWriter out = launched.isFirst() ? spec.commandLine().getOut() : new PrintWriter(Writer.nullWriter());
        int runs = repeats == null ? REPEATS : repeats;
        AtomicReference<LaunchedBench.Result> result = new AtomicReference<>();
        launched.run(
                Map.of("cases", cases.toString(), "repeats", String.valueOf(runs)),
                BenchRanks.HOST_DEADLINE,
                ranks -> result.set(LaunchedBench.run(cases, runs, Threads.get(), ranks, out)));
        if (launched.isFirst()) {
            json.write(result.get());
        }
    }

    private void onHost(List<BenchCase> cases) throws IOException {
        int nativeThreads = Threads.get();
        int torchThreads = torch.get_num_threads();
        int used = threads == null ? nativeThreads : (int) Checks.atLeast("--threads", threads, 1);
        try {
            useThreads(used, used);
            contest(cases, used);
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

    private List<BenchCase> cases(List<DType> types, List<Long> tokens) {
        List<BenchCase> cases = new ArrayList<>();
        for (DType dtype : types) {
            for (long length : tokens) {
                Checks.atLeast("--length", length, 1);
                for (long dim : dims) {
                    AttentionShape shape = ShapeOptions.shape(batch, heads, kvHeads, "--dim", dim, dtype);
                    if (causal || !full) {
                        cases.add(new BenchCase(shape, length, true, window));
                    }
                    if (full || !causal) {
                        cases.add(new BenchCase(shape, length, false, window));
                    }
                }
            }
        }
        return cases;
    }

    @SuppressWarnings("try") // an interruption works by being open
    private void contest(List<BenchCase> cases, int used) throws IOException {
        PrintWriter out = spec.commandLine().getOut();
        Machine machine = Machine.current();
        double load = ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage();
        ContestTable table = new ContestTable(out, cases, machine, used, load);
        try (Interruption interruption = new Interruption(() -> keep(table.lines(), machine, load, used))) {
            long start = System.nanoTime();
            for (int i = 0; i < cases.size(); i++) {
                BenchCase bench = cases.get(i);
                long budget = repeats != null
                        ? Long.MAX_VALUE
                        : (BUDGET_NANOS - (System.nanoTime() - start)) / (cases.size() - i);
                for (Contest.Score score : Contest.run(bench, repeats == null ? REPEATS : repeats, budget)) {
                    table.add(bench, score);
                }
            }
        }
        out.println("\nA ratio above 1 says that FlashRing is faster.");
        json.write(new Result(true, machine, load, used, table.lines()));
    }

    private void keep(List<ContestTable.Line> lines, Machine machine, double load, int used) {
        PrintWriter out = spec.commandLine().getOut();
        out.println("\nStopped; the lines above are all that was measured.");
        out.flush();
        try {
            json.write(new Result(false, machine, load, used, lines));
        } catch (IOException e) {
            spec.commandLine().getErr().println(spec.qualifiedName() + ": " + e.getMessage());
        }
    }
}
