package org.flashring.cli.support;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.flashring.AttentionShape;
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
        ULYSSES,
        ALL
    }

    private static final List<Kind> EACH = List.of(Kind.RING, Kind.GATHER, Kind.HALO, Kind.ULYSSES);

    @Option(
            names = "--strategy",
            defaultValue = "ring",
            description = "How keys come to queries: ring, gather, halo or ulysses; plan and bench also compare all"
                    + " (default: ${DEFAULT-VALUE}).")
    private Kind kind;

    @Option(
            names = "--ahead",
            description = "The ring fetches keys a step ahead, from their owner, in two more slots: for NCCL"
                    + " where an exchange takes as long as a step.")
    private boolean ahead;

    @Option(
            names = "--ring-heads",
            paramLabel = "HEADS",
            description = "Key heads that the ring carries at once in backward (default: all). Fewer need less memory,"
                    + " and hide the gradients' way home.")
    private Long ringHeads;

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
     * Returns the strategy for any number of ranks.
     *
     * @throws IllegalArgumentException unless it is one, heads and ranks ≥ 1, groups have a strategy between them that
     *     leaves heads where they are, and a ring carries keys where it is told how
     */
    public Strategy strategy() {
        return strategy(Integer.MAX_VALUE);
    }

    /** Returns the strategy for {@code worldSize} ranks; throws as {@link #strategy()} does. */
    public Strategy strategy(int worldSize) {
        if (all()) {
            throw Checks.broken("--strategy", "all", "be ring, gather, halo or ulysses");
        }
        check();
        if (ofRing() != null && kind == Kind.ULYSSES && ranks() >= worldSize) {
            throw new IllegalArgumentException(ofRing() + " is given; it must be left out where no ring carries keys:"
                    + " all ranks are in one group, unless --ulysses-ranks is fewer");
        }
        return of(kind, ranks());
    }

    /** Returns whether all strategies are asked for. */
    public boolean all() {
        return kind == Kind.ALL;
    }

    /**
     * Returns the strategy, or all that there are for {@code worldSize} ranks, 2-D with each number of ranks to a group
     * that deals the heads of {@code shape} evenly. What a strategy refuses it does when it is planned.
     *
     * @throws IllegalArgumentException as {@link #strategy(int)} does, but for all strategies
     */
    public List<Strategy> strategies(int worldSize, AttentionShape shape) {
        if (!all()) {
            return List.of(strategy(worldSize));
        }
        check();
        List<Strategy> all = new ArrayList<>();
        for (Kind each : EACH) {
            all.add(of(each, Integer.MAX_VALUE));
        }
        for (int size = 2; size < worldSize; size++) {
            if (ulyssesRanks == null ? worldSize % size == 0 && dealsEvenly(shape, size) : size == ulyssesRanks) {
                all.add(of(Kind.ULYSSES, size));
            }
        }
        return all;
    }

    private static boolean dealsEvenly(AttentionShape shape, int size) {
        return shape.queryHeads() % size == 0 && (shape.kvHeads() % size == 0 || size % shape.kvHeads() == 0);
    }

    /** Returns the strategy, or all, as {@link #fitting} has them, by name. */
    public Map<String, Strategy> fittingByName(int worldSize, long queryHeads) {
        check();
        Map<String, Strategy> byName = new LinkedHashMap<>();
        for (Kind each : all() ? EACH : List.of(kind)) {
            byName.put(name(each), fitting(each, worldSize, queryHeads));
        }
        return byName;
    }

    private void check() {
        Checks.atLeast("--gather-heads", heads, 1);
        Checks.atLeast("--ulysses-ranks", ranks(), 1);
        if (between == Kind.ULYSSES || between == Kind.ALL) {
            throw Checks.broken("--between", name(between), "be ring, gather or halo");
        }
        if (ofRing() != null && kind != Kind.ALL && (kind == Kind.ULYSSES ? between : kind) != Kind.RING) {
            throw new IllegalArgumentException(ofRing() + " is given; it must be left out where no ring carries keys");
        }
        if (ringHeads != null) {
            Checks.atLeast("--ring-heads", ringHeads, 1);
            if (ahead) {
                throw new IllegalArgumentException("--ahead is given; it must be left out with --ring-heads");
            }
        }
    }

    /** Returns the option that is for a ring alone, if it is given. */
    private String ofRing() {
        return ahead ? "--ahead" : ringHeads != null ? "--ring-heads" : null;
    }

    /**
     * Returns the strategy for {@code worldSize} ranks and {@code queryHeads} heads: ulysses in the largest groups that
     * divide the ranks and have no more of them than there are heads.
     */
    public Strategy fitting(int worldSize, long queryHeads) {
        return fitting(kind, worldSize, queryHeads);
    }

    private Strategy fitting(Kind any, int worldSize, long queryHeads) {
        int size = (int) Math.min(worldSize, Math.min(ranks(), queryHeads));
        while (worldSize % size != 0) {
            size--;
        }
        return of(any, size == worldSize ? ranks() : size);
    }

    private int ranks() {
        return ulyssesRanks == null ? Integer.MAX_VALUE : ulyssesRanks;
    }

    private Strategy of(Kind any, int ranks) {
        return switch (any) {
            case RING -> ringHeads == null ? new Ring(ahead) : new Ring(ringHeads);
            case GATHER -> new Gather(heads);
            case HALO -> new Halo();
            case ULYSSES -> new Ulysses(ranks, of(between, 1));
            case ALL -> throw new IllegalArgumentException("all strategies are not one");
        };
    }

    /** Returns the options that give this strategy again, with a space before them; none for the plain ring. */
    public String replay() {
        String strategy = kind == Kind.RING
                ? ""
                : " --strategy " + name(kind)
                        + (kind != Kind.ULYSSES
                                ? ""
                                : (ulyssesRanks == null ? "" : " --ulysses-ranks " + ulyssesRanks) + " --between "
                                        + name(between))
                        + (kind == Kind.GATHER || between == Kind.GATHER ? " --gather-heads " + heads : "");
        return strategy + (ahead ? " --ahead" : "") + (ringHeads == null ? "" : " --ring-heads " + ringHeads);
    }

    private static String name(Kind kind) {
        return kind.name().toLowerCase(Locale.ROOT);
    }
}
