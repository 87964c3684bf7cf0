package org.flashring.sync;

import org.flashring.comm.Mesh;
import org.flashring.internal.Checks;

/**
 * What part of a pipeline a rank runs, and so what it needs of a batch. All need positions, for every layer has them.
 */
public enum PipelineStage {
    /** The whole model. */
    ONLY(true, true),
    /** Embeds tokens; has no loss. */
    FIRST(true, false),
    /** Neither embeds nor has a loss. */
    MIDDLE(false, false),
    /** Has the loss; sees no token. */
    LAST(false, true);

    private final boolean tokens;
    private final boolean labels;

    PipelineStage(boolean tokens, boolean labels) {
        this.tokens = tokens;
        this.labels = labels;
    }

    /** Returns the stage of {@code rank} by its coordinate on the mesh's axis {@code pp}. */
    public static PipelineStage of(Mesh mesh, int rank) {
        int stage = Checks.notNull("mesh", mesh).coordinate("pp", rank);
        int last = mesh.size("pp") - 1;
        if (last == 0) {
            return ONLY;
        }
        return stage == 0 ? FIRST : stage == last ? LAST : MIDDLE;
    }

    /** Returns whether the stage reads tokens. */
    public boolean hasTokens() {
        return tokens;
    }

    /** Returns whether the stage has the loss, and so labels. */
    public boolean hasLabels() {
        return labels;
    }
}
