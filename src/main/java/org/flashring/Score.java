package org.flashring;

import org.flashring.internal.Checks;

/**
 * How a score comes of the product of a query and a key.
 *
 * @param softmaxScale factor of the product, 1e-37 to 1e37, for float64 1e-307 to 1e307; NaN stands for 1 /
 *     sqrt(headDim)
 */
public record Score(double softmaxScale) {
    private static final Score DEFAULT = new Score(Double.NaN);

    /** @throws IllegalArgumentException unless the scale is NaN or positive and finite */
    public Score {
        if (softmaxScale <= 0 || Double.isInfinite(softmaxScale)) {
            throw scaleBroken(softmaxScale);
        }
    }

    /** Returns products times 1 / sqrt(headDim). */
    public static Score standard() {
        return DEFAULT;
    }

    /**
     * Returns products times {@code softmaxScale}.
     *
     * @throws IllegalArgumentException unless the scale is positive and finite
     */
    public static Score scaledBy(double softmaxScale) {
        if (Double.isNaN(softmaxScale)) {
            throw scaleBroken(softmaxScale);
        }
        return new Score(softmaxScale);
    }

    private static IllegalArgumentException scaleBroken(double scale) {
        return Checks.broken("softmaxScale", scale, "be positive and finite");
    }

    /** Returns the factor for {@code shape}: the one given, or else 1 / sqrt(headDim). */
    public double scaleFor(AttentionShape shape) {
        return Double.isNaN(softmaxScale) ? 1 / Math.sqrt(shape.headDim()) : softmaxScale;
    }
}
