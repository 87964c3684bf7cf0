package org.flashring.plan;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.plan.Schedule.Run;

/** What a mask leaves of a block of queries and keys, found without looking at every pair. */
final class Visibility {
    private Visibility() {}

    /** Returns whether any query of any row of the batch sees any key. */
    static boolean any(Mask mask, Positions q, Positions k) {
        boolean any = anyOfRow(mask.ofRow(0), q, k);
        for (int row = 1; row < mask.rows() && !any; row++) {
            any = anyOfRow(mask.ofRow(row), q, k);
        }
        return any;
    }

    /**
     * Returns whether any query sees any key. O(documents) leaps: past the queries that the next key lies beyond, then
     * past the keys behind them.
     */
    private static boolean anyOfRow(Mask mask, Positions q, Positions k) {
        long i = 0;
        while (i < q.length()) {
            long query = q.position(i);
            long next = k.lowerBound(mask.lo(query));
            if (next == k.length()) {
                return false; // the ends never decrease: later queries see nothing either
            }
            long key = k.position(next);
            if (key < mask.hi(query)) {
                return true;
            }
            i = firstReaching(mask, q, i + 1, key);
        }
        return false;
    }

    /** Returns the local indices of the keys that some query of some row of the batch sees. */
    static List<Run> seen(Mask mask, Positions q, Positions k) {
        if (mask.rows() == 0) {
            return seenOfRow(mask, q, k);
        }
        List<Run> all = new ArrayList<>();
        for (int row = 0; row < mask.rows(); row++) {
            all.addAll(seenOfRow(mask.ofRow(row), q, k));
        }
        all.sort(Comparator.comparingLong(Run::from));
        List<Run> runs = new ArrayList<>();
        long end = 0;
        for (Run run : all) {
            if (run.to() > end) {
                append(runs, Math.max(run.from(), end), run.to());
                end = run.to();
            }
        }
        return runs;
    }

    /**
     * Returns the local indices of the keys that some query sees. O(length / window + documents) leaps: a key that is
     * seen is so by every query up to the last whose interval has begun there, and with it all keys before the end of
     * that one's.
     */
    private static List<Run> seenOfRow(Mask mask, Positions q, Positions k) {
        List<Run> runs = new ArrayList<>();
        long i = 0;
        long end = 0; // of the keys that are decided
        while (i < q.length()) {
            long query = q.position(i);
            long next = Math.max(end, k.lowerBound(mask.lo(query)));
            if (next == k.length()) {
                break;
            }
            long key = k.position(next);
            if (key >= mask.hi(query)) {
                i = firstReaching(mask, q, i + 1, key);
                continue;
            }
            long past = firstBeyond(mask, q, i + 1, key);
            end = k.lowerBound(mask.hi(q.position(past - 1)));
            append(runs, next, end);
            i = past;
        }
        return runs;
    }

    /** Adds [{@code from}, {@code to}) behind {@code runs}, to the last of them where that ends there. */
    static void append(List<Run> runs, long from, long to) {
        int last = runs.size() - 1;
        if (last >= 0 && runs.get(last).to() == from) {
            runs.set(last, new Run(runs.get(last).from(), to));
        } else {
            runs.add(new Run(from, to));
        }
    }

    /**
     * Returns the local index, {@code from} or above, of the first query whose interval begins beyond {@code key};
     * q.length() if none does.
     */
    private static long firstBeyond(Mask mask, Positions q, long from, long key) {
        long low = from;
        long high = q.length();
        while (low < high) {
            long middle = (low + high) >>> 1;
            if (mask.lo(q.position(middle)) <= key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }

    /**
     * Returns the local index, {@code from} or above, of the first query whose interval ends beyond {@code key};
     * q.length() if none does.
     */
    private static long firstReaching(Mask mask, Positions q, long from, long key) {
        long low = from;
        long high = q.length();
        while (low < high) {
            long middle = (low + high) >>> 1;
            if (mask.hi(q.position(middle)) <= key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }

    /** Returns how many (query, key) pairs of a row are visible, where rows differ the mean. O(queries) time a mask. */
    static long pairs(Mask mask, Positions q, Positions k) {
        long pairs = pairsOfRow(mask.ofRow(0), q, k);
        for (int row = 1; row < mask.rows(); row++) {
            pairs += pairsOfRow(mask.ofRow(row), q, k);
        }
        return pairs / Math.max(1, mask.rows());
    }

    private static long pairsOfRow(Mask mask, Positions q, Positions k) {
        long pairs = 0;
        for (Positions.Range range : q.ranges()) {
            for (long i = 0; i < range.length(); i++) {
                long query = range.start() + i * range.stride();
                pairs += Math.max(0, k.lowerBound(mask.hi(query)) - k.lowerBound(mask.lo(query)));
            }
        }
        return pairs;
    }
}
