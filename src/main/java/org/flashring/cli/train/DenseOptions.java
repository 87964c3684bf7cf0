package org.flashring.cli.train;

import java.nio.file.Path;
import org.flashring.DType;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.train.dense.AdamW;
import org.flashring.cli.train.dense.DenseModel;
import org.flashring.cli.train.dense.DenseSettings;
import org.flashring.cli.train.dense.Recompute;
import org.flashring.internal.Checks;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** The options of the dense engine alone; those that are not given are null. */
final class DenseOptions {
    private static final int VOCABULARY = 256; // tokens are bytes
    private static final int TILE = 4096;
    private static final int LOSS_TILE = 1024;

    @Spec(Spec.Target.MIXEE)
    private CommandSpec command;

    @Option(
            names = "--recompute",
            description = "What backward computes again: keep (dense layers) or full (attention, too; less memory)."
                    + " --engine dense alone, as all that follow (default: keep).")
    private Recompute recompute;

    @Option(
            names = "--head-groups",
            paramLabel = "GROUPS",
            description =
                    "Parts of the heads that share attention's memory in turn, a divisor of --kv-heads (default: 1).")
    private Integer headGroups;

    @Option(
            names = "--tile",
            paramLabel = "TOKENS",
            description = "Tokens that dense layers take at a time (default: " + TILE + ").")
    private Integer tile;

    @Option(
            names = "--clip",
            paramLabel = "NORM",
            description = "Largest norm of all gradients together; longer ones are scaled (default: 1).")
    private Double clip;

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
                            + " that it has done. It does not know its text: --text may be the same or another.")
    private Path resume;

    /** Throws if one of them is given, for an engine that knows none. */
    void requireNone() {
        String[] names = {
            "--recompute", "--head-groups", "--tile", "--clip", "--memory", "--checkpoint-every", "--resume"
        };
        Object[] values = {recompute, headGroups, tile, clip, memory, checkpointEvery, resume};
        for (int i = 0; i < names.length; i++) {
            if (values[i] != null) {
                throw new ParameterException(command.commandLine(), names[i] + " is for --engine dense alone.");
            }
        }
    }

    /** Returns what decides a step of the settings' run, in float32. */
    DenseSettings settings(Settings settings) {
        Model model = settings.model();
        int groups = (int) Checks.atLeast("--head-groups", headGroups == null ? 1 : headGroups, 1);
        if (model.kvHeads() % groups != 0) {
            throw Checks.broken("--head-groups", groups, "be a divisor of --kv-heads = " + model.kvHeads());
        }
        return new DenseSettings(
                DenseModel.of(model.layers(), model.heads(), model.kvHeads(), model.dim(), model.hidden(), VOCABULARY),
                DType.FLOAT32,
                settings.mesh(),
                settings.batch(),
                settings.layout(),
                new long[] {0, settings.context()},
                settings.window(),
                settings.strategy(),
                recompute == null ? Recompute.KEEP : recompute,
                groups,
                (int) Checks.atLeast("--tile", tile == null ? TILE : tile, 1),
                LOSS_TILE);
    }

    AdamW optimizer(double learningRate) {
        return AdamW.of(learningRate, clip == null ? 1 : clip);
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
}
