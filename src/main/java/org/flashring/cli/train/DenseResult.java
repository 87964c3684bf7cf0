package org.flashring.cli.train;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.train.dense.DenseSettings;
import org.flashring.cli.train.dense.MemoryLimit;
import org.flashring.cli.train.dense.Recompute;

/**
 * What result.json holds of a run by the dense engine.
 *
 * @param complete whether all steps were done; if not, a signal or a failure ended the run
 * @param stepsBefore that the checkpoint had done from which the run went on
 * @param memoryPlan bytes of the fullest rank, all of them, by plan
 * @param memoryBlocks bytes of rank 0 by name; those that are never in use together share a place
 * @param tokensPerSecond of the median step
 * @param skipped steps whose gradients were not finite, and changed nothing
 * @param gradientNorms of each step, before they were clipped
 */
record DenseResult(
        String engine,
        boolean complete,
        List<String> text,
        int textFiles,
        int textBytes,
        Settings settings,
        Recompute recompute,
        int headGroups,
        int tile,
        long stepsBefore,
        long parameters,
        long memoryPlan,
        Map<String, Long> memoryBlocks,
        double firstLoss,
        double lastLoss,
        double tokensPerSecond,
        int skipped,
        List<Double> gradientNorms,
        List<Training.Step> steps)
        implements RunResult {
    private static final int BLOCKS_NAMED = 5;
    private static final int LONGER = 4; // times the length of the run, up to which it is said what would fit

    /** Returns the result; null before the first step is done. */
    static DenseResult of(List<Path> text, Corpus corpus, Settings settings, DenseTraining training) {
        DenseTraining.Outcome outcome = training.outcome();
        DenseSettings dense = training.settings();
        List<Training.Step> steps = outcome.steps();
        if (steps.isEmpty()) {
            return null;
        }
        return new DenseResult(
                "dense",
                outcome.first() + steps.size() == settings.steps(),
                text.stream().map(Path::toString).toList(),
                corpus.files(),
                corpus.length(),
                settings,
                dense.recompute(),
                dense.headGroups(),
                dense.tile(),
                outcome.first(),
                outcome.parameters(),
                MemoryLimit.bytes(dense),
                outcome.blocks(),
                steps.get(0).loss(),
                steps.get(steps.size() - 1).loss(),
                TrainResult.tokensPerSecond(settings, steps),
                outcome.skipped(),
                outcome.norms(),
                steps);
    }

    /** Prints what the ranks will hold, before they do. */
    static void printPlan(DenseSettings dense, Long limit, PrintWriter out) {
        out.printf(
                Locale.ROOT,
                "Memory      %s a rank, by plan: beside a batch's tokens nothing is taken after the start; --recompute %s%n",
                Quantity.bytes(MemoryLimit.bytes(dense)),
                dense.recompute());
        if (limit != null) {
            out.printf(
                    Locale.ROOT,
                    "Fits        in %s a rank, up to %d times this length: %s%n",
                    Quantity.bytes(limit),
                    LONGER,
                    Arrays.stream(Recompute.values())
                            .map(policy -> String.format(
                                    Locale.ROOT,
                                    "%,d tokens with --recompute %s",
                                    MemoryLimit.longest(dense.with(policy), limit, LONGER * dense.length()),
                                    policy))
                            .collect(Collectors.joining(", ")));
        }
    }

    /** Nothing is compared. */
    @Override
    public boolean passed() {
        return true;
    }

    @Override
    public void print(PrintWriter out) {
        out.printf(
                Locale.ROOT,
                "Loss        %.4f -> %.4f nats per byte in %d %s%s; %,.0f tokens/s%n",
                firstLoss,
                lastLoss,
                steps.size(),
                steps.size() == 1 ? "step" : "steps",
                (stepsBefore == 0 ? "" : " after " + stepsBefore + " of the checkpoint")
                        + (skipped == 0 ? "" : ", " + skipped + " skipped: a gradient was not finite"),
                tokensPerSecond);
        out.printf(
                Locale.ROOT,
                "Memory      %s a rank by plan, largest: %s%n",
                Quantity.bytes(memoryPlan),
                memoryBlocks.entrySet().stream()
                        .sorted(Map.Entry.<String, Long>comparingByValue().reversed())
                        .limit(BLOCKS_NAMED)
                        .map(block -> block.getKey() + " " + Quantity.bytes(block.getValue()))
                        .collect(Collectors.joining(", ")));
        out.printf(
                Locale.ROOT,
                "            %s in the process half-way, %s at the end; %,d parameters, whole on each rank%n",
                Quantity.bytes(steps.get(steps.size() / 2).residentBytes()),
                Quantity.bytes(steps.get(steps.size() - 1).residentBytes()),
                parameters);
    }
}
