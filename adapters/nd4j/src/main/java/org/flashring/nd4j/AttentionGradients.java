package org.flashring.nd4j;

import org.nd4j.linalg.api.ndarray.INDArray;

/**
 * The gradients of a loss with respect to the inputs of attention.
 *
 * @param dq [batch, queryHeads, queries, headDim], as q
 * @param dk [batch, kvHeads, keys, headDim], as k
 * @param dv [batch, kvHeads, keys, valueDim], as v
 * @param dsinks [queryHeads], as sinks, the sum over the batch and the queries, which of a sharded sequence are this
 *     rank's: as that of a parameter that all ranks have it is to be summed over them. Null without sinks, or if it is
 *     not wanted
 */
public record AttentionGradients(INDArray dq, INDArray dk, INDArray dv, INDArray dsinks) {
    /** Makes those that want no gradient of sinks. */
    public AttentionGradients(INDArray dq, INDArray dk, INDArray dv) {
        this(dq, dk, dv, null);
    }
}
