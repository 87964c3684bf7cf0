package org.flashring.attention;

import org.flashring.comm.Transfers;
import org.flashring.plan.Schedule.Heads;

/**
 * A step of a schedule whose pieces have their places in this rank's memory.
 *
 * @param number   of the step, from 0 on
 * @param owner    rank whose keys these are, -1 if they are several ranks'
 * @param ready    packs own keys that are sent, puts keys of several ranks in order
 * @param before   posted before the block is computed; null for nothing
 * @param computes whether the block is computed
 * @param source   which keys the block has, as the kernel numbers them
 * @param heads    heads of the block
 * @param keys     keys and values of the block; null for the caller's own
 * @param grads    where the kernel leaves their gradients; null in forward
 * @param direct   whether it may leave them in the caller's own
 * @param resume   whether the block carries on what an earlier one began
 * @param finish   whether no later block carries on what this one leaves
 * @param collect  takes the block's gradients to their places
 * @param after    posted after that; null for nothing
 * @param deliver  takes what has come for own keys home, once awaited
 */
record BoundStep(int number, int owner, Move[] ready, Transfers before, boolean computes, int source, Heads heads, KeyTensors keys,
        KeyTensors grads, boolean direct, boolean resume, boolean finish, Move[] collect, Transfers after, Move[] deliver) {}
