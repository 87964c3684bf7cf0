package org.flashring.cli.plan;

import java.util.List;
import java.util.stream.IntStream;
import org.flashring.plan.Plan;

/**
 * The bytes that one rank holds while a model of several attention layers trains.
 *
 * @param ringBuffers of one operation; layers run one after the other and share it
 * @param layerTensors q, k, v, output, lse and their gradients of the layer at work
 * @param savedTensors q, k, v, output and lse that the other layers keep for backward
 * @param hiddenStates input of every layer
 */
record PlanMemory(long ringBuffers, long layerTensors, long savedTensors, long hiddenStates) {
    /** Returns what every rank of a plan holds, in their order. */
    static List<PlanMemory> ofRanks(Plan plan, int layers, long hidden) {
        return IntStream.range(0, plan.worldSize())
                .mapToObj(rank -> {
                    long tokens = plan.shape().batch() * plan.queries().localLength(rank);
                    return new PlanMemory(
                            plan.bytesHeld(rank),
                            plan.callerBytes(rank),
                            (layers - 1L) * plan.savedBytes(rank),
                            layers * tokens * hidden * plan.shape().dtype().bytes());
                })
                .toList();
    }

    /** Returns the most that one of them holds. */
    static long most(List<PlanMemory> ranks) {
        return ranks.stream().mapToLong(PlanMemory::total).max().orElseThrow();
    }

    long total() {
        return ringBuffers + layerTensors + savedTensors + hiddenStates;
    }
}
