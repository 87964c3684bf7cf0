package org.flashring.cli.train.dense;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.flashring.plan.Plan;

/** Whether a step fits into a rank's memory, and the longest sequences that would. */
public final class MemoryLimit {
    private MemoryLimit() {}

    /** Returns the bytes that the fullest rank takes. */
    public static long bytes(DenseSettings settings) {
        long most = 0;
        Map<Long, Plan> plans = new HashMap<>(); // of ranks with as many rows
        for (int rank = 0; rank < settings.mesh().worldSize(); rank++) {
            int one = rank;
            Plan plan = plans.computeIfAbsent(
                    settings.mesh().part("dp", rank, settings.rows()).count(), rows -> settings.attention(one));
            most = Math.max(most, StepMemory.of(settings, plan, rank).total());
        }
        return most;
    }

    /** Returns the bytes of the host's memory in which what is offloaded of a GPU's rank lies, of the fullest one. */
    public static long pinned(DenseSettings settings) {
        long most = 0;
        for (int rank = 0; settings.cuda() && rank < settings.mesh().worldSize(); rank++) {
            most = Math.max(most, OffloadedLayers.bytes(settings, StepMemory.tokens(settings, rank)));
        }
        return most;
    }

    /**
     * Throws if a host lacks the memory for what so many ranks offload to it; pinned, it cannot be swapped out.
     *
     * @param free bytes of the host's memory
     * @throws IllegalArgumentException if it does
     */
    public static void requirePinned(DenseSettings settings, int ranks, long free) {
        long needed = Math.multiplyExact(pinned(settings), (long) ranks);
        if (needed > free) {
            throw new IllegalArgumentException("--offload needs " + needed + " bytes of the host's memory for " + ranks
                    + (ranks == 1 ? " rank" : " ranks") + "; it must be at most the " + free + " that are free");
        }
    }

    /** Returns where everything lies that {@code rank} of the mesh holds. */
    public static List<PlacedBlock> map(DenseSettings settings, int rank) {
        return StepMemory.of(settings, rank).map();
    }

    /**
     * Returns the longest row of one document of which every rank's share fits into {@code limit} bytes, at most
     * {@code most}; 0 if none does.
     */
    public static long longest(DenseSettings settings, long limit, long most) {
        long fits = 0;
        long tooLong = most + 1;
        while (tooLong - fits > 1) {
            long middle = fits + (tooLong - fits) / 2;
            if (bytes(settings.withLength(middle)) <= limit) {
                fits = middle;
            } else {
                tooLong = middle;
            }
        }
        return fits;
    }

    /**
     * Returns the first of {@code choices} of which every rank's share fits.
     *
     * @throws IllegalArgumentException if none fits; it names the longest row for each way to recompute that has any
     */
    public static DenseSettings fastest(List<DenseSettings> choices, long limit) {
        long least = Long.MAX_VALUE;
        DenseSettings smallest = null;
        for (DenseSettings choice : choices) {
            long needed = bytes(choice);
            if (needed <= limit) {
                return choice;
            }
            if (needed < least) {
                least = needed;
                smallest = choice;
            }
        }
        throw new IllegalArgumentException("--memory is " + limit + " bytes a rank; it must be at least " + least
                + " for rows of " + smallest.length() + " tokens with --recompute " + name(smallest)
                + ". " + longest(smallest, limit));
    }

    private static String longest(DenseSettings settings, long limit) {
        List<String> fitting = new ArrayList<>();
        for (DenseSettings one : ways(settings)) {
            long fits = longest(one, limit, settings.length());
            if (fits > 0) {
                fitting.add(name(one) + " " + fits);
            }
        }
        return fitting.isEmpty()
                ? "No row fits, however short."
                : "The longest rows that fit, by --recompute: " + String.join(", ", fitting);
    }

    /** Returns the settings with each way to save memory: what is done again, offloaded, and by groups of heads. */
    public static List<DenseSettings> ways(DenseSettings settings) {
        List<DenseSettings> ways = new ArrayList<>();
        int most = settings.model().kvHeads();
        for (Recompute policy : Recompute.values()) {
            for (boolean offload : settings.cuda() ? new boolean[] {false, true} : new boolean[] {settings.offload()}) {
                for (int groups : most == 1 ? new int[] {1} : new int[] {1, most}) {
                    ways.add(settings.with(policy).withOffload(offload).withHeadGroups(groups));
                }
            }
        }
        return ways;
    }

    /** Returns how a step recomputes, in the words of options. */
    public static String name(DenseSettings settings) {
        return settings.recompute()
                + (settings.offload() ? " --offload" : "")
                + (settings.headGroups() == 1 ? "" : " --head-groups " + settings.headGroups());
    }
}
