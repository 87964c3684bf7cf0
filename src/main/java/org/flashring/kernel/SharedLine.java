package org.flashring.kernel;

import java.util.ArrayList;
import java.util.List;
import org.flashring.Mask;
import org.flashring.Positions;

/**
 * The one line of positions that the native step has for queries and keys. Where their documents differ in length, each
 * document gets as much of the line as the longer of its two sides, and both sides end where it ends:
 *
 * <pre>
 *   queries  0 1 2 | 3          documents of 3 and 1
 *   keys     0 | 1 2 3          documents of 1 and 3
 *   line     0 1 2 | 3 4 5      query 3 stands at 5, key 0 at 2
 * </pre>
 *
 * The order of the tokens on each side stays, so that local indices do, too.
 */
final class SharedLine {
    private final long[] queryOffsets; // null: positions are the line's already
    private final long[] keyOffsets;
    private final long[] line; // where each document begins, and where the last one ends
    private final Mask mask;

    SharedLine(Mask mask) {
        this.mask = mask;
        this.keyOffsets = mask.keyCuSeqlens();
        this.queryOffsets = keyOffsets == null ? null : mask.cuSeqlens();
        this.line = keyOffsets == null ? null : new long[keyOffsets.length];
        for (int i = 1; line != null && i < line.length; i++) {
            line[i] = line[i - 1] + Math.max(length(queryOffsets, i - 1), length(keyOffsets, i - 1));
        }
    }

    private static long length(long[] offsets, int document) {
        return offsets[document + 1] - offsets[document];
    }

    Positions queries(Positions positions) {
        return line == null ? positions : moved(positions, queryOffsets);
    }

    Positions keys(Positions positions) {
        return line == null ? positions : moved(positions, keyOffsets);
    }

    /** Returns the offsets of the documents on the line, or null where there are none. */
    long[] cuSeqlens() {
        return line == null ? mask.cuSeqlens() : line.clone();
    }

    /** Returns how much of each document on the line its prefix takes, or null where there are none. */
    long[] prefixLengths() {
        long[] prefixes = mask.prefixLengths();
        for (int i = 0; line != null && prefixes != null && i < prefixes.length; i++) {
            long keys = length(keyOffsets, i);
            prefixes[i] = prefixes[i] == 0 ? 0 : length(line, i) - keys + Math.min(prefixes[i], keys);
        }
        return prefixes;
    }

    private Positions moved(Positions positions, long[] offsets) {
        int documents = offsets.length - 1;
        int document = 0;
        List<Positions.Range> ranges = new ArrayList<>();
        for (Positions.Range range : positions.ranges()) {
            long done = 0;
            while (done < range.length()) {
                long position = range.start() + done * range.stride();
                while (document < documents && offsets[document + 1] <= position) {
                    document++;
                }
                boolean outside = document == documents;
                long left = range.length() - done;
                long count =
                        outside ? left : Math.min(left, (offsets[document + 1] - 1 - position) / range.stride() + 1);
                long distance =
                        outside ? line[document] - offsets[document] : line[document + 1] - offsets[document + 1];
                ranges.add(new Positions.Range(position + distance, count, range.stride()));
                done += count;
            }
        }
        return Positions.of(ranges);
    }
}
