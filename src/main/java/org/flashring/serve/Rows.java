package org.flashring.serve;

import org.flashring.device.Device;
import org.flashring.device.Memory;
import org.flashring.internal.Checks;

/**
 * How many keys each row holds, how many new tokens it gets, and its pages: on the device, where kernels read them, and
 * on the host, which makes room. A step of many tokens has parts, as many tokens as kernels take at a time; there are
 * lengths before each and behind the last one.
 */
final class Rows implements AutoCloseable {
    private final CachePlan plan;
    private final int rows;
    private final long parts; // of the longest step
    private final DeviceInts ints; // lengths before each part and behind the last, each part's tokens, the pages
    private final Pages pages; // null where rows lie in one piece
    private final long[] held; // keys of each row before this step
    private final int[] counts; // new tokens of each row
    private boolean ragged; // counts count
    private long capturedTokens; // of the step that was captured last in a CUDA graph; 0 if none was
    private boolean capturedRagged; // it reads the device's counts

    Rows(CachePlan plan, int rank, Device device) {
        this.plan = plan;
        this.rows = Math.toIntExact(plan.shape().batch());
        this.parts = plan.parts(plan.newTokens());
        this.held = new long[rows];
        this.counts = new int[rows];
        this.ints = new DeviceInts(device, tableStart(), rows * plan.pagesOfRow());
        this.pages = plan.pageSize() == 0 ? null : new Pages(plan, rank, ints, tableStart());
    }

    private long countsStart() {
        return rows * (parts + 1);
    }

    private long tableStart() {
        return countsStart() + rows * parts;
    }

    int count() {
        return rows;
    }

    /** Returns the address of the lengths before a part, which are those behind the part before. */
    long lengths(long part) {
        return ints.address(part * rows);
    }

    /** Returns the address of the new tokens of each row in a part; 0 where all rows have as many as the part. */
    long newTokens(long part) {
        return ragged ? ints.address(countsStart() + part * rows) : 0;
    }

    /** Returns the address of the table of pages; 0 where there are none. */
    long pageTable() {
        return pages == null ? 0 : ints.address(tableStart());
    }

    /** Returns the lengths of all rows on the device. */
    Memory lengths() {
        return ints.memory(0, rows);
    }

    long length(int row) {
        return held[row];
    }

    int freePages() {
        return pages == null ? 0 : pages.free();
    }

    /** Gives each row a number of new tokens of its own, or with none of them all as many as there are. */
    void newLengths(int[] ofRow, long stream) {
        ints.requireUploads(stream);
        ragged = ofRow.length > 0;
        if (!ragged) {
            return;
        }
        System.arraycopy(ofRow, 0, counts, 0, rows);
        for (long part = 0; part < parts; part++) {
            for (int row = 0; row < rows; row++) {
                long rest = counts[row] - part * plan.tokensAtOnce();
                ints.put(countsStart() + part * rows + row, (int) Math.max(0, Math.min(rest, plan.tokensAtOnce())));
            }
        }
        ints.upload(countsStart(), rows * parts, stream);
    }

    private long newTokens(int row, long tokens) {
        return ragged ? counts[row] : tokens;
    }

    /**
     * Gives all rows the pages that {@code tokens} new tokens need.
     *
     * @throws IllegalArgumentException if a row has no room, or wants more than {@code tokens}
     * @throws IllegalStateException if there are not enough free pages; nothing has then changed
     */
    void makeRoom(long tokens, long stream) {
        boolean lacking = false;
        if (pages != null) {
            pages.wantNothing();
        }
        for (int row = 0; row < rows; row++) {
            long more = newTokens(row, tokens);
            if (more > tokens) {
                throw Checks.broken("k.length", tokens, "be at least " + more + ", the new length of row " + row);
            }
            if (held[row] + more > plan.capacity()) {
                throw Checks.broken(
                        "length of row " + row,
                        held[row] + " + " + more,
                        "be at most " + plan.capacity() + ", the plan's capacity");
            }
            lacking |= pages != null && pages.want(row, held[row] + more);
        }
        if (lacking) {
            ints.requireUploads(stream);
            pages.requireFree();
            for (int row = 0; row < rows; row++) {
                pages.take(row, held[row] + newTokens(row, tokens), stream);
            }
        }
    }

    /** Gives a row the pages of its first {@code keys} keys. */
    void reserve(int row, long keys, long stream) {
        if (pages == null) {
            return;
        }
        pages.wantNothing();
        if (pages.want(row, keys)) {
            ints.requireUploads(stream);
            pages.requireFree();
            pages.take(row, keys, stream);
        }
    }

    /** Counts a step that has been given to a stream; one that is captured is counted by {@link #replayed}. */
    void advance(long tokens, long stream) {
        if (ints.isCapturing(stream)) {
            captured(tokens);
        } else {
            advance(tokens);
        }
    }

    /** Notes a step that has gone into a CUDA graph, for {@link #replayed}. */
    void captured(long tokens) {
        capturedTokens = tokens;
        capturedRagged = ragged;
    }

    /** Counts a step's tokens as held, and takes back pages that no later query sees. */
    void advance(long tokens) {
        for (int row = 0; row < rows; row++) {
            grow(row, newTokens(row, tokens));
        }
    }

    /**
     * Counts what the captured step has brought to the rows on the device.
     *
     * @throws IllegalStateException if no step was captured; or, all having been counted, if it left out tokens that
     *     had no room, or a row is beyond the plan's capacity
     */
    void replayed() {
        if (capturedTokens == 0) {
            throw new IllegalStateException("no step has been captured in a CUDA graph, so none can be replayed");
        }
        String broken = null;
        for (int row = 0; row < rows; row++) {
            long wanted = capturedRagged ? counts[row] : capturedTokens;
            long room = (pages == null ? plan.capacity() : pages.room(row)) - held[row];
            long brought = Math.min(Math.min(wanted, capturedTokens), room);
            grow(row, brought);
            if (broken == null && (brought < wanted || held[row] > plan.capacity())) {
                broken = "row " + row + " got " + brought + " of " + wanted + " new tokens in a replay, and holds "
                        + held[row] + " keys of " + plan.capacity() + ": reserve its pages before, or let it rest";
            }
        }
        if (broken != null) {
            throw new IllegalStateException(broken);
        }
    }

    private void grow(int row, long tokens) {
        held[row] += tokens;
        if (pages != null && plan.window() > 0) {
            pages.leave(row, held[row] - plan.window() + 1);
        }
    }

    /** Empties a row. */
    void release(int row, long stream) {
        ints.requireUploads(stream);
        held[row] = 0;
        ints.put(row, 0);
        ints.upload(row, 1, stream);
        if (pages != null) {
            pages.release(row, stream);
        }
    }

    @Override
    public void close() {
        ints.close();
    }
}
