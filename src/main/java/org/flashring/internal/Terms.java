package org.flashring.internal;

import java.util.Map;
import java.util.Objects;

/** Names and values that must be the same on all ranks: how long lists are put into them, and how two ranks' are compared. */
public final class Terms {
    private static final int PARTS = 16;
    private static final int LISTED = 8; // numbers of a part that are worth reading
    private static final long MIX = 0x9E3779B97F4A7C15L; // odd, its bits well spread

    private Terms() {}

    /**
     * Puts a list into {@code terms} as at most {@value #PARTS} parts, each by its numbers or, where they are many, by the ends and
     * a digest. So a difference is named by its place, and a million numbers take no more room than twenty.
     */
    public static void put(Map<String, String> terms, String name, long[] values) {
        int part = Math.max(1, (values.length + PARTS - 1) / PARTS);
        for (int from = 0; from < values.length; from += part) {
            int to = Math.min(values.length, from + part);
            terms.put(name + (to - from == 1 ? "[" + from + "]" : "[" + from + ".." + (to - 1) + "]"), describe(values, from, to));
        }
    }

    private static String describe(long[] values, int from, int to) {
        if (to - from > LISTED) {
            return values[from] + " to " + values[to - 1] + " #" + Long.toHexString(digest(values, from, to));
        }
        StringBuilder text = new StringBuilder();
        for (int i = from; i < to; i++) {
            text.append(i == from ? "" : ", ").append(values[i]);
        }
        return text.toString();
    }

    /** Returns 64 bits that change with every number: unlike a sum of multiples, in which two changes may cancel. */
    private static long digest(long[] values, int from, int to) {
        long digest = to - from;
        for (int i = from; i < to; i++) {
            digest = (digest ^ values[i]) * MIX;
            digest ^= digest >>> 29;
        }
        return digest;
    }

    /** Returns how {@code rank}, which gives {@code other}, differs from rank 0, which gives {@code first}; null if it does not. */
    public static String difference(Map<String, String> first, int rank, Map<String, String> other) {
        if (first == other) {
            return null;
        }
        for (Map.Entry<String, String> term : first.entrySet()) {
            String value = other.get(term.getKey());
            if (!Objects.equals(value, term.getValue())) {
                return sentence(term.getKey(), rank, value, term.getValue());
            }
        }
        for (Map.Entry<String, String> term : other.entrySet()) {
            if (!first.containsKey(term.getKey())) {
                return sentence(term.getKey(), rank, term.getValue(), null);
            }
        }
        return null;
    }

    /** Returns the sentence that {@code name} has one value on {@code rank} and another on rank 0; null where it is not given. */
    public static String sentence(String name, int rank, String value, String first) {
        return name + " is " + (value == null ? "not given" : value) + " on rank " + rank + ", " + (first == null ? "not given" : first)
                + " on rank 0";
    }
}
