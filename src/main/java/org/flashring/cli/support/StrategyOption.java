package org.flashring.cli.support;

import org.flashring.internal.Checks;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import picocli.CommandLine.Option;

/** The options that say how keys come to the queries of all ranks. */
public final class StrategyOption {
    enum Kind {
        RING,
        GATHER,
        HALO
    }

    @Option(
            names = "--strategy",
            defaultValue = "ring",
            description = "How keys come to queries: ring, gather or halo (default: ${DEFAULT-VALUE}).")
    private Kind kind;

    @Option(
            names = "--gather-heads",
            defaultValue = "1",
            paramLabel = "HEADS",
            description = "Key heads that --strategy gather brings at once (default: ${DEFAULT-VALUE}).")
    private long heads;

    /**
     * Returns the strategy.
     *
     * @throws IllegalArgumentException unless heads ≥ 1
     */
    public Strategy strategy() {
        Strategy gather = new Gather(Checks.atLeast("--gather-heads", heads, 1));
        return switch (kind) {
            case RING -> new Ring();
            case GATHER -> gather;
            case HALO -> new Halo();
        };
    }

    /** Returns the options that give this strategy again, with a space before them; none for the ring. */
    public String replay() {
        return switch (kind) {
            case RING -> "";
            case GATHER -> " --strategy gather --gather-heads " + heads;
            case HALO -> " --strategy halo";
        };
    }
}
