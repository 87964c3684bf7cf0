package org.flashring.serve;

import java.util.Arrays;

/**
 * Which pages of a rank belong to which row, on the host, and the table on the device that says so. Of a row's pages,
 * numbered from its first key on, each rank has every so many-th.
 */
final class Pages {
    private final CachePlan plan;
    private final int rank;
    private final DeviceInts ints;
    private final long table; // where in ints it begins
    private final int[] free; // a stack: the last ones are taken first
    private int freeCount;
    private final long[] first; // of each row, those of this rank that are not behind the window
    private final long[] end;

    Pages(CachePlan plan, int rank, DeviceInts ints, long table) {
        this.plan = plan;
        this.rank = rank;
        this.ints = ints;
        this.table = table;
        this.free = new int[Math.toIntExact(plan.pages())];
        this.freeCount = free.length;
        Arrays.setAll(free, place -> free.length - 1 - place);
        int rows = Math.toIntExact(plan.shape().batch());
        this.first = new long[rows];
        this.end = new long[rows];
    }

    /** Returns the pages of a row that this rank has where the row holds {@code keys} keys. */
    private long pagesFor(long keys) {
        long all = (keys + plan.pageSize() - 1) / plan.pageSize();
        return all / plan.ranks() + (rank < all % plan.ranks() ? 1 : 0);
    }

    /** Returns how many pages {@code keys} keys of a row lack. */
    long missing(int row, long keys) {
        return Math.max(0, pagesFor(keys) - end[row]);
    }

    int free() {
        return freeCount;
    }

    /** Gives a row the pages that {@code keys} keys need; as many are free. */
    void take(int row, long keys, long stream) {
        long before = end[row];
        long wanted = pagesFor(keys);
        if (wanted <= before) {
            return;
        }
        long start = table + row * plan.pagesOfRow();
        for (long page = before; page < wanted; page++) {
            ints.put(start + page, free[--freeCount]);
        }
        end[row] = wanted;
        ints.upload(start + before, wanted - before, stream);
    }

    /** Takes back the pages of a row that hold none of its keys from {@code firstSeen} on. */
    void leave(int row, long firstSeen) {
        long start = table + row * plan.pagesOfRow();
        while (first[row] < end[row] && (first[row] * plan.ranks() + rank + 1) * plan.pageSize() <= firstSeen) {
            free[freeCount++] = ints.get(start + first[row]++);
        }
    }

    /** Takes back all pages of a row. */
    void release(int row) {
        leave(row, Long.MAX_VALUE);
        first[row] = 0;
        end[row] = 0;
    }
}
