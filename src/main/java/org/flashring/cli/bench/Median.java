package org.flashring.cli.bench;

import java.util.Arrays;

/** The middle of the times of a run. */
final class Median {
    private Median() {}

    /** Returns the median of at least one value; of an even number, the mean of the middle two. */
    static double of(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        int middle = sorted.length / 2;
        return sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }
}
