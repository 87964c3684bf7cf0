package org.flashring.cli.generate;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.flashring.cli.support.JsonOption;
import org.flashring.cli.support.Launched;
import org.flashring.cli.support.Progress;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.support.ResultFile;
import org.flashring.cli.support.Vocabulary;
import org.flashring.cli.train.dense.DenseDecoder;
import org.flashring.cli.train.dense.TrainedModel;
import org.flashring.internal.Checks;
import org.flashring.serve.CachePlan;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code flashring generate}: a trained model continues a prompt, its cache dealt over ranks. */
@Command(
        name = "generate",
        description = {
            "Continue a prompt by a model that 'train --engine dense' has trained, token by token.",
            "The cache of keys and values is dealt over ranks, page by page. The text does not depend on their number.",
            "Ranks are threads of this process, or the processes that flashring launch or torchrun started."
        },
        mixinStandardHelpOptions = true,
        sortOptions = false,
        footer = {
            "",
            "Example:",
            "  flashring generate --model flashring-train --prompt FlashRing --ranks 4",
            "  flashring generate --model flashring-train --prompt Flash --temperature 0.8"
        })
public final class GenerateCommand implements Callable<Integer> {
    private static final int MOST_RANKS = 1024; // threads of this process

    /** What --json holds. */
    private record Result(
            String model,
            int ranks,
            int promptBytes,
            int bytes,
            int page,
            int window,
            double temperature,
            long seed,
            long cacheBytesOfRank,
            double promptSeconds,
            double seconds,
            String text) {}

    @Spec
    private CommandSpec spec;

    @Option(
            names = "--model",
            required = true,
            paramLabel = "DIR",
            description =
                    "A checkpoint of train --engine dense --checkpoint-every, or its --out, whose latest is taken.")
    private Path model;

    @Option(names = "--prompt", paramLabel = "TEXT", description = "What to continue, in UTF-8.")
    private String prompt;

    @Option(names = "--prompt-file", paramLabel = "FILE", description = "A file to continue, in place of --prompt.")
    private Path promptFile;

    @Option(
            names = "--bytes",
            defaultValue = "500",
            description = "Bytes to write (default: ${DEFAULT-VALUE}). A warning tells of more tokens, the prompt's"
                    + " included, than a sequence in training had (max_position_embeddings), unless --window hides"
                    + " them.")
    private int bytes;

    @Option(names = "--ranks", description = "Ranks that share the cache (default: 1, or all processes).")
    private Integer ranks;

    @Option(
            names = "--page",
            paramLabel = "TOKENS",
            defaultValue = "64",
            description = "Tokens in a page of the cache (default: ${DEFAULT-VALUE}).")
    private int page;

    @Option(
            names = "--window",
            paramLabel = "KEYS",
            defaultValue = "0",
            description = "Tokens that a token sees, itself included, as in training; 0: all before it"
                    + " (default: ${DEFAULT-VALUE}).")
    private int window;

    @Option(
            names = "--temperature",
            paramLabel = "T",
            defaultValue = "0",
            description =
                    "How freely tokens are drawn, such as 0.8; 0: always the likeliest (default: ${DEFAULT-VALUE}).")
    private double temperature;

    @Option(names = "--seed", defaultValue = "1", description = "Seed of what is drawn (default: ${DEFAULT-VALUE}).")
    private long seed;

    private Path out;

    @Mixin
    private JsonOption json;

    private final Launched launched = Launched.of(System.getenv());

    @Option(
            names = "--out",
            paramLabel = "FILE",
            description = "Also write the bytes to FILE, which need not be UTF-8, without the prompt.")
    void out(Path file) {
        ResultFile.require(spec.commandLine(), "--out", file);
        out = file;
    }

    @Override
    public Integer call() throws IOException {
        boolean first = launched == null || launched.isFirst();
        PrintWriter console = first ? spec.commandLine().getOut() : new PrintWriter(Writer.nullWriter());
        Generation generation = generation();
        int world = world();
        try (TrainedModel trained = TrainedModel.read("--model", model)) {
            Vocabulary vocabulary = Vocabulary.ofSize(
                    "vocabulary of " + trained.folder(), trained.model().vocabulary());
            if (generation.promptTokens(vocabulary) == 0) {
                throw Checks.broken(
                        "bytes of the prompt",
                        generation.prompt().length,
                        "be at least " + vocabulary.bytes() + ", a token of the model");
            }
            CachePlan plan = DenseDecoder.plan(trained.model(), generation.tokens(vocabulary), page, window, world);
            console.printf(
                    Locale.ROOT,
                    "Model       %s, %,d parameters%n"
                            + "Cache       %d %s, pages of %,d %ss, %s a rank%n"
                            + "Prompt      %,d bytes%n%n",
                    trained.folder(),
                    trained.parameterCount(),
                    world,
                    world == 1 ? "rank" : "ranks",
                    page,
                    vocabulary.token(),
                    Quantity.bytes(plan.bytesHeld()),
                    generation.prompt().length);
            if (first) {
                warn(generation.tokens(vocabulary), vocabulary, trained.positions());
            }
            Generation.Outcome outcome;
            try (Progress progress = new Progress(
                    "generate",
                    first ? (int) generation.tokens(vocabulary) - generation.promptTokens(vocabulary) : 0)) {
                outcome = generation.run(trained, vocabulary, world, launched, written -> progress.step());
            }
            if (first) {
                write(outcome, generation, trained, world, plan, console);
            }
        }
        return 0;
    }

    /**
     * Tells of distances between tokens that the model has not learnt; what it makes of them is not wrong, but poor.
     */
    private void warn(long all, Vocabulary vocabulary, long positions) {
        long seen = window == 0 ? all : Math.min(window, all);
        if (positions > 0 && seen > positions) {
            spec.commandLine()
                    .getErr()
                    .printf(
                            Locale.ROOT,
                            "%s: warning: prompt and --bytes are %d %ss, more than the %d of a sequence in training"
                                    + " (max_position_embeddings); the text may lose its sense there.%n",
                            spec.qualifiedName(),
                            all,
                            vocabulary.token(),
                            positions);
        }
    }

    private Generation generation() {
        Checks.between("--bytes", bytes, 1, 1 << 30);
        Checks.between("--page", page, 1, 1 << 20);
        Checks.atLeast("--window", window, 0);
        if (!(temperature >= 0 && temperature < Double.POSITIVE_INFINITY)) {
            throw Checks.broken("--temperature", temperature, "be finite and at least 0");
        }
        if ((prompt == null) == (promptFile == null)) {
            throw new ParameterException(
                    spec.commandLine(),
                    prompt == null
                            ? "--prompt or --prompt-file must be given: what to continue."
                            : "--prompt and --prompt-file both say what to continue; give one of them.");
        }
        byte[] text = prompt == null ? read(promptFile) : prompt.getBytes(StandardCharsets.UTF_8);
        if (text.length == 0) {
            throw new ParameterException(spec.commandLine(), "The prompt is empty; it must be of at least 1 byte.");
        }
        return new Generation(text, bytes, page, window, temperature, seed);
    }

    private byte[] read(Path file) {
        try {
            return Files.readAllBytes(file);
        } catch (IOException e) {
            String why = e instanceof NoSuchFileException ? "it is not there" : e.getMessage();
            throw new ParameterException(
                    spec.commandLine(), "--prompt-file " + file + " cannot be read: " + why + ".", e);
        }
    }

    private int world() {
        int usual = launched == null ? 1 : launched.worldSize();
        int world = (int) Checks.between("--ranks", ranks == null ? usual : ranks, 1, MOST_RANKS);
        if (launched != null) {
            launched.require("--ranks", world, world);
        }
        return world;
    }

    private void write(
            Generation.Outcome outcome,
            Generation generation,
            TrainedModel trained,
            int world,
            CachePlan plan,
            PrintWriter console)
            throws IOException {
        String text = new String(outcome.text(), StandardCharsets.UTF_8);
        console.println(text);
        console.printf(
                Locale.ROOT,
                "%nSpeed       prompt %,.0f bytes/s, then %,.1f bytes/s%n",
                generation.prompt().length / outcome.promptSeconds(),
                bytes / outcome.seconds());
        if (out != null) {
            ResultFile.write(out, to -> to.write(outcome.text()));
        }
        json.write(new Result(
                trained.folder().toString(),
                world,
                generation.prompt().length,
                bytes,
                page,
                window,
                temperature,
                seed,
                plan.bytesHeld(),
                outcome.promptSeconds(),
                outcome.seconds(),
                text));
    }
}
