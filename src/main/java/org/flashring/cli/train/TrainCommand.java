package org.flashring.cli.train;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.cli.support.Interruption;
import org.flashring.cli.support.JsonOption;
import org.flashring.cli.support.Launched;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.support.StopRequest;
import org.flashring.cli.support.StrategyOption;
import org.flashring.comm.Mesh;
import org.flashring.internal.Checks;
import org.flashring.plan.Plan;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code flashring train}: a small transformer learns a text, each sequence sharded over ranks. */
@Command(
        name = "train",
        description = {
            "Train a byte-level transformer on your text, each sequence sharded over ranks.",
            "Attention is FlashRing's. Dense layers are PyTorch's, or with --engine dense",
            "written out in Java: all memory is known before, and checkpoints go on on any",
            "number of ranks. Ranks are threads of this process, or the processes that",
            "flashring launch or torchrun started."
        },
        mixinStandardHelpOptions = true,
        sortOptions = false,
        footer = {
            "",
            "Example:",
            "  flashring train --text README.md --ranks 4 --steps 30 --compare",
            "  flashring launch --nproc 4 -- train --text README.md --steps 30",
            "  flashring train --text README.md --engine dense --checkpoint-every 10"
        })
public final class TrainCommand implements Callable<Integer> {
    private static final int RANKS = 4;

    private enum Engine {
        TORCH,
        DENSE
    }

    /**
     * A run that has been prepared.
     *
     * @param result what has come out so far; null before the first step is done
     * @param stopped how a signal ended it; null if none did
     */
    private record Work(
            Consumer<PrintWriter> introduce,
            Consumer<StopRequest> train,
            Supplier<RunResult> result,
            Supplier<DenseTraining.Stopped> stopped) {}

    @Spec
    private CommandSpec spec;

    @Option(
            names = "--text",
            required = true,
            arity = "1..*",
            paramLabel = "FILE",
            description = "Text to learn: files, or directories that are read with all below them but hidden and binary"
                    + " files.")
    private List<Path> text;

    @Option(
            names = "--ranks",
            description = "Ranks that share each sequence (default: 4, or all processes): --mesh cp=N.")
    private Integer ranks;

    @Option(
            names = "--mesh",
            paramLabel = "AXES",
            description = {
                "Ranks by axis, such as dp=2,cp=4: dp ranks share the sequences of a step, cp ranks each sequence.",
                "The axis whose number changes slowest from rank to rank comes first. In place of --ranks."
            })
    private String mesh;

    @Option(
            names = "--layout",
            defaultValue = "zigzag",
            description =
                    "How a sequence is cut over ranks: contiguous, zigzag or striped (default: ${DEFAULT-VALUE}).")
    private Layout.Policy layout;

    @Option(
            names = "--compare",
            description = "Also run each step on one rank, and fail if losses or gradients differ by more than float32"
                    + " explains.")
    private boolean compare;

    @Option(names = "--steps", defaultValue = "100", description = "Optimizer steps (default: ${DEFAULT-VALUE}).")
    private int steps;

    @Option(
            names = "--context",
            defaultValue = "1021",
            description = "Tokens in a sequence, over all ranks; any number from 2 on (default: ${DEFAULT-VALUE}).")
    private int context;

    @Option(names = "--batch", defaultValue = "4", description = "Sequences per step (default: ${DEFAULT-VALUE}).")
    private int batch;

    @Option(
            names = "--window",
            paramLabel = "KEYS",
            defaultValue = "0",
            description = "Tokens that a token sees, itself included; 0: all before it (default: ${DEFAULT-VALUE}).")
    private int window;

    @Option(names = "--layers", defaultValue = "4", description = "Layers (default: ${DEFAULT-VALUE}).")
    private int layers;

    @Option(names = "--heads", defaultValue = "4", description = "Query heads (default: ${DEFAULT-VALUE}).")
    private int heads;

    @Option(
            names = "--kv-heads",
            defaultValue = "2",
            description = "Key and value heads, a divisor of --heads (default: ${DEFAULT-VALUE}).")
    private int kvHeads;

    @Option(
            names = "--dim",
            defaultValue = "128",
            description = "Width of the model, a multiple of 2 * --heads (default: ${DEFAULT-VALUE}).")
    private int dim;

    @Option(names = "--lr", defaultValue = "1e-3", description = "Learning rate of AdamW (default: ${DEFAULT-VALUE}).")
    private double learningRate;

    @Option(
            names = "--seed",
            defaultValue = "1",
            description = "Seed of parameters and batches (default: ${DEFAULT-VALUE}).")
    private long seed;

    @Option(
            names = "--out",
            paramLabel = "DIR",
            defaultValue = "flashring-train",
            description = "Where result.json and pictures go (default: ${DEFAULT-VALUE}).")
    private Path out;

    @Option(
            names = "--engine",
            defaultValue = "torch",
            description = "Who computes the dense layers: torch or dense (default: ${DEFAULT-VALUE}).")
    private Engine engine;

    @Mixin
    private DenseOptions dense;

    @Mixin
    private DenseDevices devices;

    @Mixin
    private StrategyOption strategy;

    @Mixin
    private JsonOption json;

    private final Launched launched = Launched.of(System.getenv());

    @Override
    public Integer call() throws IOException {
        boolean first = launched == null || launched.isFirst();
        PrintWriter console = first ? spec.commandLine().getOut() : new PrintWriter(Writer.nullWriter());
        if (engine == Engine.TORCH) {
            dense.requireNone();
            devices.requireNone();
        } else if (compare) {
            throw new ParameterException(spec.commandLine(), "--compare is for --engine torch alone.");
        }
        Mesh group = mesh();
        Settings settings = new Settings(
                new Model(layers, heads, kvHeads, dim),
                group,
                steps,
                context,
                batch,
                learningRate,
                layout,
                window,
                seed,
                strategy.strategy(group.size("cp")));
        try (Corpus corpus = Corpus.read(text)) {
            int longest = engine == Engine.DENSE ? dense.longest(corpus) : corpus.length();
            if (longest < context) {
                console.printf(
                        Locale.ROOT,
                        "The text has %,d %s, fewer than --context %,d: a sequence is the whole text.%n",
                        longest,
                        dense.vocabulary().token() + "s",
                        context);
                settings = settings.withContext(longest);
            }
            if (!first) {
                try (StopRequest stop = stopRequest(() -> {})) {
                    work(settings, corpus, null).train().accept(stop);
                }
                return 0; // the first rank's verdict is that of all
            }
            List<Path> made = createOut();
            try {
                return run(settings, corpus, console);
            } catch (RuntimeException | Error e) {
                removeEmpty(made);
                throw e;
            }
        }
    }

    private Mesh mesh() {
        if (mesh != null && ranks != null) {
            throw new ParameterException(
                    spec.commandLine(), "--ranks and --mesh both say how many ranks there are; give one of them.");
        }
        int usual = launched == null ? devices.ranks(RANKS) : launched.worldSize();
        if (mesh == null) {
            return fitting(
                    "--ranks",
                    Mesh.of("cp=" + Checks.between("--ranks", ranks == null ? usual : ranks, 1, Settings.MOST_RANKS)));
        }
        try {
            return fitting("--mesh", Mesh.of(mesh));
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), "--mesh: " + e.getMessage(), e);
        }
    }

    private Mesh fitting(String option, Mesh asked) {
        if (launched != null) {
            launched.require(option, asked, asked.worldSize());
        }
        return asked;
    }

    /** Returns the folders that were not there, --out first. */
    private List<Path> createOut() {
        List<Path> made = new ArrayList<>();
        for (Path path = out.toAbsolutePath(); path != null && !Files.exists(path); path = path.getParent()) {
            made.add(path);
        }
        try {
            Files.createDirectories(out);
        } catch (IOException e) {
            throw new ParameterException(
                    spec.commandLine(), "--out " + out + " cannot be made a directory; give another place.", e);
        }
        if (!Files.isWritable(out)) {
            throw new ParameterException(
                    spec.commandLine(), "--out " + out + " cannot be written to; give another place.");
        }
        return made;
    }

    private static void removeEmpty(List<Path> made) {
        try {
            for (Path folder : made) {
                Files.delete(folder);
            }
        } catch (IOException e) {
            // it holds something; what the run failed of is told
        }
    }

    /** Returns the run by the engine that was asked for; {@code report}, if any, is told of steps. */
    private Work work(Settings settings, Corpus corpus, StepReport report) {
        if (engine == Engine.DENSE) {
            DenseTraining training = new DenseTraining(settings, dense, devices, corpus, out, launched, report);
            return new Work(
                    console -> DenseResult.printPlan(training, dense.memory(), console),
                    training::run,
                    () -> DenseResult.of(text, corpus, settings, dense, training),
                    training::stopped);
        }
        Training training = new Training(settings, corpus, compare, launched, report == null ? step -> {} : report);
        return new Work(
                console -> console.printf(
                        Locale.ROOT,
                        "Attention   %s a rank for buffers, by plan%n",
                        Quantity.bytes(Collections.max(TrainResult.bytesHeld(settings)))),
                stop -> training.run(),
                () -> TrainResult.of(text, corpus, settings, training.plan(), training.outcome()),
                () -> null);
    }

    /** Returns what tells the dense engine of signals; null for the other one, which a signal ends in its step. */
    private StopRequest stopRequest(Runnable asked) {
        return engine == Engine.DENSE ? new StopRequest(asked, () -> {}) : null;
    }

    @SuppressWarnings("try") // an interruption works by being open
    private int run(Settings settings, Corpus corpus, PrintWriter console) throws IOException {
        StepReport report = new StepReport(settings, console);
        Work work = work(settings, corpus, report);
        Runnable keep = () -> {
            report.close();
            keep(work.result().get(), settings, console);
        };
        try (report;
                Interruption interruption = engine == Engine.TORCH ? new Interruption(keep) : null;
                StopRequest stop = stopRequest(report::stopping)) {
            introduce(settings, corpus, console);
            work.introduce().accept(console);
            report.begin();
            work.train().accept(stop);
        } catch (RuntimeException | Error e) {
            if (work.result().get() != null) {
                keep.run();
            }
            throw e;
        }
        RunResult result = work.result().get();
        write(result, console);
        DenseTraining.Stopped stopped = work.stopped().get();
        if (stopped != null) {
            console.printf(
                    Locale.ROOT,
                    "Stopped     after step %d of %d; the same command with --resume %s goes on%n",
                    result.stepsBefore() + result.steps().size(),
                    settings.steps(),
                    stopped.checkpoint());
            return stopped.exitCode();
        }
        return result.passed() ? 0 : 1;
    }

    private void introduce(Settings settings, Corpus corpus, PrintWriter console) {
        Plan plan = settings.plan(DType.FLOAT32, 0);
        console.printf(
                Locale.ROOT,
                "Text        %,d bytes in %d %s%n",
                corpus.length(),
                corpus.files(),
                corpus.files() == 1 ? "file" : "files");
        console.printf(Locale.ROOT, "Sequence    %s, %d per step, %s%n", plan.queries(), settings.batch(), plan.mask());
        if (launched != null) {
            console.printf(Locale.ROOT, "Processes   %d, a rank each%n", launched.worldSize());
        }
        if (settings.mesh().dataParallelSize() > 1) {
            console.printf(
                    Locale.ROOT,
                    "Mesh        %s: %d ranks, %d replicas%n",
                    settings.mesh(),
                    settings.mesh().worldSize(),
                    settings.mesh().dataParallelSize());
        }
    }

    /** Writes what was done by a run that does not come to its end. */
    private void keep(RunResult done, Settings settings, PrintWriter console) {
        if (done == null) {
            console.println("Stopped before the first step was done; nothing is written.");
        } else {
            console.printf(
                    Locale.ROOT,
                    "Stopped after step %d of %d; what was done until then:%n",
                    done.stepsBefore() + done.steps().size(),
                    settings.steps());
            try {
                write(done, console);
            } catch (IOException e) {
                spec.commandLine().getErr().println(spec.qualifiedName() + ": " + e.getMessage());
            }
        }
        console.flush();
    }

    private void write(RunResult result, PrintWriter console) throws IOException {
        result.print(console);
        JsonOption.write(out.resolve("result.json"), result);
        json.write(result);
        List<Path> written = new ArrayList<>(result.draw(out, console));
        written.add(out.resolve("result.json"));
        console.printf("Written     %s%n", written.stream().map(Path::toString).collect(Collectors.joining(", ")));
    }
}
