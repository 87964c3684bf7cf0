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
     * Throws unless every rank's share fits.
     *
     * @throws IllegalArgumentException that names the longest row for each way to recompute
     */
    public static void require(DenseSettings settings, long limit) {
        long needed = bytes(settings);
        if (needed <= limit) {
            return;
        }
        List<String> fitting = new ArrayList<>();
        for (Recompute policy : Recompute.values()) {
            fitting.add(policy + " " + longest(settings.with(policy), limit, settings.length()));
        }
        throw new IllegalArgumentException("--memory is " + limit + " bytes a rank; it must be at least " + needed
                + " for rows of " + settings.length() + " tokens with --recompute " + settings.recompute()
                + ". The longest rows that fit, by --recompute: " + String.join(", ", fitting));
    }
}
