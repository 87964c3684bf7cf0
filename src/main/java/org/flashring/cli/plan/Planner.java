package org.flashring.cli.plan;

import java.util.List;
import java.util.stream.IntStream;
import org.flashring.AttentionOptions;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.RankPlan;
import org.flashring.plan.Strategy;

/** Plans of a model on a sequence, by any strategy over any number of ranks. */
record Planner(PlanModel model, PlanSequence sequence) {
    /**
     * One rank: tokens held, floating-point operations of a forward pass of one layer, bytes sent by one layer, bytes
     * held.
     */
    record Rank(
            int rank,
            long tokens,
            double forwardFlops,
            long forwardBytesSent,
            long backwardBytesSent,
            PlanMemory memory) {}

    Plan plan(long length, int worldSize, Strategy by) {
        Problem problem = Problem.of(model.shape(), sequence.layout(length, worldSize), sequence.mask(length));
        return Plan.of(problem, by, AttentionOptions.defaults());
    }

    /** Returns what each rank of a plan does and holds. */
    List<Rank> ranks(Plan plan) {
        List<PlanMemory> held = held(plan);
        return IntStream.range(0, plan.worldSize())
                .parallel()
                .mapToObj(rank -> {
                    RankPlan of = plan.ofRank(rank);
                    return new Rank(
                            rank,
                            plan.queries().localLength(rank),
                            of.forwardFlops(),
                            of.forwardBytesSent(),
                            of.backwardBytesSent(),
                            held.get(rank));
                })
                .toList();
    }

    /** Returns what each rank of a plan holds. */
    List<PlanMemory> held(Plan plan) {
        return PlanMemory.ofRanks(plan, model.layers(), model.hidden());
    }

    /** Returns the most that a rank of a plan holds. */
    long mostHeld(Plan plan) {
        return PlanMemory.most(held(plan));
    }
}
