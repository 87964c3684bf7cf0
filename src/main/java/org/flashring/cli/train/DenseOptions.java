package org.flashring.cli.train;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.flashring.DType;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.support.ShapeOptions;
import org.flashring.cli.support.Vocabulary;
import org.flashring.cli.train.dense.AdamW;
import org.flashring.cli.train.dense.DenseModel;
import org.flashring.cli.train.dense.DenseSettings;
import org.flashring.cli.train.dense.Recompute;
import org.flashring.internal.Checks;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** The options of the dense engine alone; those that are not given are null or false. */
final class DenseOptions {
    private static final int TILE = 4096;
    private static final int TILE_ON_GPU = 16_384; // products of fewer rows leave much of a GPU idle
    private static final int LOSS_TILE = 1024;
    private static final int WARMUP = 5;
    private static final List<String> NAMES = List.of(
            "--recompute",
            "--head-groups",
            "--offload",
            "--tile",
            "--clip",
            "--warmup",
            "--memory",
            "--checkpoint-every",
            "--resume",
            "--other-text",
            "--hidden",
            "--head-dim",
            "--vocab",
            "--documents",
            "--repeat",
            "--peak-flops",
            "--tensorboard");

    /** What backward computes again, or that memory decides it. */
    private enum Policy {
        NONE,
        KEEP,
        FULL,
        AUTO
    }

    @Spec(Spec.Target.MIXEE)
    private CommandSpec command;

    @Option(
            names = "--recompute",
            description = "What backward computes again: none (norms alone; the most memory), keep (dense layers), full"
                    + " (attention, too; the least), or auto, the fastest that fits --memory, with head groups"
                    + " if need be. --engine dense alone, as all that follow (default: keep).")
    private Policy recompute;

    @Option(
            names = "--head-groups",
            paramLabel = "GROUPS",
            description =
                    "Parts of the heads that share attention's memory in turn, a divisor of --kv-heads (default: 1).")
    private Integer headGroups;

    @Option(
            names = "--offload",
            description =
                    "What --recompute keeps of a layer waits for backward in the host's memory: sequences are longer,"
                            + " on GPUs at little cost, since copies go on beside the work.")
    private boolean offload;

    @Option(
            names = "--tile",
            paramLabel = "TOKENS",
            description =
                    "Tokens that dense layers take at a time (default: " + TILE + ", on GPUs " + TILE_ON_GPU + ").")
    private Integer tile;

    @Option(
            names = "--clip",
            paramLabel = "NORM",
            description = "Largest norm of all gradients together; longer ones are scaled (default: 1).")
    private Double clip;

    @Option(
            names = "--warmup",
            paramLabel = "STEPS",
            description = "Steps in which the learning rate rises to --lr, by equal parts from the first one on"
                    + " (default: " + WARMUP + ").")
    private Integer warmup;

    @Option(
            names = "--memory",
            paramLabel = "BYTES",
            converter = Quantity.class,
            description =
                    "Memory of a rank, such as 2G: what needs more is refused before it starts, and what would fit"
                            + " is named (default: no limit).")
    private Long memory;

    @Option(
            names = "--checkpoint-every",
            paramLabel = "STEPS",
            description = "Write a checkpoint into --out after each STEPS steps and the last one (default: none).")
    private Integer checkpointEvery;

    @Option(
            names = "--resume",
            paramLabel = "DIR",
            description =
                    "Go on from a checkpoint, or the latest one in DIR, on any number of ranks; --steps counts those"
                            + " that it has done. Of another text, or other rows (--context, --batch, --window,"
                            + " --documents, --repeat, --seed), it is refused, unless --other-text is given.")
    private Path resume;

    @Option(
            names = "--other-text",
            description = "Let --resume go on with a text, or rows of it, that the checkpoint did not learn.")
    private boolean otherText;

    @Option(names = "--hidden", description = "Width of the MLP (default: 8/3 of --dim, to a multiple of 16).")
    private Integer hidden;

    @Option(
            names = "--head-dim",
            paramLabel = "DIM",
            description = "Size of a head, an even number (default: --dim / --heads).")
    private Integer headDim;

    @Option(
            names = "--vocab",
            paramLabel = "TOKENS",
            description = "What a token is: bytes (256 tokens) or pairs of bytes (65,536); --context and --window count"
                    + " tokens (default: bytes).")
    private Vocabulary vocabulary;

    @Option(
            names = "--documents",
            paramLabel = "TOKENS",
            description = "Pack each sequence of documents of so many tokens, windows of the text that do not see each"
                    + " other, the last one shorter (default: one document).")
    private Integer documents;

    @Option(
            names = "--repeat",
            description = "The second half of each document repeats the first: loss there falls below that of the first"
                    + " half only if attention finds it there, on whichever rank.")
    private boolean repeat;

    @Option(
            names = "--peak-flops",
            paramLabel = "FLOPS",
            description = "FLOP/s that the device of a rank could do, such as 989e12, for MFU (default: by its name, of"
                    + " Hopper GPUs in bfloat16).")
    private Double peakFlops;

    @Option(
            names = "--tensorboard",
            paramLabel = "DIR",
            description =
                    "Also write loss, gradient norm, rates, memory and seconds by phase of each step into an event"
                            + " file in DIR, for TensorBoard.")
    private Path tensorboard;

    /** Throws if one of them is given, for an engine that knows none. */
    void requireNone() {
        for (String name : NAMES) {
            if (command.commandLine().getParseResult().hasMatchedOption(name)) {
                throw new ParameterException(command.commandLine(), name + " is for --engine dense alone.");
            }
        }
    }

    /**
     * Returns what may decide a step of the settings' run, in float32: one choice, or the fastest first where memory is
     * to decide.
     *
     * @param cuda whether ranks are GPUs
     * @throws IllegalArgumentException if an option is out of range
     */
    List<DenseSettings> settings(Settings settings, boolean cuda) {
        Model model = settings.model();
        int groups = (int) Checks.atLeast("--head-groups", headGroups == null ? 1 : headGroups, 1);
        if (model.kvHeads() % groups != 0) {
            throw Checks.broken("--head-groups", groups, "be a divisor of --kv-heads = " + model.kvHeads());
        }
        int usualTile = cuda ? TILE_ON_GPU : TILE;
        DenseSettings first = new DenseSettings(
                        model(model),
                        DType.FLOAT32,
                        settings.mesh(),
                        settings.batch(),
                        settings.layout(),
                        documents(settings.context()),
                        settings.window(),
                        settings.strategy(),
                        recompute == null || recompute == Policy.AUTO
                                ? Recompute.KEEP
                                : Recompute.valueOf(recompute.name()),
                        groups,
                        (int) Checks.atLeast("--tile", tile == null ? usualTile : tile, 1),
                        LOSS_TILE)
                .withOffload(offload);
        if (recompute != Policy.AUTO) {
            return List.of(first);
        }
        if (memory == null) {
            throw new ParameterException(
                    command.commandLine(), "--recompute auto needs --memory BYTES, which it is to fit into.");
        }
        List<DenseSettings> choices = new ArrayList<>();
        for (Recompute policy : Recompute.values()) { // groups cost less than attention done again
            IntStream.rangeClosed(groups, headGroups == null ? model.kvHeads() : groups)
                    .filter(each -> model.kvHeads() % each == 0)
                    .forEach(each -> choices.add(first.with(policy).withHeadGroups(each)));
        }
        return choices;
    }

    private DenseModel model(Model model) {
        DenseModel usual = DenseModel.of(
                model.layers(),
                model.heads(),
                model.kvHeads(),
                model.dim(),
                model.hidden(),
                vocabulary().size());
        if (headDim != null) {
            Checks.between("--head-dim", headDim, 2, ShapeOptions.largestHeadDim());
            if (headDim % 2 != 0) {
                throw Checks.broken("--head-dim", headDim, "be even, because rotary positions turn pairs");
            }
        }
        return usual.with(
                headDim == null ? usual.headDim() : headDim,
                hidden == null ? usual.hidden() : (int) Checks.atLeast("--hidden", hidden, 1));
    }

    private long[] documents(int context) {
        if (documents == null) {
            return new long[] {0, context};
        }
        Checks.atLeast("--documents", documents, 2);
        if (repeat && documents < context && context % documents != 0) { // the last one's halves would be others'
            throw Checks.broken("--documents", documents, "divide --context = " + context + " with --repeat");
        }
        return Feed.offsets(context, documents);
    }

    /** Returns what rows are made of. */
    Feed feed(Corpus corpus, int context) {
        return new Feed(corpus, vocabulary(), documents(context), repeat);
    }

    /** Returns the tokens of the longest sequence that the text makes; any number where it is packed of documents. */
    int longest(Corpus corpus) {
        return documents == null ? Feed.tokens(corpus, vocabulary()) : Integer.MAX_VALUE;
    }

    /** Returns the tokens of each document but the last, or null for one of the whole sequence. */
    Integer documents() {
        return documents;
    }

    /** Returns whether the second half of each document repeats the first. */
    boolean repeat() {
        return repeat;
    }

    /** Returns what a token is. */
    Vocabulary vocabulary() {
        return vocabulary == null ? Vocabulary.BYTES : vocabulary;
    }

    AdamW optimizer(double learningRate) {
        return AdamW.of(learningRate, clip == null ? 1 : clip).withWarmup(warmup());
    }

    /** Returns the steps in which the learning rate rises. */
    int warmup() {
        return (int) Checks.atLeast("--warmup", warmup == null ? WARMUP : warmup, 0);
    }

    /** Returns the bytes that a rank may take, or null for any. */
    Long memory() {
        return memory;
    }

    /** Returns the steps between checkpoints; 0 for none. */
    int checkpointEvery() {
        return checkpointEvery == null ? 0 : (int) Checks.atLeast("--checkpoint-every", checkpointEvery, 1);
    }

    /** Returns where to go on from, or null. */
    Path resume() {
        return resume;
    }

    /** Returns whether to go on with a text that the checkpoint did not learn. */
    boolean otherText() {
        return otherText;
    }

    /** Returns the FLOP/s that a rank's device could do, or null. */
    Double peakFlops() {
        if (peakFlops != null && !(peakFlops > 0 && peakFlops < Double.POSITIVE_INFINITY)) {
            throw Checks.broken("--peak-flops", peakFlops, "be positive and finite");
        }
        return peakFlops;
    }

    /** Returns where an event file goes, or null. */
    Path tensorboard() {
        if (tensorboard != null && Files.exists(tensorboard) && !Files.isDirectory(tensorboard)) {
            throw new ParameterException(
                    command.commandLine(), "--tensorboard " + tensorboard + " is no folder; give another place.");
        }
        if (tensorboard != null) {
            Path there = tensorboard.toAbsolutePath();
            while (!Files.exists(there)) {
                there = there.getParent();
            }
            if (!Files.isDirectory(there) || !Files.isWritable(there)) {
                throw new ParameterException(
                        command.commandLine(),
                        "--tensorboard " + tensorboard + " cannot be made: " + there
                                + (Files.isDirectory(there) ? " cannot be written to" : " is no folder")
                                + "; give another place.");
            }
        }
        return tensorboard;
    }
}
