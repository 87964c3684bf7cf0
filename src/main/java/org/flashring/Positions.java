package org.flashring;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.flashring.internal.Checks;

/**
 * The global position of every token that one rank holds: a list of ranges, strictly ascending as a whole, so that an
 * interval of global positions is an interval of local indices. Costs O(ranges) memory, whatever the length.
 */
public final class Positions {
    /** Positions {@code start}, {@code start + stride}, …, {@code length} of them. */
    public record Range(long start, long length, long stride) {
        /**
         * @throws IllegalArgumentException unless start ≥ 0, length ≥ 1, stride ≥ 1 and the last position fits in 63
         *     bits
         */
        public Range {
            Checks.atLeast("start", start, 0);
            Checks.atLeast("length", length, 1);
            Checks.atLeast("stride", stride, 1);
            Checks.sum("last position", start, Checks.product("extent", length - 1, stride));
        }

        /** Returns the last position of the range. */
        public long last() {
            return start + (length - 1) * stride;
        }
    }

    private final List<Range> ranges;
    private final long[] offsets; // local index of each range's first token; one more for the end

    private Positions(List<Range> ranges) {
        this.ranges = List.copyOf(ranges);
        this.offsets = new long[ranges.size() + 1];
        for (int i = 0; i < ranges.size(); i++) {
            Range range = ranges.get(i);
            if (i > 0 && range.start() <= ranges.get(i - 1).last()) {
                throw Checks.broken(
                        "ranges[" + i + "].start",
                        range.start(),
                        "be above the previous range's last position "
                                + ranges.get(i - 1).last());
            }
            offsets[i + 1] = Checks.sum("length", offsets[i], range.length());
        }
    }

    /**
     * Returns the positions of the given ranges, one after the other.
     *
     * @throws IllegalArgumentException if positions do not ascend strictly
     */
    public static Positions of(List<Range> ranges) {
        Checks.notNull("ranges", ranges);
        List<Range> merged = new ArrayList<>();
        for (Range next : ranges) {
            Checks.notNull("ranges element", next);
            Range last = merged.isEmpty() ? null : merged.get(merged.size() - 1);
            if (last != null && last.stride() == 1 && next.stride() == 1 && last.last() + 1 == next.start()) {
                merged.set(merged.size() - 1, new Range(last.start(), last.length() + next.length(), 1));
            } else {
                merged.add(next);
            }
        }
        return new Positions(merged);
    }

    /** Returns positions [{@code start}, {@code start + length}); none when {@code length} is 0. */
    public static Positions contiguous(long start, long length) {
        Checks.atLeast("start", start, 0);
        Checks.atLeast("length", length, 0);
        return length == 0 ? of(List.of()) : of(List.of(new Range(start, length, 1)));
    }

    Positions movedBy(long distance) {
        return new Positions(ranges.stream()
                .map(range -> new Range(range.start() + distance, range.length(), range.stride()))
                .toList());
    }

    /** Returns the ranges, ascending. */
    public List<Range> ranges() {
        return ranges;
    }

    /** Returns start, length and stride of each range, one range after the other. */
    public long[] table() {
        long[] table = new long[3 * ranges.size()];
        int i = 0;
        for (Range range : ranges) {
            table[i++] = range.start();
            table[i++] = range.length();
            table[i++] = range.stride();
        }
        return table;
    }

    /** Returns the number of tokens. */
    public long length() {
        return offsets[ranges.size()];
    }

    /**
     * Returns the global position of the token with local index {@code local}.
     *
     * @throws IllegalArgumentException unless 0 ≤ local &lt; length()
     */
    public long position(long local) {
        Checks.between("local", local, 0, length() - 1);
        int found = Arrays.binarySearch(offsets, local);
        int i = found >= 0 ? found : -found - 2;
        return ranges.get(i).start() + (local - offsets[i]) * ranges.get(i).stride();
    }

    /** Returns how many tokens lie before global position {@code position}: the local index where it is or would be. */
    public long lowerBound(long position) {
        int low = 0;
        int high = ranges.size();
        while (low < high) { // first range that ends at or after the position
            int middle = (low + high) >>> 1;
            if (ranges.get(middle).last() < position) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (low == ranges.size()) {
            return length();
        }
        Range range = ranges.get(low);
        long within = position <= range.start() ? 0 : (position - range.start() + range.stride() - 1) / range.stride();
        return offsets[low] + within;
    }

    /** Returns whether {@code position} is among the positions. */
    public boolean contains(long position) {
        long local = lowerBound(position);
        return local < length() && position(local) == position;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Positions that && ranges.equals(that.ranges);
    }

    @Override
    public int hashCode() {
        return ranges.hashCode();
    }

    @Override
    public String toString() {
        StringBuilder text = new StringBuilder("[");
        for (Range range : ranges) {
            text.append(text.length() > 1 ? ", " : "")
                    .append(range.start())
                    .append("..")
                    .append(range.last());
            if (range.stride() > 1) {
                text.append(" by ").append(range.stride());
            }
        }
        return text.append(']').toString();
    }
}
