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
 */
public record Backward(Forward of, Tensor dout, Tensor dq, Tensor dk, Tensor dv) {}
