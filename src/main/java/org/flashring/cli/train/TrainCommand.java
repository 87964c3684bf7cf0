package org.flashring.cli.train;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.flashring.Layout;
import org.flashring.cli.support.Interruption;
import org.flashring.cli.support.JsonOption;
import org.flashring.cli.support.Launched;
import org.flashring.cli.support.Quantity;
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
            "Dense layers are PyTorch's, attention is FlashRing's; ranks are threads of this process,",
            "or the processes that flashring launch or torchrun started."
        },
        mixinStandardHelpOptions = true,
        sortOptions = false,
        footer = {
            "",
            "Example:",
            "  flashring train --text README.md --ranks 4 --steps 30 --compare",
            "  flashring launch --nproc 4 -- train --text README.md --steps 30"
        })
public final class TrainCommand implements Callable<Integer> {
    private static final int RANKS = 4;

    @Spec
    private CommandSpec spec;

    @Option(
            names = "--text",
            required = true,
            arity = "1..*",
            paramLabel = "FILE",
            description =
                    "Text to learn: files, or directories that are read with all below them but hidden and binary files.")
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
            description =
                    "Also run each step on one rank, and fail if losses or gradients differ by more than float32 explains.")
    private boolean compare;

    @Option(names = "--steps", defaultValue = "100", description = "Optimizer steps (default: ${DEFAULT-VALUE}).")
    private int steps;

    @Option(
            names = "--context",
            defaultValue = "1021",
            description = "Bytes in a sequence, over all ranks; any number from 2 on (default: ${DEFAULT-VALUE}).")
    private int context;

    @Option(names = "--batch", defaultValue = "4", description = "Sequences per step (default: ${DEFAULT-VALUE}).")
    private int batch;

    @Option(
            names = "--window",
            paramLabel = "KEYS",
            defaultValue = "0",
            description = "Bytes that a byte sees, itself included; 0: all before it (default: ${DEFAULT-VALUE}).")
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
            description = "Where loss.png and result.json go (default: ${DEFAULT-VALUE}).")
    private Path out;

    @Mixin
    private StrategyOption strategy;

    @Mixin
    private JsonOption json;

    private final Launched launched = Launched.of(System.getenv());

    @Override
    public Integer call() throws IOException {
        boolean first = launched == null || launched.isFirst();
        PrintWriter console = first ? spec.commandLine().getOut() : new PrintWriter(Writer.nullWriter());
        Settings settings = new Settings(
                new Model(layers, heads, kvHeads, dim),
                mesh(),
                steps,
                context,
                batch,
                learningRate,
                layout,
                window,
                seed,
                strategy.strategy());
        try (Corpus corpus = Corpus.read(text)) {
            if (corpus.length() < context) {
                console.printf(
                        Locale.ROOT,
                        "The text has %,d bytes, fewer than --context %,d: a sequence is the whole text.%n",
                        corpus.length(),
                        context);
                settings = settings.withContext(corpus.length());
            }
            if (!first) {
                new Training(settings, corpus, compare, launched, step -> {}).run();
                return 0; // the first rank's verdict is that of all
            }
            createOut();
            return run(settings, corpus, console);
        }
    }

    private Mesh mesh() {
        if (mesh != null && ranks != null) {
            throw new ParameterException(
                    spec.commandLine(), "--ranks and --mesh both say how many ranks there are; give one of them.");
        }
        int usual = launched == null ? RANKS : launched.worldSize();
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

    private void createOut() {
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
    }

    @SuppressWarnings("try") // an interruption works by being open
    private int run(Settings settings, Corpus corpus, PrintWriter console) throws IOException {
        StepReport report = new StepReport(settings, console);
        Training training = new Training(settings, corpus, compare, launched, report);
        Plan plan = training.plan();
        Runnable keep = () -> {
            report.close();
            keep(training.outcome(), corpus, settings, plan, console);
        };
        try (report;
                Interruption interruption = new Interruption(keep)) {
            console.printf(
                    Locale.ROOT,
                    "Text        %,d bytes in %d %s%n",
                    corpus.length(),
                    corpus.files(),
                    corpus.files() == 1 ? "file" : "files");
            console.printf(
                    Locale.ROOT, "Sequence    %s, %d per step, %s%n", plan.queries(), settings.batch(), plan.mask());
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
            console.printf(
                    Locale.ROOT,
                    "Attention   %s a rank for buffers, by plan%n",
                    Quantity.bytes(Collections.max(TrainResult.bytesHeld(settings))));
            report.begin();
            training.run();
        } catch (RuntimeException | Error e) {
            if (!training.outcome().steps().isEmpty()) {
                keep.run();
            }
            throw e;
        }
        TrainResult result = TrainResult.of(text, corpus, settings, plan, training.outcome());
        write(result, console);
        return result.passed() ? 0 : 1;
    }

    /** Writes what was done by a run that does not come to its end. */
    private void keep(Training.Outcome done, Corpus corpus, Settings settings, Plan plan, PrintWriter console) {
        int last = done.steps().size();
        if (last == 0) {
            console.println("Stopped before the first step was done; nothing is written.");
        } else {
            console.printf(
                    Locale.ROOT, "Stopped after step %d of %d; what was done until then:%n", last, settings.steps());
            try {
                write(TrainResult.of(text, corpus, settings, plan, done), console);
            } catch (IOException e) {
                spec.commandLine().getErr().println(spec.qualifiedName() + ": " + e.getMessage());
            }
        }
        console.flush();
    }

    private void write(TrainResult result, PrintWriter console) throws IOException {
        result.print(console);
        JsonOption.write(out.resolve("result.json"), result);
        json.write(result);
        boolean drawn = draw(result, console);
        console.printf(
                Locale.ROOT,
                "Written     %s%s%n",
                drawn ? out.resolve("loss.png") + ", " : "",
                out.resolve("result.json"));
    }

    /**
     * Returns whether the picture could be drawn: a JDK without fonts cannot, and that is no reason to lose the
     * results.
     */
    private boolean draw(TrainResult result, PrintWriter console) throws IOException {
        try {
            LossChart.write(
                    out.resolve("loss.png"), text, result.settings().mesh().worldSize(), result.steps());
            return true;
        } catch (LinkageError | InternalError | RuntimeException e) {
            console.println("No loss.png: this JDK cannot draw text (" + e + ").");
            return false;
        }
    }
}
