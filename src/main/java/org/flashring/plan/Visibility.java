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

    /** Returns how many (query, key) pairs are visible in all {@code batch} rows together. O(queries) time a mask. */
    static long pairs(Mask mask, long batch, Positions q, Positions k) {
        if (mask.rows() == 0) {
            return batch * pairsOfRow(mask, q, k);
        }
        long pairs = 0;
        for (int row = 0; row < mask.rows(); row++) {
            pairs += pairsOfRow(mask.ofRow(row), q, k);
        }
        return pairs;
    }

    private static long pairsOfRow(Mask mask, Positions q, Positions k) {
        long pairs = 0;
        for (Positions.Range range : q.ranges()) {
            pairs += new Pairs(mask, range, k, steepest(mask, range, k)).ofAll();
        }
        return pairs;
    }

    /**
     * Returns the most keys by which the ends of what queries see can grow from one query to the next; -1 where
     * documents make them leap.
     */
    private static long steepest(Mask mask, Positions.Range q, Positions k) {
        long stride = k.ranges().size() == 1 ? k.ranges().get(0).stride() : 1;
        return mask.hasDocuments() ? -1 : (q.stride() + stride - 1) / stride;
    }

    /**
     * Counts what a range of queries sees. The ends never decrease: where two queries agree, all between them do; and
     * where they are as far apart as they can be, those between them are evenly so. O(log queries) where there are no
     * documents.
     */
    private record Pairs(Mask mask, Positions.Range q, Positions k, long steepest) {
        long ofAll() {
            long last = q.length() - 1;
            long first = Math.max(0, hi(0) - lo(0));
            return last == 0
                    ? first
                    : first + Math.max(0, hi(last) - lo(last)) + between(0, lo(0), hi(0), last, lo(last), hi(last));
        }

        /** Returns the keys of all queries after {@code from} and before {@code to}, given the ends of those two. */
        private long between(long from, long lo, long hi, long to, long nextLo, long nextHi) {
            long count = to - from - 1;
            if (count == 0 || nextHi <= lo) {
                return 0;
            }
            if (even(nextLo - lo, count + 1) && even(nextHi - hi, count + 1) && hi >= lo && nextHi >= nextLo) {
                return count * (hi - lo + nextHi - nextLo) / 2;
            }
            long middle = (from + to) >>> 1;
            long middleLo = lo == nextLo ? lo : lo(middle);
            long middleHi = hi == nextHi ? hi : hi(middle);
            return Math.max(0, middleHi - middleLo)
                    + between(from, lo, hi, middle, middleLo, middleHi)
                    + between(middle, middleLo, middleHi, to, nextLo, nextHi);
        }

        private boolean even(long growth, long steps) {
            return growth == 0 || growth == steps * steepest;
        }

        private long lo(long query) {
            return k.lowerBound(mask.lo(q.start() + query * q.stride()));
        }

        private long hi(long query) {
            return k.lowerBound(mask.hi(q.start() + query * q.stride()));
        }
    }
}
