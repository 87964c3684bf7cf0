package org.flashring.support;

import java.util.Arrays;
import org.flashring.Mask;

/**
 * Which query sees which key, decided pair by pair. It is the tests' own statement of the rule and shares nothing with
 * {@link Mask} but the parameters. Null arrays stand for no documents and no prefix.
 */
public record MaskRule(long left, long right, long[] cuSeqlens, long[] prefixLengths) {
    public static final MaskRule FULL = new MaskRule(-1, -1, null, null);
    public static final MaskRule CAUSAL = new MaskRule(-1, 0, null, null);

    public MaskRule window(long leftKeys, long rightKeys) {
        return new MaskRule(leftKeys, rightKeys, cuSeqlens, prefixLengths);
    }

    public MaskRule documents(long... offsets) {
        return new MaskRule(left, right, offsets, null);
    }

    public MaskRule prefix(long... lengths) {
        return new MaskRule(left, right, cuSeqlens, lengths);
    }

    /** Returns whether the query at {@code q} sees the key at {@code k}. */
    public boolean sees(long q, long k) {
        int document = documentOf(q);
        if (document < 0 || documentOf(k) != document) {
            return false;
        }
        if (left >= 0 && q - k > left) {
            return false;
        }
        long start = cuSeqlens == null ? 0 : cuSeqlens[document];
        return right < 0 || k - q <= right || prefixLengths != null && k - start < prefixLengths[document];
    }

    private int documentOf(long token) {
        if (cuSeqlens == null) {
            return 0;
        }
        for (int i = 0; i + 1 < cuSeqlens.length; i++) {
            if (cuSeqlens[i] <= token && token < cuSeqlens[i + 1]) {
                return i;
            }
        }
        return -1;
    }

    /** Returns [queries][keys], true where the query sees the key. */
    public boolean[][] matrix(int queries, int keys) {
        boolean[][] sees = new boolean[queries][keys];
        for (int q = 0; q < queries; q++) {
            for (int k = 0; k < keys; k++) {
                sees[q][k] = sees(q, k);
            }
        }
        return sees;
    }

    /** Returns the library's mask of the same parameters. */
    public Mask mask() {
        Mask mask = Mask.full().window(left, right);
        mask = cuSeqlens == null ? mask : mask.documents(cuSeqlens);
        return prefixLengths == null ? mask : mask.prefix(prefixLengths);
    }

    @Override
    public String toString() {
        return "left " + left + " right " + right
                + (cuSeqlens == null ? "" : " documents " + Arrays.toString(cuSeqlens))
                + (prefixLengths == null ? "" : " prefix " + Arrays.toString(prefixLengths));
    }
}
