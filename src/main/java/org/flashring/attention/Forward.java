package org.flashring.attention;

import org.flashring.Tensor;

/**
 * What a forward pass reads and writes on one rank.
 *
 * @param q [batch, local queries, queryHeads, headDim]
 * @param k [batch, local keys, kvHeads, headDim]
 * @param v [batch, local keys, kvHeads, valueDim]
 * @param out [batch, local queries, queryHeads, valueDim], written; 0 where a query sees no key
 * @param lse [batch, local queries, queryHeads, 1] of the accumulator type, written; where a query sees no key its
 *     head's sink, -∞ without sinks. Null if it is not wanted, where the plan is
 *     {@linkplain org.flashring.AttentionOptions#forwardOnly forwardOnly}
 * @param sinks [1, 1, queryHeads, 1] of the accumulator type, side by side, the same on all ranks: finite, or -∞ for a
 *     head without one. Null unless the plan's {@linkplain org.flashring.Score#sinks score} has sinks
 */
public record Forward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor sinks) {
    /** Makes those of a score without sinks. */
    public Forward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse) {
        this(q, k, v, out, lse, null);
    }
}
