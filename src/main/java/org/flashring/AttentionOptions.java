package org.flashring;

import org.flashring.internal.Checks;

/**
 * Choices that leave the mathematics alone but for the scale.
 *
 * @param softmaxScale factor of the scores; NaN stands for 1 / sqrt(headDim)
 * @param backward     whether backward will be called; false saves its buffers
 * @param wireDType    type of dK and dV while they travel: null for the accumulator type, or the shape's own for slow links
 * @param kernel       which implementation runs, {@link Kernel#AUTO} but for comparisons
 */
public record AttentionOptions(double softmaxScale, boolean backward, DType wireDType, Kernel kernel) {
    private static final AttentionOptions DEFAULTS = new AttentionOptions(Double.NaN, true, null, Kernel.AUTO);

    /**
     * @throws IllegalArgumentException unless the scale is NaN or positive and finite
     */
    public AttentionOptions {
        if (softmaxScale <= 0 || Double.isInfinite(softmaxScale)) {
            throw Checks.broken("softmaxScale", softmaxScale, "be positive and finite");
        }
        Checks.notNull("kernel", kernel);
    }

    /** Returns scale 1 / sqrt(headDim), backward on, dK and dV travelling unrounded, and the fastest kernel. */
    public static AttentionOptions defaults() {
        return DEFAULTS;
    }

    /** Returns these options with a scale of its own. */
    public AttentionOptions withSoftmaxScale(double scale) {
        if (Double.isNaN(scale)) {
            throw Checks.broken("softmaxScale", scale, "be positive and finite");
        }
        return new AttentionOptions(scale, backward, wireDType, kernel);
    }

    /** Returns these options without backward. */
    public AttentionOptions forwardOnly() {
        return new AttentionOptions(softmaxScale, false, wireDType, kernel);
    }

    /** Returns these options with dK and dV rounded to {@code dtype} at each hop. */
    public AttentionOptions withWireDType(DType dtype) {
        return new AttentionOptions(softmaxScale, backward, Checks.notNull("wireDType", dtype), kernel);
    }

    /** Returns these options with a kernel of the caller's choice. */
    public AttentionOptions withKernel(Kernel kernel) {
        return new AttentionOptions(softmaxScale, backward, wireDType, kernel);
    }

    double scaleFor(AttentionShape shape) {
        return Double.isNaN(softmaxScale) ? 1 / Math.sqrt(shape.headDim()) : softmaxScale;
    }
}
