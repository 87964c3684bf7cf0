package org.flashring.cli.plan;

import java.io.IOException;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.function.LongPredicate;
import java.util.stream.IntStream;
import org.flashring.cli.support.JsonOption;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.support.StrategyOption;
import org.flashring.internal.Checks;
import org.flashring.plan.Plan;
import org.flashring.plan.RankPlan;
import org.flashring.plan.Strategy;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code flashring plan}: what training a model on long sequences will move and hold, before anything runs. */
@Command(
        name = "plan",
        description = "Tell what attention over a long sequence moves and holds on each rank, before anything runs.",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        footer = {
            "",
            "Example:",
            "  flashring plan --length 1M --ranks 4 --kv-heads 8 --memory 80G",
            "  flashring plan --length 1M --kv-heads 8 --strategy all --gpus 32 --memory 80G"
        })
public final class PlanCommand implements Callable<Integer> {
    /** More are not planned: what all ranks do in all steps grows with their square. */
    static final int MOST_RANKS = 1024;

    private static final int RANKS = 4;

    @Spec
    private CommandSpec spec;

    @ArgGroup(validate = false, heading = "%nModel:%n")
    private PlanModel model = new PlanModel();

    @ArgGroup(validate = false, heading = "%nSequence:%n")
    private PlanSequence sequence = new PlanSequence();

    @Option(names = "--ranks", description = "Ranks that share a sequence (default: 4; with --gpus all of those).")
    private Integer ranks;

    @Option(
            names = "--gpus",
            paramLabel = "GPUS",
            description =
                    "Also tell what a rank holds in each split of GPUS into data parallel x context parallel, and, with"
                            + " --memory, the smallest context parallel that fits.")
    private Integer gpus;

    @Option(
            names = "--memory",
            paramLabel = "BYTES",
            converter = Quantity.class,
            description = "Memory of a rank, such as 80G: also tell whether the sequence fits, how many ranks it needs"
                    + " if not, and the"
                    + " largest length that fits.")
    private Long memory;

    @Mixin
    private StrategyOption strategy;

    @Mixin
    private JsonOption json;

    private Planner planner;

    /**
     * One rank in one step of one layer: whose keys it holds, -1 for several ranks'; (query, key) pairs of the batch
     * per head, bytes sent.
     */
    record Step(
            int step,
            int rank,
            int source,
            boolean computes,
            long visiblePairs,
            long forwardBytesSent,
            long backwardBytesSent) {}

    /**
     * What {@code --json} writes.
     *
     * @param steps of forward
     * @param backwardSteps null where they are as many
     * @param perStep as many steps as the longer of the two has: what one pass has no step for is 0, its source -1
     * @param fits whether no rank holds more than {@code memory}; null without --memory
     * @param ranksNeeded the fewest ranks over which it fits, if it does not, and at most {@link #MOST_RANKS} suffice;
     *     else null
     * @param largestLength the most tokens that fit; null without --memory, and where documents fix the length
     */
    record Result(
            String shape,
            String layout,
            String mask,
            long length,
            int layers,
            long hidden,
            int steps,
            Integer backwardSteps,
            List<Planner.Rank> ranks,
            List<Step> perStep,
            Long memory,
            Boolean fits,
            Integer ranksNeeded,
            Long largestLength) {}

    @Override
    public Integer call() throws IOException {
        sequence.check(spec.commandLine());
        if (memory != null && memory <= 0) {
            throw new ParameterException(spec.commandLine(), "--memory is " + memory + "; it must be positive.");
        }
        if (gpus != null) {
            Checks.between("--gpus", gpus, 1, MOST_RANKS);
        }
        int sharing = ranks != null ? ranks : gpus != null ? gpus : RANKS;
        Checks.between("--ranks", sharing, 1, MOST_RANKS);
        planner = new Planner(model, sequence);
        if (strategy.all() || gpus != null) {
            PlanComparison comparison = PlanComparison.of(planner, strategy, sharing, gpus, memory);
            new ComparisonReport(comparison).print(spec.commandLine().getOut());
            json.write(comparison);
        } else {
            single(sharing);
        }
        return 0;
    }

    private void single(int worldSize) throws IOException {
        Plan plan = planner.plan(sequence.length(), worldSize, strategy.strategy(worldSize));
        List<Step> steps = steps(plan);
        List<Planner.Rank> perRank = planner.ranks(plan);
        Boolean fits = memory == null
                ? null
                : perRank.stream().allMatch(rank -> rank.memory().total() <= memory);
        Result result = new Result(
                plan.shape().toString(),
                plan.queries().toString(),
                plan.mask().toString(),
                plan.queries().length(),
                model.layers(),
                model.hidden(),
                plan.steps(),
                plan.backwardSteps() == plan.steps() ? null : plan.backwardSteps(),
                perRank,
                steps,
                memory,
                fits,
                Boolean.FALSE.equals(fits) ? ranksNeeded() : null,
                memory == null || sequence.fixed() ? null : largestLength(worldSize));
        new PlanReport(result, plan).print(spec.commandLine().getOut());
        json.write(result);
    }

    /** Returns the floating-point operations of forward over {@code pairs} (query, key) pairs per head. */
    static double flops(Plan plan, double pairs) {
        return 2
                * pairs
                * plan.shape().queryHeads()
                * (plan.shape().headDim() + plan.shape().valueDim());
    }

    /** Returns the steps of all ranks, those of one step one behind the other: of forward, and what backward sends. */
    private static List<Step> steps(Plan plan) {
        int ranks = plan.worldSize();
        int count = Math.max(plan.steps(), plan.backwardSteps());
        Step[] steps = new Step[count * ranks];
        IntStream.range(0, ranks).parallel().forEach(rank -> {
            RankPlan of = plan.ofRank(rank);
            for (int step = 0; step < count; step++) {
                long backward = step < of.backwardSteps() ? of.backwardBytesSent(step) : 0;
                steps[step * ranks + rank] = step < of.steps()
                        ? new Step(
                                step,
                                rank,
                                of.source(step),
                                of.computes(step),
                                of.visiblePairs(step),
                                of.forwardBytesSent(step),
                                backward)
                        : new Step(step, rank, -1, false, 0, 0, backward);
            }
        });
        return List.of(steps);
    }

    /**
     * Returns the largest length whose every rank fits in the memory: what a rank holds grows with the length, unless
     * the ring gets shorter.
     */
    private long largestLength(int worldSize) {
        return largest(sequence.longestSearched(), length -> fits(length, worldSize));
    }

    /** Returns the fewest ranks that fit in the memory, or null if more than {@link #MOST_RANKS} are needed. */
    private Integer ranksNeeded() {
        long tooFew = largest(MOST_RANKS + 1L, count -> !fits(sequence.length(), (int) count));
        return tooFew >= MOST_RANKS ? null : (int) tooFew + 1;
    }

    /** Returns the largest number from 0 on, below {@code end}, for which {@code holds}, by doubling and bisection. */
    private static long largest(long end, LongPredicate holds) {
        long yes = 0;
        long no = 1;
        while (no < end && holds.test(no)) {
            yes = no;
            no = Math.min(end, 2 * no);
        }
        while (no - yes > 1) {
            long middle = (yes + no) >>> 1;
            if (holds.test(middle)) {
                yes = middle;
            } else {
                no = middle;
            }
        }
        return yes;
    }

    private boolean fits(long length, int worldSize) {
        Strategy by = strategy.fitting(worldSize, model.shape().queryHeads());
        return planner.mostHeld(planner.plan(length, worldSize, by)) <= memory;
    }
}
