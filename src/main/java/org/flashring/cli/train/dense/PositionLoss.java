package org.flashring.cli.train.dense;

import java.util.Arrays;
import org.flashring.DType;
import org.flashring.sync.ShardedBatch;

/**
 * Sums of a rank's losses by the position of their tokens: what a token far into its document learns from those before
 * it shows here, and nowhere in the mean. Bins are of equal length over the longest document.
 */
final class PositionLoss {
    static final int BINS = 64;

    /** Float64 values that ranks sum: of each bin the losses, then the number of its tokens. */
    static final int FIGURES = 2 * BINS;

    private final long longest;
    private final double[] losses;
    private final double[] figures = new double[FIGURES];

    /** Makes it for {@code tokens} tokens of documents that end at {@code offsets}. */
    PositionLoss(int tokens, long[] offsets) {
        this.losses = new double[tokens];
        long most = 1;
        for (int i = 1; i < offsets.length; i++) {
            most = Math.max(most, offsets[i] - offsets[i - 1]);
        }
        this.longest = most;
    }

    /** Puts the sums of a batch, whose losses lie at {@code from}, to {@code to}. */
    void sum(ShardedBatch batch, Staging staging, long from, long to) {
        staging.get(from, losses);
        long[] positions = batch.positions();
        long[] labels = batch.labels();
        Arrays.fill(figures, 0);
        for (int i = 0; i < losses.length; i++) {
            if (labels[i] != ShardedBatch.IGNORE_INDEX) {
                int bin = (int) (positions[i] * BINS / longest);
                figures[bin] += losses[i];
                figures[BINS + bin]++;
            }
        }
        staging.put(
                DType.FLOAT64,
                to,
                FIGURES,
                (first, values, count) -> System.arraycopy(figures, (int) first, values, 0, count));
    }

    /** Returns the mean of each bin, given sums over ranks; NaN of those that no token lies in. */
    static double[] means(Staging staging, long from) {
        double[] sums = new double[FIGURES];
        staging.get(from, sums);
        double[] means = new double[BINS];
        for (int bin = 0; bin < BINS; bin++) {
            means[bin] = sums[bin] / sums[BINS + bin];
        }
        return means;
    }
}
