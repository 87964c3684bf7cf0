package org.flashring.cli.train.dense;

/**
 * AdamW (Loshchilov and Hutter 2019) with the defaults of PyTorch, and the largest norm of all gradients together.
 *
 * @param learningRate of all updates but the first ones
 * @param warmup updates up to the first one with the whole rate, which they come to in equal steps; 0 as 1
 * @param clip longer gradients are scaled down to this norm; infinite for none
 */
public record AdamW(
        double learningRate, double beta1, double beta2, double epsilon, double decay, double clip, long warmup) {
    private static final double BETA1 = 0.9;
    private static final double BETA2 = 0.999;
    private static final double EPSILON = 1e-8;
    private static final double DECAY = 0.01;

    /** @throws IllegalArgumentException unless rate and clip are positive and the rate is finite */
    public AdamW {
        if (!(learningRate > 0 && learningRate < Double.POSITIVE_INFINITY)) {
            throw new IllegalArgumentException("--lr is " + learningRate + "; it must be positive and finite");
        }
        if (!(clip > 0)) {
            throw new IllegalArgumentException("--clip is " + clip + "; it must be positive");
        }
        if (warmup < 0) {
            throw new IllegalArgumentException("--warmup is " + warmup + "; it must be at least 0");
        }
    }

    /** Returns the usual settings with this rate and clip. */
    public static AdamW of(double learningRate, double clip) {
        return new AdamW(learningRate, BETA1, BETA2, EPSILON, DECAY, clip, 0);
    }

    /** Returns the same with other updates of a smaller rate. */
    public AdamW withWarmup(long updates) {
        return new AdamW(learningRate, beta1, beta2, epsilon, decay, clip, updates);
    }

    /** Returns the rate of an update, from 1 on. */
    double rate(long update) {
        return update < warmup ? learningRate * update / warmup : learningRate;
    }

    /** Returns the factor of gradients whose square sum is {@code norm2}. */
    double factor(double norm2) {
        return Math.min(1, clip / (Math.sqrt(norm2) + 1e-6));
    }

    /** Returns what makes up for means that began as 0. */
    double meanScale(long update) {
        return 1 / (1 - Math.pow(beta1, update));
    }

    /** Returns the same for the means of squares. */
    double squareScale(long update) {
        return 1 / (1 - Math.pow(beta2, update));
    }

    /**
     * Takes a step.
     *
     * @param update number of this update, from 1 on
     * @param factor of the gradients
     * @param value the parameters, changed as are their means
     */
    void update(
            long update,
            double factor,
            double[] gradient,
            double[] value,
            double[] mean,
            double[] meanSquare,
            int count) {
        double meanScale = meanScale(update);
        double squareScale = squareScale(update);
        double rate = rate(update);
        for (int i = 0; i < count; i++) {
            double g = gradient[i] * factor;
            mean[i] = beta1 * mean[i] + (1 - beta1) * g;
            meanSquare[i] = beta2 * meanSquare[i] + (1 - beta2) * g * g;
            value[i] -= rate
                    * (decay * value[i] + mean[i] * meanScale / (Math.sqrt(meanSquare[i] * squareScale) + epsilon));
        }
    }
}
