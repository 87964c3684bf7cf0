package org.flashring.cli.plan;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.ToLongFunction;
import org.flashring.cli.support.StrategyOption;
import org.flashring.plan.Plan;
import org.flashring.plan.Strategy;

/**
 * Strategies beside each other on one problem. What {@code --json} writes.
 *
 * @param ranks ranks that share a sequence
 * @param memory bytes of a rank; null without --memory
 * @param gpus GPUs that are split; null without --gpus
 * @param splits how they may be, none without --gpus
 * @param smallestContextParallel by strategy, the fewest ranks of a split over which it fits in the memory, null where
 *     it fits over none; null without --memory or --gpus
 */
record PlanComparison(
        String shape,
        String layout,
        String mask,
        long length,
        int layers,
        long hidden,
        int ranks,
        Long memory,
        List<Candidate> strategies,
        Integer gpus,
        List<Split> splits,
        Map<String, Integer> smallestContextParallel) {
    /**
     * One strategy.
     *
     * @param refused why it does not serve the problem; null if it does, and all else is null where it does not
     * @param headsDealt how heads are dealt to ranks; empty where each computes all
     * @param balance what the busiest rank computes, over the mean
     * @param fits whether no rank holds more than the memory; null without --memory
     */
    record Candidate(
            Strategy strategy,
            String refused,
            Integer steps,
            String headsDealt,
            Double balance,
            Boolean fits,
            List<Planner.Rank> ranks) {
        /** Returns the most that a rank has of {@code what}. */
        long most(ToLongFunction<Planner.Rank> what) {
            return ranks.stream().mapToLong(what).max().orElseThrow();
        }
    }

    /**
     * GPUs as data parallel × context parallel.
     *
     * @param tokensPerStep tokens of the batches of all data-parallel groups
     * @param held bytes that the fullest rank holds, by strategy; null where one is refused
     */
    record Split(int dataParallel, int contextParallel, long tokensPerStep, Map<String, Long> held) {}

    /**
     * Returns the comparison.
     *
     * @param gpus null for no splits
     * @param memory null for any
     * @throws RuntimeException what planning by the first strategy throws, if all are refused
     */
    static PlanComparison of(Planner planner, StrategyOption strategies, int ranks, Integer gpus, Long memory) {
        long length = planner.sequence().length();
        List<Candidate> candidates = new ArrayList<>();
        Plan served = null;
        RuntimeException first = null;
        for (Strategy by : strategies.strategies(ranks, planner.model().shape())) {
            try {
                Plan plan = planner.plan(length, ranks, by);
                candidates.add(candidate(planner, plan, memory));
                served = plan;
            } catch (IllegalArgumentException | UnsupportedOperationException e) {
                first = first == null ? e : first;
                candidates.add(new Candidate(by, e.getMessage(), null, null, null, null, null));
            }
        }
        if (served == null) {
            throw first;
        }
        List<Split> splits = splits(planner, strategies, gpus);
        return new PlanComparison(
                served.shape().toString(),
                served.queries().toString(),
                served.mask().toString(),
                length,
                planner.model().layers(),
                planner.model().hidden(),
                ranks,
                memory,
                candidates,
                gpus,
                splits,
                memory == null || gpus == null ? null : smallest(splits, memory));
    }

    private static Candidate candidate(Planner planner, Plan plan, Long memory) {
        List<Planner.Rank> ranks = planner.ranks(plan);
        double all = ranks.stream().mapToDouble(Planner.Rank::forwardFlops).sum();
        double most =
                ranks.stream().mapToDouble(Planner.Rank::forwardFlops).max().orElseThrow();
        return new Candidate(
                plan.strategy(),
                null,
                plan.steps(),
                plan.headsDealt(),
                all == 0 ? 1 : most * ranks.size() / all,
                memory == null
                        ? null
                        : ranks.stream().allMatch(rank -> rank.memory().total() <= memory),
                ranks);
    }

    private static List<Split> splits(Planner planner, StrategyOption strategies, Integer gpus) {
        List<Split> splits = new ArrayList<>();
        long length = planner.sequence().length();
        for (int cp = 1; gpus != null && cp <= gpus; cp++) {
            if (gpus % cp == 0) {
                int ranks = cp;
                Map<String, Long> held = new LinkedHashMap<>();
                strategies
                        .fittingByName(cp, planner.model().shape().queryHeads())
                        .forEach((name, by) -> held.put(name, held(planner, length, ranks, by)));
                int dp = gpus / cp;
                splits.add(new Split(dp, cp, dp * planner.model().shape().batch() * length, held));
            }
        }
        return splits;
    }

    private static Long held(Planner planner, long length, int ranks, Strategy by) {
        try {
            return planner.mostHeld(planner.plan(length, ranks, by));
        } catch (IllegalArgumentException | UnsupportedOperationException e) {
            return null;
        }
    }

    private static Map<String, Integer> smallest(List<Split> splits, long memory) {
        Map<String, Integer> smallest = new LinkedHashMap<>();
        for (String name : splits.get(0).held().keySet()) {
            smallest.put(
                    name,
                    splits.stream()
                            .filter(split -> split.held().get(name) != null
                                    && split.held().get(name) <= memory)
                            .map(Split::contextParallel)
                            .findFirst()
                            .orElse(null));
        }
        return smallest;
    }
}
