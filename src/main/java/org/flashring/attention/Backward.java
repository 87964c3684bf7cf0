package org.flashring.attention;

import org.flashring.Tensor;

/**
 * What a backward pass reads and writes on one rank. Gradients have the tensors' own type or the accumulator type.
 *
 * @param of as in forward, out and lse as it wrote them
 * @param dout as out
 * @param dq as q, written; 0 where a query sees no key
 * @param dk as k, written
 * @param dv as v, written
 * @param dsinks as sinks, written: the sum over the batch and this rank's queries. That over all ranks, as sinks are
 *     parameters which all have, is the caller's to make: by {@link org.flashring.sync.GradientSync}, or an all-reduce.
 *     Null if it is not wanted
 */
public record Backward(Forward of, Tensor dout, Tensor dq, Tensor dk, Tensor dv, Tensor dsinks) {
    /** Makes those that want no gradient of sinks. */
    public Backward(Forward of, Tensor dout, Tensor dq, Tensor dk, Tensor dv) {
        this(of, dout, dq, dk, dv, null);
    }
}
