package org.flashring;

import org.flashring.internal.Checks;

/**
 * How attention is executed; none of it changes what is computed.
 *
 * @param backward whether backward will be called; false saves its buffers
 * @param wireDType type of dK and dV while they travel: null for the accumulator type, or the shape's own for slow
 *     links
 * @param kernel which implementation runs, {@link Kernel#AUTO} but for comparisons
 * @param cuda whether tensors lie on, and kernels run on, CUDA devices rather than the host
 * @param deterministic whether backward gives the same bits on every run, at some cost on CUDA; on the host it always
 *     does
 */
public record AttentionOptions(boolean backward, DType wireDType, Kernel kernel, boolean cuda, boolean deterministic) {
    private static final AttentionOptions DEFAULTS = new AttentionOptions(true, null, Kernel.AUTO, false, false);

    /** @throws IllegalArgumentException if the kernel is null */
    public AttentionOptions {
        Checks.notNull("kernel", kernel);
    }

    /** Returns backward on, dK and dV travelling unrounded, and the fastest kernel of the host. */
    public static AttentionOptions defaults() {
        return DEFAULTS;
    }

    /** Returns these options without backward; forward may then be given a null lse. */
    public AttentionOptions forwardOnly() {
        return new AttentionOptions(false, wireDType, kernel, cuda, deterministic);
    }

    /** Returns these options with dK and dV rounded to {@code dtype} at each hop. */
    public AttentionOptions withWireDType(DType dtype) {
        return new AttentionOptions(backward, Checks.notNull("wireDType", dtype), kernel, cuda, deterministic);
    }

    /** Returns these options with a kernel of the caller's choice. */
    public AttentionOptions withKernel(Kernel kernel) {
        return new AttentionOptions(backward, wireDType, kernel, cuda, deterministic);
    }

    /** Returns these options for tensors and kernels on CUDA devices. */
    public AttentionOptions onCuda() {
        return new AttentionOptions(backward, wireDType, kernel, true, deterministic);
    }

    /** Returns these options with a backward that gives the same bits on every run. */
    public AttentionOptions asDeterministic() {
        return new AttentionOptions(backward, wireDType, kernel, cuda, true);
    }
}
