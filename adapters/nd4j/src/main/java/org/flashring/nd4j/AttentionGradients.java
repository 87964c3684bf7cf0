package org.flashring.nd4j;

import org.nd4j.linalg.api.ndarray.INDArray;

/**
 * The gradients of a loss with respect to the inputs of attention.
 *
 * @param dq [batch, queryHeads, queries, headDim], as q
 * @param dk [batch, kvHeads, keys, headDim], as k
 * @param dv [batch, kvHeads, keys, valueDim], as v
 */
public record AttentionGradients(INDArray dq, INDArray dk, INDArray dv) {}
