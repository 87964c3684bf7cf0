package org.flashring.plan;

import java.util.ArrayList;
import java.util.List;
import org.flashring.Positions;
import org.flashring.plan.Schedule.Rows;
import org.flashring.plan.Schedule.Run;

/**
 * Which keys of every rank some query of every other sees: exactly those. Kept are the intervals of positions that each
 * rank sees; what they leave of a shard is found when it is asked for, in O(intervals).
 */
final class SeenKeys {
    private final Problem problem;
    private final long[][] seen; // by rank: from, to, from, to, ... of global positions, ascending

    SeenKeys(Problem problem) {
        this.problem = problem;
        this.seen = new long[problem.worldSize()][];
        long start = problem.keys().start();
        Positions all = Positions.contiguous(start, problem.keys().length());
        for (int rank = 0; rank < seen.length; rank++) {
            List<Run> runs = Visibility.seen(problem.mask(), problem.queries().positions(rank), all);
            seen[rank] = new long[2 * runs.size()];
            for (int i = 0; i < runs.size(); i++) {
                seen[rank][2 * i] = start + runs.get(i).from();
                seen[rank][2 * i + 1] = start + runs.get(i).to();
            }
        }
    }

    /** Returns how many keys of {@code owner} some query of {@code rank} sees. */
    long count(int rank, int owner) {
        Positions keys = problem.keys().positions(owner);
        long count = 0;
        for (int i = 0; i < seen[rank].length; i += 2) {
            count += keys.lowerBound(seen[rank][i + 1]) - keys.lowerBound(seen[rank][i]);
        }
        return count;
    }

    /** Returns the rows of {@code owner} that some query of {@code rank} sees. */
    Rows rows(int rank, int owner) {
        Positions keys = problem.keys().positions(owner);
        List<Run> runs = new ArrayList<>();
        for (int i = 0; i < seen[rank].length; i += 2) {
            long from = keys.lowerBound(seen[rank][i]);
            long to = keys.lowerBound(seen[rank][i + 1]);
            if (from < to) {
                Visibility.append(runs, from, to);
            }
        }
        return new Rows(owner, List.copyOf(runs));
    }

    /** Returns the positions of {@link #rows}. */
    Positions positions(int rank, int owner) {
        List<Positions.Range> all = problem.keys().positions(owner).ranges();
        List<Positions.Range> ranges = new ArrayList<>();
        int i = 0;
        long first = 0; // row of range i
        for (Run run : rows(rank, owner).runs()) {
            while (i < all.size() && first < run.to()) {
                Positions.Range range = all.get(i);
                long from = Math.max(run.from() - first, 0);
                long to = Math.min(run.to() - first, range.length());
                if (from < to) {
                    ranges.add(new Positions.Range(range.start() + from * range.stride(), to - from, range.stride()));
                }
                if (run.to() < first + range.length()) {
                    break; // the next run has rows of this range too
                }
                first += range.length();
                i++;
            }
        }
        return Positions.of(ranges);
    }
}
