package org.flashring.cli.support;

import java.util.Locale;
import org.flashring.internal.Checks;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;
import picocli.CommandLine.Option;

/** The options that say how keys come to the queries of all ranks. */
public final class StrategyOption {
    enum Kind {
        RING,
        GATHER,
        HALO,
        ULYSSES
    }

    @Option(
            names = "--strategy",
            defaultValue = "ring",
            description = "How keys come to queries: ring, gather, halo or ulysses (default: ${DEFAULT-VALUE}).")
    private Kind kind;

    @Option(
            names = "--gather-heads",
            defaultValue = "1",
            paramLabel = "HEADS",
            description = "Key heads that gather brings at once (default: ${DEFAULT-VALUE}).")
    private long heads;

    @Option(
            names = "--ulysses-ranks",
            paramLabel = "RANKS",
            description = "Ranks among which --strategy ulysses exchanges heads (default: all; fewer are 2-D).")
    private Integer ulyssesRanks;

    @Option(
            names = "--between",
            defaultValue = "ring",
            paramLabel = "STRATEGY",
            description = "How keys come from other groups of --ulysses-ranks: ring, gather or halo"
                    + " (default: ${DEFAULT-VALUE}).")
    private Kind between;

    /**
     * Returns the strategy.
     *
     * @throws IllegalArgumentException unless heads and ranks ≥ 1 and groups have a strategy between them that leaves
     *     heads where they are
     */
    public Strategy strategy() {
        Checks.atLeast("--gather-heads", heads, 1);
        Checks.atLeast("--ulysses-ranks", ranks(), 1);
        if (between == Kind.ULYSSES) {
            throw Checks.broken("--between", "ulysses", "be ring, gather or halo");
        }
        return of(kind, ranks());
    }

    /**
     * Returns the strategy for {@code worldSize} ranks and {@code queryHeads} heads: ulysses in the largest groups that
     * divide the ranks and have no more of them than there are heads.
     */
    public Strategy fitting(int worldSize, long queryHeads) {
        int size = (int) Math.min(worldSize, Math.min(ranks(), queryHeads));
        while (worldSize % size != 0) {
            size--;
        }
        return of(kind, size == worldSize ? ranks() : size);
    }

    private int ranks() {
        return ulyssesRanks == null ? Integer.MAX_VALUE : ulyssesRanks;
    }

    private Strategy of(Kind any, int ranks) {
        return switch (any) {
            case RING -> new Ring();
            case GATHER -> new Gather(heads);
            case HALO -> new Halo();
            case ULYSSES -> new Ulysses(ranks, of(between, 1));
        };
    }

    /** Returns the options that give this strategy again, with a space before them; none for the ring. */
    public String replay() {
        return kind == Kind.RING
                ? ""
                : " --strategy " + name(kind)
                        + (kind != Kind.ULYSSES
                                ? ""
                                : (ulyssesRanks == null ? "" : " --ulysses-ranks " + ulyssesRanks) + " --between "
                                        + name(between))
                        + (kind == Kind.GATHER || between == Kind.GATHER ? " --gather-heads " + heads : "");
    }

    private static String name(Kind kind) {
        return kind.name().toLowerCase(Locale.ROOT);
    }
}
