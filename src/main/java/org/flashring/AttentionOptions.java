package org.flashring;

import org.flashring.internal.Checks;

/**
 * Choices that leave the mathematics alone but for the scale.
 *
 * @param softmaxScale  factor of the scores, 1e-37 to 1e37, for float64 1e-307 to 1e307; NaN stands for 1 / sqrt(headDim)
 * @param backward      whether backward will be called; false saves its buffers
 * @param wireDType     type of dK and dV while they travel: null for the accumulator type, or the shape's own for slow links
 * @param kernel        which implementation runs, {@link Kernel#AUTO} but for comparisons
 * @param cuda          whether tensors lie on, and kernels run on, CUDA devices rather than the host
 * @param deterministic whether backward gives the same bits on every run, at some cost on CUDA; on the host it always does
 */
public record AttentionOptions(double softmaxScale, boolean backward, DType wireDType, Kernel kernel, boolean cuda,
        boolean deterministic) {
    private static final AttentionOptions DEFAULTS = new AttentionOptions(Double.NaN, true, null, Kernel.AUTO, false, false);

    /**
     * @throws IllegalArgumentException unless the scale is NaN or positive and finite
     */
    public AttentionOptions {
        if (softmaxScale <= 0 || Double.isInfinite(softmaxScale)) {
            throw Checks.broken("softmaxScale", softmaxScale, "be positive and finite");
        }
        Checks.notNull("kernel", kernel);
    }

    /** Returns scale 1 / sqrt(headDim), backward on, dK and dV travelling unrounded, and the fastest kernel of the host. */
    public static AttentionOptions defaults() {
        return DEFAULTS;
    }

    /** Returns these options with a scale of its own. */
    public AttentionOptions withSoftmaxScale(double scale) {
        if (Double.isNaN(scale)) {
            throw Checks.broken("softmaxScale", scale, "be positive and finite");
        }
        return new AttentionOptions(scale, backward, wireDType, kernel, cuda, deterministic);
    }

    /** Returns these options without backward. */
    public AttentionOptions forwardOnly() {
        return new AttentionOptions(softmaxScale, false, wireDType, kernel, cuda, deterministic);
    }

    /** Returns these options with dK and dV rounded to {@code dtype} at each hop. */
    public AttentionOptions withWireDType(DType dtype) {
        return new AttentionOptions(softmaxScale, backward, Checks.notNull("wireDType", dtype), kernel, cuda, deterministic);
    }

    /** Returns these options with a kernel of the caller's choice. */
    public AttentionOptions withKernel(Kernel kernel) {
        return new AttentionOptions(softmaxScale, backward, wireDType, kernel, cuda, deterministic);
    }

    /** Returns these options for tensors and kernels on CUDA devices. */
    public AttentionOptions onCuda() {
        return new AttentionOptions(softmaxScale, backward, wireDType, kernel, true, deterministic);
    }

    /** Returns these options with a backward that gives the same bits on every run. */
    public AttentionOptions asDeterministic() {
        return new AttentionOptions(softmaxScale, backward, wireDType, kernel, cuda, true);
    }

    /** Returns the factor of the scores of {@code shape}: the one given, or else 1 / sqrt(headDim). */
    public double scaleFor(AttentionShape shape) {
        return Double.isNaN(softmaxScale) ? 1 / Math.sqrt(shape.headDim()) : softmaxScale;
    }
}
