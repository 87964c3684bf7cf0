package org.flashring.cli;

import org.flashring.Plan;

/**
 * The bytes that one rank holds while a model of several attention layers trains.
 *
 * @param ringBuffers  of one operation; layers run one after the other and share it
 * @param layerTensors q, k, v, output, lse and their gradients of the layer at work
 * @param savedTensors q, k, v, output and lse that the other layers keep for backward
 * @param hiddenStates input of every layer
 */
record PlanMemory(long ringBuffers, long layerTensors, long savedTensors, long hiddenStates) {
    static PlanMemory of(Plan plan, int rank, int layers, long hidden) {
        long saved = Plan.of(plan.shape(), plan.queries(), plan.keys(), plan.mask(), plan.options().forwardOnly()).callerBytes(rank);
        long tokens = plan.shape().batch() * plan.queries().localLength(rank);
        return new PlanMemory(plan.bytesHeld(rank), plan.callerBytes(rank), (layers - 1L) * saved,
                layers * tokens * hidden * plan.shape().dtype().bytes());
    }

    long total() {
        return ringBuffers + layerTensors + savedTensors + hiddenStates;
    }
}
