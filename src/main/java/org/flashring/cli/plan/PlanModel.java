package org.flashring.cli.plan;

import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.cli.support.ShapeOptions;
import org.flashring.internal.Checks;
import picocli.CommandLine.Option;

/** The options of {@code flashring plan} that describe the model. */
final class PlanModel {
    @Option(names = "--layers", defaultValue = "32", description = "Attention layers (default: ${DEFAULT-VALUE}).")
    private int layers;

    @Option(names = "--heads", defaultValue = "32", description = "Query heads (default: ${DEFAULT-VALUE}).")
    private long heads;

    @Option(names = "--kv-heads", description = "Key and value heads (default: as many as query heads).")
    private Long kvHeads;

    @Option(names = "--head-dim", defaultValue = "128", description = "Size of a head (default: ${DEFAULT-VALUE}).")
    private long headDim;

    @Option(names = "--hidden", description = "Size of a hidden state (default: heads times head size).")
    private Long hidden;

    @Option(names = "--batch", defaultValue = "1", description = "Sequences per batch (default: ${DEFAULT-VALUE}).")
    private long batch;

    @Option(
            names = "--dtype",
            defaultValue = "bfloat16",
            description = "float64, float32, bfloat16 or float16 (default: ${DEFAULT-VALUE}).")
    private DType dtype;

    AttentionShape shape() {
        return ShapeOptions.shape(batch, heads, kvHeads, "--head-dim", headDim, dtype);
    }

    int layers() {
        return (int) Checks.atLeast("--layers", layers, 1);
    }

    long hidden() {
        return hidden == null
                ? Checks.product("--heads times --head-dim", heads, headDim)
                : Checks.atLeast("--hidden", hidden, 1);
    }
}
