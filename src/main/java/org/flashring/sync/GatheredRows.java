package org.flashring.sync;

import java.util.ArrayList;
import java.util.List;
import org.flashring.Positions;

/** Which of a rank's tokens are gathered, and where they go: runs of rows at even distances, as few as there can be. */
final class GatheredRows {
    /**
     * {@code count} rows: from row {@code local} of the rank's tokens on, {@code localStep} apart, to row
     * {@code gathered} of all that are gathered, {@code gatheredStep} apart; {@code packed} is the first one's number
     * among the rank's gathered rows.
     */
    record Run(long packed, long count, long local, long localStep, long gathered, long gatheredStep) {
        /** Returns this with one more row, or null if that does not fit on. */
        Run with(long nextLocal, long nextGathered) {
            if (count == 1) {
                return new Run(packed, 2, local, nextLocal - local, gathered, nextGathered - gathered);
            }
            boolean fits = nextLocal == local + count * localStep && nextGathered == gathered + count * gatheredStep;
            return fits ? new Run(packed, count + 1, local, localStep, gathered, gatheredStep) : null;
        }
    }

    private final List<Run> runs = new ArrayList<>();
    private long rows;

    private GatheredRows() {}

    /** Returns the rows of the positions that a rank holds and that are marked. */
    static GatheredRows of(Positions held, Positions marked) {
        GatheredRows rows = new GatheredRows();
        if (marked.length() < held.length()) {
            for (long i = 0; i < marked.length(); i++) {
                long position = marked.position(i);
                if (held.contains(position)) {
                    rows.add(held.lowerBound(position), i);
                }
            }
            return rows;
        }
        long local = 0;
        for (Positions.Range range : held.ranges()) {
            if (isWithin(range, marked)) {
                rows.add(
                        new Run(rows.rows, range.length(), local, 1, marked.lowerBound(range.start()), range.stride()));
            } else {
                for (long i = 0; i < range.length(); i++) {
                    long position = range.start() + i * range.stride();
                    if (marked.contains(position)) {
                        rows.add(local + i, marked.lowerBound(position));
                    }
                }
            }
            local += range.length();
        }
        return rows;
    }

    /** Returns whether all positions from the first to the last of a range are marked. */
    private static boolean isWithin(Positions.Range range, Positions marked) {
        for (Positions.Range each : marked.ranges()) {
            if (each.stride() == 1 && each.start() <= range.start() && range.last() <= each.last()) {
                return true;
            }
        }
        return false;
    }

    private void add(long local, long gathered) {
        Run longer = runs.isEmpty() ? null : runs.get(runs.size() - 1).with(local, gathered);
        if (longer == null) {
            add(new Run(rows, 1, local, 1, gathered, 1));
        } else {
            runs.set(runs.size() - 1, longer);
            rows++;
        }
    }

    private void add(Run run) {
        runs.add(run);
        rows += run.count();
    }

    List<Run> runs() {
        return runs;
    }

    /** Returns the number of rows. */
    long rows() {
        return rows;
    }
}
