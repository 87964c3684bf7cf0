package org.flashring.serve;

import java.util.Arrays;

/**
 * Which pages of a rank belong to which row, on the host, and the table on the device that says so: an entry that names
 * no page is -1, which kernels do not write to. A row's pages are numbered from its first key on; each rank has every
 * so many-th. What ranks have is counted for all of them, as the deal is known, so that they refuse alike.
 */
final class Pages {
    private final CachePlan plan;
    private final int rank;
    private final DeviceInts ints;
    private final long table; // where in ints it begins
    private final int[] free; // a stack of freeOf[rank] pages: the last ones are taken first
    private final long[] freeOf; // pages of each rank that no row has
    private final long[] wanted; // pages of each rank that rows lack
    private final long[] first; // of each row, the first page of all ranks' that is not behind the window
    private final long[] end;

    Pages(CachePlan plan, int rank, DeviceInts ints, long table) {
        this.plan = plan;
        this.rank = rank;
        this.ints = ints;
        this.table = table;
        this.free = new int[Math.toIntExact(plan.pages())];
        Arrays.setAll(free, place -> free.length - 1 - place);
        this.freeOf = new long[plan.ranks()];
        Arrays.fill(freeOf, free.length);
        this.wanted = new long[plan.ranks()];
        int rows = Math.toIntExact(plan.shape().batch());
        this.first = new long[rows];
        this.end = new long[rows];
    }

    /** Returns the pages of all ranks that {@code keys} keys of a row take. */
    private long pagesFor(long keys) {
        return (keys + plan.pageSize() - 1) / plan.pageSize();
    }

    /** Returns how many of the first {@code pages} pages of a row a rank has. */
    private long share(long pages, int ofRank) {
        return pages / plan.ranks() + (ofRank < pages % plan.ranks() ? 1 : 0);
    }

    private long entry(int row) {
        return table + row * plan.pagesOfRow();
    }

    /** Returns the pages that no row has, of the rank that has the fewest. */
    int free() {
        long fewest = free.length;
        for (long ofRank : freeOf) {
            fewest = Math.min(fewest, ofRank);
        }
        return (int) fewest;
    }

    /** Returns the keys that the pages of a row have room for. */
    long room(int row) {
        return end[row] * plan.pageSize();
    }

    /** Forgets what rows want. */
    void wantNothing() {
        Arrays.fill(wanted, 0);
    }

    /** Counts what {@code keys} keys of a row lack. Returns if that is any page of any rank. */
    boolean want(int row, long keys) {
        long pages = pagesFor(keys);
        if (pages <= end[row]) {
            return false;
        }
        for (int r = 0; r < wanted.length; r++) {
            wanted[r] += share(pages, r) - share(end[row], r);
        }
        return true;
    }

    /** Throws if a rank has not as many free pages as rows want. */
    void requireFree() {
        for (int r = 0; r < wanted.length; r++) {
            if (wanted[r] > freeOf[r]) {
                throw new IllegalStateException(
                        (wanted.length == 1 ? "the cache" : "rank " + r + " of the cache") + " has " + freeOf[r]
                                + " free pages of " + plan.pages() + ", and " + wanted[r]
                                + " more are needed: release a row, or plan more pages");
            }
        }
    }

    /** Gives a row the pages that {@code keys} keys need; as many are free. */
    void take(int row, long keys, long stream) {
        long pages = pagesFor(keys);
        if (pages <= end[row]) {
            return;
        }
        long from = share(end[row], rank);
        long to = share(pages, rank);
        int top = (int) freeOf[rank];
        for (long page = from; page < to; page++) {
            ints.put(entry(row) + page, free[--top]);
        }
        for (int r = 0; r < freeOf.length; r++) {
            freeOf[r] -= share(pages, r) - share(end[row], r);
        }
        end[row] = pages;
        ints.upload(entry(row) + from, to - from, stream);
    }

    /**
     * Takes back the pages of a row that hold none of its keys from {@code firstSeen} on. The device learns of it when
     * the row is released: before that it neither reads their entries nor writes to their keys.
     */
    void leave(int row, long firstSeen) {
        long behind = Math.min(end[row], Math.max(firstSeen, 0) / plan.pageSize());
        if (behind <= first[row]) {
            return;
        }
        int top = (int) freeOf[rank];
        for (long page = share(first[row], rank); page < share(behind, rank); page++) {
            free[top++] = ints.get(entry(row) + page);
            ints.put(entry(row) + page, -1);
        }
        for (int r = 0; r < freeOf.length; r++) {
            freeOf[r] += share(behind, r) - share(first[row], r);
        }
        first[row] = behind;
    }

    /** Takes back all pages of a row: what a captured step still brings it goes nowhere. */
    void release(int row, long stream) {
        leave(row, Long.MAX_VALUE);
        ints.upload(entry(row), share(end[row], rank), stream);
        first[row] = 0;
        end[row] = 0;
    }
}
