package org.flashring.internal;

import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** Names and values that must be the same on all ranks: how long lists are written, and how two ranks' are compared. */
public final class Terms {
    private static final int MOST_LISTED = 128;
    private static final int PARTS = 16;
    private static final long MIX = 0x9E3779B97F4A7C15L; // odd, its bits well spread
    private static final Pattern LIST = Pattern.compile("(\\d{1,9}) by (\\d{1,9}): (.*)");
    private static final String COMMA = ", ";

    private Terms() {}

    /**
     * Returns a list in few words: its length, the numbers to an entry, and the entries. Long lists have
     * {@value #PARTS} entries, each with its ends and a digest, so that a million numbers take little room and
     * {@link #difference} can still tell where two differ.
     */
    public static String list(long[] values) {
        int part = values.length <= MOST_LISTED ? 1 : (values.length + PARTS - 1) / PARTS;
        StringBuilder text = new StringBuilder(8 * Math.min(values.length, MOST_LISTED) + 32);
        text.append(values.length).append(" by ").append(part).append(": ");
        for (int from = 0; from < values.length; from += part) {
            int to = Math.min(values.length, from + part);
            text.append(from == 0 ? "" : COMMA).append(values[from]);
            if (part > 1) {
                text.append(" to ")
                        .append(values[to - 1])
                        .append(" #")
                        .append(Long.toHexString(digest(values, from, to)));
            }
        }
        return text.toString();
    }

    /** Returns a short list in the same words, a number to an entry. */
    public static String list(List<Double> values) {
        return values.size() + " by 1: " + values.stream().map(String::valueOf).collect(Collectors.joining(COMMA));
    }

    /** Returns 64 bits that change with every number: unlike a sum of multiples, in which two changes may cancel. */
    private static long digest(long[] values, int from, int to) {
        long digest = (long) to - from;
        for (int i = from; i < to; i++) {
            digest = (digest ^ values[i]) * MIX;
            digest ^= digest >>> 29;
        }
        return digest;
    }

    /**
     * Returns how {@code rank}, which gives {@code other}, differs from rank 0, which gives {@code first}; null if it
     * does not.
     */
    public static String difference(Map<String, String> first, int rank, Map<String, String> other) {
        if (first == other) {
            return null;
        }
        for (Map.Entry<String, String> term : first.entrySet()) {
            String value = other.get(term.getKey());
            if (!Objects.equals(value, term.getValue())) {
                return value == null
                        ? sentence(term.getKey(), rank, null, term.getValue())
                        : difference(term.getKey(), rank, value, term.getValue());
            }
        }
        for (Map.Entry<String, String> term : other.entrySet()) {
            if (!first.containsKey(term.getKey())) {
                return sentence(term.getKey(), rank, term.getValue(), null);
            }
        }
        return null;
    }

    /** Returns where two values differ: of lists of one length, in which entry. */
    private static String difference(String name, int rank, String value, String expected) {
        Matcher mine = LIST.matcher(value);
        Matcher first = LIST.matcher(expected);
        if (!mine.matches()
                || !first.matches()
                || !mine.group(2).equals(first.group(2)) && mine.group(1).equals(first.group(1))) {
            return sentence(name, rank, value, expected);
        }
        if (!mine.group(1).equals(first.group(1))) {
            return sentence(name + ".length", rank, mine.group(1), first.group(1));
        }
        String[] entries = mine.group(3).split(COMMA, -1);
        String[] expectedEntries = first.group(3).split(COMMA, -1);
        if (entries.length != expectedEntries.length) { // not written by list()
            return sentence(name, rank, value, expected);
        }
        int entry = 0;
        while (entries[entry].equals(expectedEntries[entry])) {
            entry++;
        }
        int part = Integer.parseInt(mine.group(2));
        int from = entry * part;
        int last = Math.min(Integer.parseInt(mine.group(1)), from + part) - 1;
        return sentence(
                name + "[" + from + (last == from ? "" : ".." + last) + "]",
                rank,
                entries[entry],
                expectedEntries[entry]);
    }

    /**
     * Returns the sentence that {@code name} has one value on {@code rank} and another on rank 0; null where it is not
     * given.
     */
    public static String sentence(String name, int rank, String value, String first) {
        return name + " is " + (value == null ? "not given" : value) + " on rank " + rank + ", "
                + (first == null ? "not given" : first)
                + " on rank 0";
    }
}
