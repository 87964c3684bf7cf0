package org.flashring;

import java.util.List;
import java.util.PriorityQueue;
import org.flashring.internal.Checks;

/** Goes once through the positions of all ranks, in ascending order. */
final class PositionSweep {
    private final List<Positions> ranks;
    private final PriorityQueue<Cursor> cursors = new PriorityQueue<>();

    private PositionSweep(List<Positions> ranks) {
        this.ranks = ranks;
        for (int rank = 0; rank < ranks.size(); rank++) {
            if (ranks.get(rank).length() > 0) {
                cursors.add(new Cursor(rank, ranks.get(rank).ranges()));
            }
        }
    }

    /**
     * Returns all positions of the ranks.
     *
     * @throws IllegalArgumentException if one between the first and the last is on no rank, or on two
     */
    static Positions together(List<Positions> ranks) {
        return new PositionSweep(ranks).together();
    }

    private Positions together() {
        if (cursors.isEmpty()) {
            return Positions.contiguous(0, 0);
        }
        long first = cursors.peek().position;
        long next = first;
        while (!cursors.isEmpty()) {
            Cursor lowest = cursors.poll();
            if (lowest.position > next) {
                throw Checks.broken("position " + next, "on no rank", "be on one");
            }
            if (lowest.position < next) {
                throw Checks.broken("position " + lowest.position, "on ranks " + holders(lowest), "be on one rank");
            }
            next = Checks.sum("length", lowest.last(), 1);
            if (lowest.advance()) {
                cursors.add(lowest);
            }
        }
        return Positions.contiguous(first, next - first);
    }

    private String holders(Cursor lowest) {
        int other = 0;
        while (other == lowest.rank || !ranks.get(other).contains(lowest.position)) {
            other++;
        }
        return Math.min(other, lowest.rank) + " and " + Math.max(other, lowest.rank);
    }

    /** How far the sweep is in one rank's positions. */
    private static final class Cursor implements Comparable<Cursor> {
        private final int rank;
        private final List<Positions.Range> ranges;
        private int range;
        private long position;

        Cursor(int rank, List<Positions.Range> ranges) {
            this.rank = rank;
            this.ranges = ranges;
            this.position = ranges.get(0).start();
        }

        /** Returns the last of the positions without a gap that begin here. */
        long last() {
            return ranges.get(range).stride() == 1 ? ranges.get(range).last() : position;
        }

        /** Moves behind {@link #last}; returns whether there is anything left. */
        boolean advance() {
            long last = last();
            if (last < ranges.get(range).last()) {
                position += ranges.get(range).stride();
                return true;
            }
            range++;
            if (range == ranges.size()) {
                return false;
            }
            position = ranges.get(range).start();
            return true;
        }

        @Override
        public int compareTo(Cursor other) {
            return Long.compare(position, other.position);
        }
    }
}
