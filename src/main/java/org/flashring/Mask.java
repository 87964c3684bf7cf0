package org.flashring;

import java.util.Arrays;
import java.util.Map;
import org.flashring.internal.Checks;
import org.flashring.internal.Terms;

/**
 * Which keys each query sees, never as a matrix: one interval [{@link #lo}, {@link #hi}) of key positions for each
 * query position, whose ends never decrease. Causal, sliding window, packed documents and prefix compose by
 * intersection and cost O(documents) memory.
 *
 * <pre>
 *     causal      window(2, 0)   documents(0,3,6)   causal, prefix(2)
 *     x . . . .   x . . . .      x x x . . .        x x . . .
 *     x x . . .   x x . . .      x x x . . .        x x . . .
 *     x x x . .   x x x . .      x x x . . .        x x x . .
 *     x x x x .   . x x x .      . . . x x x        x x x x .
 *     x x x x x   . . x x x      . . . x x x        x x x x x
 * </pre>
 *
 * A query that sees no key yields output 0, lse -∞ and zero gradients. Queries outside every document see nothing. All
 * rows of a batch share one mask, unless {@link #packedRows} gives each documents of its own.
 */
public final class Mask {
    private static final long ALL = -1;
    private static final Mask FULL = new Mask(ALL, ALL, null, null, null, null);

    private final long left;
    private final long right;
    private final long[] cuSeqlens;
    private final long[] keyCuSeqlens; // null: those of the queries
    private final long[] prefixLengths;
    private final Mask[] rows; // of the batch; null: all share this one

    private Mask(long left, long right, long[] cuSeqlens, long[] keyCuSeqlens, long[] prefixLengths, Mask[] rows) {
        this.left = left;
        this.right = right;
        this.cuSeqlens = cuSeqlens;
        this.keyCuSeqlens = keyCuSeqlens;
        this.prefixLengths = prefixLengths;
        this.rows = rows;
    }

    /** Returns the mask under which every query sees every key (bidirectional). */
    public static Mask full() {
        return FULL;
    }

    /** Returns the mask under which the query at position q sees the keys at positions ≤ q. */
    public static Mask causal() {
        return FULL.window(ALL, 0);
    }

    /**
     * Returns this mask with a sliding window: the query at q sees keys in [q - left, q + right]. Negative means no
     * bound on that side. A causal window of w keys, the query's own included, is {@code window(w - 1, 0)}.
     */
    public Mask window(long left, long right) {
        Mask[] windows = rows == null
                ? null
                : Arrays.stream(rows).map(row -> row.window(left, right)).toArray(Mask[]::new);
        return new Mask(Math.max(left, ALL), Math.max(right, ALL), cuSeqlens, keyCuSeqlens, prefixLengths, windows);
    }

    /**
     * Returns this mask within packed documents: queries see keys of their own document alone. Document i is positions
     * [cuSeqlens[i], cuSeqlens[i + 1]); documents of no token are allowed.
     *
     * @throws IllegalArgumentException unless cuSeqlens starts at 0 and never decreases, or if a prefix was given
     *     before
     */
    public Mask documents(long... cuSeqlens) {
        checkCuSeqlens("cuSeqlens", cuSeqlens);
        checkNoPrefix("cuSeqlens", cuSeqlens);
        return new Mask(left, right, cuSeqlens.clone(), null, null, null);
    }

    /**
     * Returns this mask between packed documents of queries and packed documents of keys, such as sentences and their
     * sources: queries of document i, [queryCuSeqlens[i], queryCuSeqlens[i + 1]), see keys of document i,
     * [keyCuSeqlens[i], keyCuSeqlens[i + 1]). Windows count from where both end: the last query of a document stands at
     * its last key, as new tokens stand behind a cache of their document's keys.
     *
     * @throws IllegalArgumentException unless there are as many documents of each, both start at 0 and never decrease,
     *     and all tokens fit in 63 bits, or if a prefix was given before
     */
    public Mask documents(long[] queryCuSeqlens, long[] keyCuSeqlens) {
        checkCuSeqlens("queryCuSeqlens", queryCuSeqlens);
        checkCuSeqlens("keyCuSeqlens", keyCuSeqlens);
        int documents = queryCuSeqlens.length - 1;
        Checks.equal("keyCuSeqlens.length", keyCuSeqlens.length, documents + 1, "that of the queries");
        Checks.sum("tokens", queryCuSeqlens[documents], keyCuSeqlens[documents]);
        if (Arrays.equals(queryCuSeqlens, keyCuSeqlens)) {
            return documents(queryCuSeqlens);
        }
        checkNoPrefix("queryCuSeqlens", queryCuSeqlens);
        return new Mask(left, right, queryCuSeqlens.clone(), keyCuSeqlens.clone(), null, null);
    }

    /**
     * Returns this mask within packed documents that differ by row of the batch: cuSeqlens[b] are those of row b, as
     * many as that row has. Each row is a launch of its own.
     *
     * @throws IllegalArgumentException unless there is a row, and each row's offsets start at 0 and never decrease, or
     *     if a prefix was given before
     */
    public Mask packedRows(long[]... cuSeqlens) {
        Checks.notNull("cuSeqlens", cuSeqlens);
        Checks.atLeast("cuSeqlens.length", cuSeqlens.length, 1);
        Mask[] masks = new Mask[cuSeqlens.length];
        for (int row = 0; row < masks.length; row++) {
            checkCuSeqlens("cuSeqlens[" + row + "]", cuSeqlens[row]);
            checkNoPrefix("cuSeqlens[" + row + "]", cuSeqlens[row]);
            masks[row] = new Mask(left, right, cuSeqlens[row].clone(), null, null, null);
        }
        return new Mask(left, right, null, null, null, masks);
    }

    /**
     * Returns this mask within the rows of a padded batch that lie one behind the other: the first lengths[i] tokens of
     * row i see each other alone. So does the padding behind them, and what it yields is to be left out.
     *
     * <p>Tensors over such a batch have batch 1 and lengths.length · rowLength tokens. Each row makes two documents of
     * this mask, tokens and padding, even where one of them is empty.
     *
     * @param rowLength tokens of each row, padding included
     * @param lengths tokens of each row before its padding
     * @throws IllegalArgumentException unless there is a row, 0 ≤ lengths[i] ≤ rowLength, and all tokens fit in 63
     *     bits, or if a prefix was given before
     */
    public Mask paddedRows(long rowLength, long... lengths) {
        Checks.atLeast("rowLength", rowLength, 1);
        Checks.notNull("lengths", lengths);
        Checks.atLeast("lengths.length", lengths.length, 1);
        Checks.product("tokens", rowLength, lengths.length);
        long[] ends = new long[2 * lengths.length + 1];
        for (int row = 0; row < lengths.length; row++) {
            ends[2 * row + 1] = row * rowLength + Checks.between("lengths[" + row + "]", lengths[row], 0, rowLength);
            ends[2 * row + 2] = (row + 1) * rowLength;
        }
        checkNoPrefix("lengths", lengths);
        return new Mask(left, right, ends, null, null, null);
    }

    /**
     * Returns this mask with a prefix that all queries of the document see, as in prefix-LM: the first prefixLengths[i]
     * keys of document i (of the whole sequence when there are no documents) are visible whatever the right bound says.
     *
     * @throws IllegalArgumentException unless there is one length ≥ 0 per document, or if rows have documents of their
     *     own
     */
    public Mask prefix(long... prefixLengths) {
        Checks.notNull("prefixLengths", prefixLengths);
        if (rows != null) {
            throw Checks.broken(
                    "prefixLengths",
                    Arrays.toString(prefixLengths),
                    "not be given where rows have their own documents");
        }
        Checks.equal("prefixLengths.length", prefixLengths.length, documentCount(), "the number of documents");
        for (int i = 0; i < prefixLengths.length; i++) {
            if (prefixLengths[i] < 0) {
                throw Checks.broken("prefixLengths[" + i + "]", prefixLengths[i], "be at least 0");
            }
        }
        return new Mask(left, right, cuSeqlens, keyCuSeqlens, prefixLengths.clone(), null);
    }

    private void checkNoPrefix(String name, long[] value) {
        if (prefixLengths != null) {
            throw Checks.broken(name, Arrays.toString(value), "be given before the prefix lengths");
        }
    }

    static void checkCuSeqlens(String name, long[] cuSeqlens) {
        Checks.notNull(name, cuSeqlens);
        Checks.atLeast(name + ".length", cuSeqlens.length, 2);
        Checks.equal(name + "[0]", cuSeqlens[0], 0, "the start of the first document");
        for (int i = 1; i < cuSeqlens.length; i++) {
            if (cuSeqlens[i] < cuSeqlens[i - 1]) {
                throw Checks.broken(
                        name + "[" + i + "]",
                        cuSeqlens[i],
                        "be at least " + name + "[" + (i - 1) + "] = " + cuSeqlens[i - 1]);
            }
        }
    }

    /** Puts what says which keys a query sees into {@code terms}. */
    public void describe(String name, Map<String, String> terms) {
        terms.put(name, toString());
        if (cuSeqlens != null) {
            terms.put(name + ": cuSeqlens", Terms.list(cuSeqlens));
        }
        if (keyCuSeqlens != null) {
            terms.put(name + ": keyCuSeqlens", Terms.list(keyCuSeqlens));
        }
        for (int row = 0; row < rows(); row++) {
            terms.put(name + ": cuSeqlens of row " + row, Terms.list(rows[row].cuSeqlens));
        }
        if (prefixLengths != null) {
            terms.put(name + ": prefixLengths", Terms.list(prefixLengths));
        }
    }

    /** Returns the number of rows of the batch that have documents of their own; 0 where all share this mask. */
    public int rows() {
        return rows == null ? 0 : rows.length;
    }

    /**
     * Returns the mask of a row of the batch: this one unless rows have documents of their own.
     *
     * @throws IllegalArgumentException if they have, and there is no such row
     */
    public Mask ofRow(int row) {
        if (rows == null) {
            return this;
        }
        Checks.between("row", row, 0, rows.length - 1L);
        return rows[row];
    }

    /** Throws where each row has documents of its own, so that there is no answer for all. */
    private void requireShared() {
        if (rows != null) {
            throw new IllegalStateException("rows have documents of their own; ask ofRow(row) for the mask of one");
        }
    }

    /**
     * Returns the number of documents; 1 when none were given.
     *
     * @throws IllegalStateException if rows have documents of their own
     */
    public int documentCount() {
        requireShared();
        return cuSeqlens == null ? 1 : cuSeqlens.length - 1;
    }

    /** Returns how many keys before itself a query sees, or -1 for all. */
    public long left() {
        return left;
    }

    /** Returns how many keys after itself a query sees, or -1 for all. */
    public long right() {
        return right;
    }

    /** Returns whether documents were given, for all rows alike. */
    public boolean hasDocuments() {
        return cuSeqlens != null;
    }

    /** Returns whether a prefix was given. */
    public boolean hasPrefix() {
        return prefixLengths != null;
    }

    /**
     * Returns a copy of the document offsets, those of the queries, or null when there are no documents.
     *
     * @throws IllegalStateException if rows have documents of their own
     */
    public long[] cuSeqlens() {
        requireShared();
        return cuSeqlens == null ? null : cuSeqlens.clone();
    }

    /** Returns a copy of the offsets of the documents of keys, or null when those of the queries hold for keys, too. */
    public long[] keyCuSeqlens() {
        return keyCuSeqlens == null ? null : keyCuSeqlens.clone();
    }

    /** Returns a copy of the prefix lengths, or null when there is no prefix. */
    public long[] prefixLengths() {
        return prefixLengths == null ? null : prefixLengths.clone();
    }

    /**
     * Returns the first key position that the query at {@code query} sees; it sees none when {@code lo >= hi}.
     *
     * @throws IllegalStateException if rows have documents of their own
     */
    public long lo(long query) {
        int document = documentOf(query);
        if (document < 0) {
            return keysEnd();
        }
        long start = start(document);
        long at = besideKeys(query, document);
        return left < 0 || left >= at - start ? start : at - left;
    }

    /**
     * Returns the key position after the last one that the query at {@code query} sees.
     *
     * @throws IllegalStateException if rows have documents of their own
     */
    public long hi(long query) {
        int document = documentOf(query);
        if (document < 0) {
            return keysEnd();
        }
        long end = end(document);
        long at = besideKeys(query, document);
        long hi = right < 0 || at > Long.MAX_VALUE - right - 1
                ? end
                : Math.max(start(document), Math.min(end, at + right + 1));
        if (prefixLengths == null) {
            return hi;
        }
        long prefix = prefixLengths[document];
        return Math.max(hi, prefix > end - start(document) ? end : start(document) + prefix);
    }

    /** Returns the position of the key that a query stands at: as far from the end of its document. */
    private long besideKeys(long query, int document) {
        return keyCuSeqlens == null ? query : query + (keyCuSeqlens[document + 1] - cuSeqlens[document + 1]);
    }

    private long start(int document) {
        return cuSeqlens == null ? 0 : keyOffsets()[document];
    }

    private long end(int document) {
        return cuSeqlens == null ? Long.MAX_VALUE : keyOffsets()[document + 1];
    }

    private long keysEnd() {
        return keyOffsets()[cuSeqlens.length - 1];
    }

    private long[] keyOffsets() {
        return keyCuSeqlens == null ? cuSeqlens : keyCuSeqlens;
    }

    /** Returns the document that holds {@code query}, or -1 when none does. */
    private int documentOf(long query) {
        requireShared();
        if (cuSeqlens == null) {
            return 0;
        }
        int low = 0; // the last offset that is not above the query
        int high = cuSeqlens.length - 1;
        while (low < high) {
            int middle = (low + high + 1) >>> 1;
            if (cuSeqlens[middle] <= query) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return low == cuSeqlens.length - 1 ? -1 : low;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Mask that
                && left == that.left
                && right == that.right
                && Arrays.equals(cuSeqlens, that.cuSeqlens)
                && Arrays.equals(keyCuSeqlens, that.keyCuSeqlens)
                && Arrays.equals(prefixLengths, that.prefixLengths)
                && Arrays.equals(rows, that.rows);
    }

    @Override
    public int hashCode() {
        return Arrays.deepHashCode(new Object[] {left, right, cuSeqlens, keyCuSeqlens, prefixLengths, rows});
    }

    @Override
    public String toString() {
        StringBuilder text = new StringBuilder(right == 0 ? "causal" : right < 0 ? "full" : "right " + right);
        if (left >= 0) {
            text.append(", left ").append(left);
        }
        if (cuSeqlens != null) {
            text.append(", ").append(documentCount()).append(" documents");
            text.append(keyCuSeqlens == null ? "" : " of queries and of keys");
        }
        if (rows != null) {
            text.append(", ")
                    .append(rows.length)
                    .append(rows.length == 1 ? " row" : " rows")
                    .append(" of documents");
        }
        return text.append(prefixLengths == null ? "" : ", prefix").toString();
    }
}
