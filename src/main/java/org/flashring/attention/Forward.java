package org.flashring.attention;

import org.flashring.Tensor;

/**
 * What a forward pass reads and writes on one rank.
 *
 * @param q [batch, local queries, queryHeads, headDim]
 * @param k [batch, local keys, kvHeads, headDim]
 * @param v [batch, local keys, kvHeads, valueDim]
 * @param out [batch, local queries, queryHeads, valueDim], written; 0 where a query sees no key
 * @param lse [batch, local queries, queryHeads, 1] of the accumulator type, written; -∞ where a query sees no key. Null
 *     if it is not wanted, where the plan is {@linkplain org.flashring.AttentionOptions#forwardOnly forwardOnly}
 */
public record Forward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse) {}
