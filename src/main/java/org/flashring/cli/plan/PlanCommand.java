package org.flashring.cli.plan;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.function.LongPredicate;
import java.util.stream.IntStream;
import org.flashring.AttentionOptions;
import org.flashring.cli.support.JsonOption;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.support.StrategyOption;
import org.flashring.internal.Checks;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
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
        footer = {"", "Example:", "  flashring plan --length 1M --ranks 4 --kv-heads 8 --memory 80G"})
public final class PlanCommand implements Callable<Integer> {
    /** More are not planned: what all ranks do in all steps grows with their square. */
    static final int MOST_RANKS = 1024;

    @Spec
    private CommandSpec spec;

    @ArgGroup(validate = false, heading = "%nModel:%n")
    private PlanModel model = new PlanModel();

    @ArgGroup(validate = false, heading = "%nSequence:%n")
    private PlanSequence sequence = new PlanSequence();

    @Option(
            names = "--ranks",
            defaultValue = "4",
            description = "Ranks that share a sequence (default: ${DEFAULT-VALUE}).")
    private int ranks;

    @Option(
            names = "--memory",
            paramLabel = "BYTES",
            converter = Quantity.class,
            description =
                    "Memory of a rank, such as 80G: also tell whether the sequence fits, how many ranks it needs if not, and the"
                            + " largest length that fits.")
    private Long memory;

    @Mixin
    private StrategyOption strategy;

    @Mixin
    private JsonOption json;

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

    /**
     * One rank in one step of one layer: whose keys it holds, -1 for several ranks'; (query, key) pairs per head, bytes
     * sent.
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
            List<Rank> ranks,
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
        Checks.between("--ranks", ranks, 1, MOST_RANKS);
        Plan plan = plan(sequence.length(), ranks);
        List<Step> steps = steps(plan);
        List<PlanMemory> held = PlanMemory.ofRanks(plan, model.layers(), model.hidden());
        List<Rank> perRank = new ArrayList<>();
        for (int rank = 0; rank < ranks; rank++) {
            int r = rank;
            long pairs = steps.stream()
                    .filter(step -> step.rank() == r)
                    .mapToLong(Step::visiblePairs)
                    .sum();
            perRank.add(new Rank(
                    rank,
                    plan.queries().localLength(rank),
                    flops(plan, pairs),
                    plan.forwardBytesSent(rank),
                    plan.backwardBytesSent(rank),
                    held.get(rank)));
        }
        Boolean fits = memory == null ? null : PlanMemory.most(held) <= memory;
        Result result = new Result(
                plan.shape().toString(),
                plan.queries().toString(),
                plan.mask().toString(),
                plan.queries().length(),
                model.layers(),
                model.hidden(),
                plan.steps(),
                perRank,
                steps,
                memory,
                fits,
                Boolean.FALSE.equals(fits) ? ranksNeeded() : null,
                memory == null || sequence.fixed() ? null : largestLength());
        new PlanReport(result, plan).print(spec.commandLine().getOut());
        json.write(result);
        return 0;
    }

    private Plan plan(long length, int worldSize) {
        return plan(length, worldSize, strategy.strategy());
    }

    private Plan plan(long length, int worldSize, Strategy by) {
        Problem problem = Problem.of(model.shape(), sequence.layout(length, worldSize), sequence.mask(length));
        return Plan.of(problem, by, AttentionOptions.defaults());
    }

    /** Returns the floating-point operations of forward over {@code pairs} (query, key) pairs per head. */
    static double flops(Plan plan, double pairs) {
        return 2
                * pairs
                * plan.shape().batch()
                * plan.shape().queryHeads()
                * (plan.shape().headDim() + plan.shape().valueDim());
    }

    private static List<Step> steps(Plan plan) {
        int ranks = plan.worldSize();
        return IntStream.range(0, plan.steps() * ranks)
                .parallel()
                .mapToObj(i -> {
                    int step = i / ranks;
                    int rank = i % ranks;
                    return new Step(
                            step,
                            rank,
                            plan.source(rank, step),
                            plan.computes(rank, step),
                            plan.visiblePairs(rank, step),
                            plan.forwardBytesSent(rank, step),
                            plan.backwardBytesSent(rank, step));
                })
                .toList();
    }

    /**
     * Returns the largest length whose every rank fits in the memory: what a rank holds grows with the length, unless
     * the ring gets shorter.
     */
    private long largestLength() {
        return largest(sequence.longestSearched(), length -> fits(length, ranks));
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
        return PlanMemory.most(PlanMemory.ofRanks(plan(length, worldSize, by), model.layers(), model.hidden()))
                <= memory;
    }
}
