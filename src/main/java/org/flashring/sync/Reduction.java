package org.flashring.sync;

import org.flashring.internal.Checks;

/**
 * What {@link GradientSync} makes of gradients: their sum over ranks, perhaps divided, on every rank or spread over
 * them.
 *
 * @param scattered whether each rank gets a part of every sum alone, for optimizers whose state is spread over ranks,
 *     too; else all ranks get all sums
 * @param divisor what sums are divided by, 1 for none; positive and finite
 */
public record Reduction(boolean scattered, double divisor) {
    /** @throws IllegalArgumentException if the divisor is not positive and finite */
    public Reduction {
        if (!(divisor > 0 && divisor < Double.POSITIVE_INFINITY)) {
            throw Checks.broken("divisor", divisor, "be positive and finite");
        }
    }

    /** Returns the sum, on every rank (all-reduce). */
    public static Reduction sum() {
        return new Reduction(false, 1);
    }

    /**
     * Returns this with sums divided by {@code divisor}: the number of ranks, say, for the mean of the ranks'
     * gradients. That is the gradient of the mean over tokens only where ranks have equally many targets; a rank that
     * backpropagates from its loss over {@link TokenLoss#totalTargets} needs no divisor and is right everywhere.
     */
    public Reduction dividedBy(double newDivisor) {
        return new Reduction(scattered, newDivisor);
    }

    /** Returns this with each rank getting its part alone (reduce-scatter). */
    public Reduction scatter() {
        return new Reduction(true, divisor);
    }
}
