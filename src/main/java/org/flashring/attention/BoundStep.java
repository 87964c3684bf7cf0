package org.flashring.attention;

import org.flashring.comm.Transfers;
import org.flashring.plan.Schedule.Heads;

/**
 * A step of a schedule whose pieces have their places in this rank's memory.
 *
 * @param number of the step, from 0 on
 * @param owner rank whose keys these are, -1 if they are several ranks'
 * @param ready packs own keys that are sent, puts keys of several ranks in order
 * @param before posted before the block is computed; null for nothing
 * @param ahead posted behind that, awaited by the next step; null for nothing
 * @param block what is computed; null for nothing
 * @param after posted when the block's gradients are in their places; null for nothing
 * @param deliver takes what has come for own keys home, once {@code after} is awaited
 * @param bytesSent bytes of what is posted
 */
record BoundStep(
        int number,
        int owner,
        Move[] ready,
        Transfers before,
        Transfers ahead,
        BoundBlock block,
        Transfers after,
        Move[] deliver,
        long bytesSent) {
    /**
     * What is computed.
     *
     * @param source which keys, as the kernel numbers them
     * @param rows how many of each head
     * @param heads which heads
     * @param keys keys and values; null for the caller's own
     * @param resume whether it carries on what an earlier block began
     * @param finish whether no later block carries on what it leaves
     * @param grads gradients of keys and values; null in forward
     */
    record BoundBlock(
            int source, long rows, Heads heads, KeyTensors keys, boolean resume, boolean finish, BlockGrads grads) {}

    /**
     * Where a block's gradients go.
     *
     * @param of where the kernel leaves them
     * @param direct whether it may leave them in the caller's own
     * @param collect takes them to their places from there
     */
    record BlockGrads(KeyTensors of, boolean direct, Move[] collect) {}
}
