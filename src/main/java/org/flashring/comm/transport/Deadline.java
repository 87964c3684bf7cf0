package org.flashring.comm.transport;

import java.time.Duration;
import org.flashring.internal.Checks;

/** How long an operation waits for its peers. */
public record Deadline(long nanos) {
    private static final Duration LONGEST = Duration.ofNanos(Long.MAX_VALUE);

    /**
     * Returns the deadline that a user gave.
     *
     * @throws IllegalArgumentException unless it is positive and fits the clock, about 292 years
     */
    public static Deadline of(Duration deadline) {
        Checks.notNull("deadline", deadline);
        if (deadline.isNegative() || deadline.isZero() || deadline.compareTo(LONGEST) > 0) {
            throw Checks.broken("deadline", deadline, "be positive and at most " + LONGEST);
        }
        return new Deadline(deadline.toNanos());
    }

    /**
     * Returns the nanoseconds that are left of a wait that began at {@code start} of System.nanoTime; 0 or less if
     * none.
     */
    public long left(long start) {
        return nanos - (System.nanoTime() - start);
    }

    /** Returns what a rank did that misses it in {@code operation}: "waited 250 ms, the deadline, in barrier". */
    public String missedIn(String operation) {
        return "waited " + nanos / 1_000_000 + " ms, the deadline, in " + operation;
    }
}
