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
 * rows of a batch share one mask; rows with documents of their own are one packed row of batch 1.
 */
public final class Mask {
    private static final long ALL = -1;
    private static final Mask FULL = new Mask(ALL, ALL, null, null);

    private final long left;
    private final long right;
    private final long[] cuSeqlens;
    private final long[] prefixLengths;

    private Mask(long left, long right, long[] cuSeqlens, long[] prefixLengths) {
        this.left = left;
        this.right = right;
        this.cuSeqlens = cuSeqlens;
        this.prefixLengths = prefixLengths;
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
        return new Mask(Math.max(left, ALL), Math.max(right, ALL), cuSeqlens, prefixLengths);
    }

    /**
     * Returns this mask within packed documents: queries see keys of their own document alone. Document i is positions
     * [cuSeqlens[i], cuSeqlens[i + 1]); documents of no token are allowed.
     *
     * @throws IllegalArgumentException unless cuSeqlens starts at 0 and never decreases, or if a prefix was given
     *     before
     */
    public Mask documents(long... cuSeqlens) {
        checkCuSeqlens(cuSeqlens);
        checkNoPrefix("cuSeqlens", cuSeqlens);
        return new Mask(left, right, cuSeqlens.clone(), null);
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
        return new Mask(left, right, ends, null);
    }

    /**
     * Returns this mask with a prefix that all queries of the document see, as in prefix-LM: the first prefixLengths[i]
     * keys of document i (of the whole sequence when there are no documents) are visible whatever the right bound says.
     *
     * @throws IllegalArgumentException unless there is one length ≥ 0 per document
     */
    public Mask prefix(long... prefixLengths) {
        Checks.notNull("prefixLengths", prefixLengths);
        Checks.equal("prefixLengths.length", prefixLengths.length, documentCount(), "the number of documents");
        for (int i = 0; i < prefixLengths.length; i++) {
            if (prefixLengths[i] < 0) {
                throw Checks.broken("prefixLengths[" + i + "]", prefixLengths[i], "be at least 0");
            }
        }
        return new Mask(left, right, cuSeqlens, prefixLengths.clone());
    }

    private void checkNoPrefix(String name, long[] value) {
        if (prefixLengths != null) {
            throw Checks.broken(name, Arrays.toString(value), "be given before the prefix lengths");
        }
    }

    static void checkCuSeqlens(long[] cuSeqlens) {
        Checks.notNull("cuSeqlens", cuSeqlens);
        Checks.atLeast("cuSeqlens.length", cuSeqlens.length, 2);
        Checks.equal("cuSeqlens[0]", cuSeqlens[0], 0, "the start of the first document");
        for (int i = 1; i < cuSeqlens.length; i++) {
            if (cuSeqlens[i] < cuSeqlens[i - 1]) {
                throw Checks.broken(
                        "cuSeqlens[" + i + "]",
                        cuSeqlens[i],
                        "be at least cuSeqlens[" + (i - 1) + "] = " + cuSeqlens[i - 1]);
            }
        }
    }

    /** Puts what says which keys a query sees into {@code terms}. */
    public void describe(String name, Map<String, String> terms) {
        terms.put(name, toString());
        if (cuSeqlens != null) {
            terms.put(name + ": cuSeqlens", Terms.list(cuSeqlens));
        }
        if (prefixLengths != null) {
            terms.put(name + ": prefixLengths", Terms.list(prefixLengths));
        }
    }

    /** Returns the number of documents; 1 when none were given. */
    public int documentCount() {
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

    /** Returns a copy of the document offsets, or null when there are no documents. */
    public long[] cuSeqlens() {
        return cuSeqlens == null ? null : cuSeqlens.clone();
    }

    /** Returns a copy of the prefix lengths, or null when there is no prefix. */
    public long[] prefixLengths() {
        return prefixLengths == null ? null : prefixLengths.clone();
    }

    /** Returns the first key position that the query at {@code query} sees; it sees none when {@code lo >= hi}. */
    public long lo(long query) {
        int document = documentOf(query);
        if (document < 0) {
            return cuSeqlens[cuSeqlens.length - 1];
        }
        return left < 0 ? start(document) : Math.max(start(document), query - left);
    }

    /** Returns the key position after the last one that the query at {@code query} sees. */
    public long hi(long query) {
        int document = documentOf(query);
        if (document < 0) {
            return cuSeqlens[cuSeqlens.length - 1];
        }
        long end = end(document);
        long hi = right < 0 || query > Long.MAX_VALUE - right - 1 ? end : Math.min(end, query + right + 1);
        if (prefixLengths == null) {
            return hi;
        }
        long prefix = prefixLengths[document];
        return Math.max(hi, prefix > end - start(document) ? end : start(document) + prefix);
    }

    private long start(int document) {
        return cuSeqlens == null ? 0 : cuSeqlens[document];
    }

    private long end(int document) {
        return cuSeqlens == null ? Long.MAX_VALUE : cuSeqlens[document + 1];
    }

    /** Returns the document that holds {@code query}, or -1 when none does. */
    private int documentOf(long query) {
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
                && Arrays.equals(prefixLengths, that.prefixLengths);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(new Object[] {left, right, Arrays.hashCode(cuSeqlens), Arrays.hashCode(prefixLengths)});
    }

    @Override
    public String toString() {
        StringBuilder text = new StringBuilder(right == 0 ? "causal" : right < 0 ? "full" : "right " + right);
        if (left >= 0) {
            text.append(", left ").append(left);
        }
        if (cuSeqlens != null) {
            text.append(", ").append(documentCount()).append(" documents");
        }
        return text.append(prefixLengths == null ? "" : ", prefix").toString();
    }
}
