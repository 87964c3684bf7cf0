package org.flashring.cli.train;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import org.bytedeco.javacpp.Pointer;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.support.Table;
import org.flashring.cli.support.Vocabulary;
import org.flashring.cli.train.dense.DenseSettings;
import org.flashring.cli.train.dense.MemoryLimit;
import org.flashring.cli.train.dense.PlacedBlock;
import org.flashring.cli.train.dense.Recompute;
import org.flashring.cli.train.dense.StepFlops;

/**
 * What result.json holds of a run by the dense engine.
 *
 * @param complete whether all steps were done; if not, a signal or a failure ended the run
 * @param vocabulary what a token is
 * @param documents tokens of each document but the last that a sequence is packed of; null for one document
 * @param repeat whether the second half of each document repeats the first
 * @param stepsBefore that the checkpoint had done from which the run went on
 * @param warmup steps in which the learning rate rose
 * @param memoryPlan bytes of the fullest rank, all of them, by plan
 * @param offload whether what is kept of a layer waited for backward in the host's memory
 * @param memory beside what was taken and seen
 * @param memoryBlocks of rank 0 by plan; those that are never in use together share a place
 * @param flops floating-point operations of a step, over all ranks
 * @param peakFlops FLOP/s that a rank's device could do; null if nobody knows
 * @param tokensPerSecond of the median step
 * @param modelFlopsPerSecond of the median step, over all ranks: the model's own
 * @param computedFlopsPerSecond likewise: with what backward computes again
 * @param mfu of the median step; null without a peak
 * @param phaseSeconds of rank 0, means over steps without the first; empty where nothing is timed
 * @param lossByPosition in bins of equal length over the longest document
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
        Vocabulary vocabulary,
        Integer documents,
        boolean repeat,
        Recompute recompute,
        boolean offload,
        int headGroups,
        int tile,
        int warmup,
        long stepsBefore,
        long parameters,
        long memoryPlan,
        DenseLog.Memory memory,
        List<PlacedBlock> memoryBlocks,
        double firstLoss,
        double lastLoss,
        StepFlops flops,
        Double peakFlops,
        double tokensPerSecond,
        double modelFlopsPerSecond,
        double computedFlopsPerSecond,
        Double mfu,
        Map<String, Double> phaseSeconds,
        DenseLog.LossByPosition lossByPosition,
        int skipped,
        List<Double> gradientNorms,
        List<Training.Step> steps)
        implements RunResult {
    private static final int BLOCKS_NAMED = 5;
    private static final int LONGER = 64; // times the length of the run, up to which it is said what would fit

    /** Returns the result; null before the first step is done. */
    static DenseResult of(
            List<Path> text, Corpus corpus, Settings settings, DenseOptions options, DenseTraining training) {
        DenseLog.Outcome outcome = training.outcome();
        if (outcome == null || outcome.steps().isEmpty()) {
            return null;
        }
        DenseSettings dense = training.settings();
        List<Training.Step> steps = outcome.steps();
        Throughput throughput = outcome.throughput();
        double tokensPerSecond = TrainResult.tokensPerSecond(settings, steps);
        double seconds = settings.tokens() / tokensPerSecond;
        return new DenseResult(
                "dense",
                outcome.first() + steps.size() == settings.steps(),
                text.stream().map(Path::toString).toList(),
                corpus.files(),
                corpus.length(),
                settings,
                options.vocabulary(),
                options.documents(),
                options.repeat(),
                dense.recompute(),
                dense.offload(),
                dense.headGroups(),
                dense.tile(),
                options.warmup(),
                outcome.first(),
                outcome.parameters(),
                outcome.memory().planned(),
                outcome.memory(),
                MemoryLimit.map(dense, 0),
                steps.get(0).loss(),
                steps.get(steps.size() - 1).loss(),
                throughput.flops(),
                throughput.peak(),
                tokensPerSecond,
                throughput.flops().model() / seconds,
                throughput.flops().computed() / seconds,
                throughput.mfu(seconds),
                outcome.phases(),
                outcome.lossByPosition(),
                outcome.skipped(),
                outcome.norms(),
                steps);
    }

    /** Prints what the ranks will hold, before they do. */
    static void printPlan(DenseTraining training, Long limit, PrintWriter out) {
        DenseSettings dense = training.settings();
        out.printf(
                Locale.ROOT,
                "Memory      %s a rank, by plan: beside a batch's tokens nothing is taken after the start;"
                        + " --recompute %s%n",
                Quantity.bytes(MemoryLimit.bytes(dense)),
                MemoryLimit.name(dense));
        long pinned = MemoryLimit.pinned(dense);
        if (pinned > 0) {
            out.printf(
                    Locale.ROOT,
                    "Offloaded   %s of the host's memory a rank, pinned; %s for the ranks of this host, of %s that are"
                            + " free%n",
                    Quantity.bytes(pinned),
                    Quantity.bytes(pinned * training.ranksHere()),
                    Quantity.bytes(Pointer.availablePhysicalBytes()));
        }
        if (training.faster() != null) {
            out.printf(
                    "Chosen      the fastest that fits%s%n",
                    training.faster().stream()
                            .map(choice ->
                                    MemoryLimit.name(choice) + " takes " + Quantity.bytes(MemoryLimit.bytes(choice)))
                            .collect(Collectors.joining(", ", training.faster().isEmpty() ? "" : ": ", "")));
        }
        if (limit != null) {
            out.printf(
                    Locale.ROOT,
                    "Fits        in %s a rank, up to %d times this length: %s%n",
                    Quantity.bytes(limit),
                    LONGER,
                    MemoryLimit.ways(dense).stream()
                            .map(way -> fitting(way, limit))
                            .collect(Collectors.joining(", ")));
        }
    }

    private static String fitting(DenseSettings way, long limit) {
        long longest = MemoryLimit.longest(way, limit, LONGER * way.length());
        long pinned = longest == 0 ? 0 : MemoryLimit.pinned(way.withLength(longest));
        return String.format(
                Locale.ROOT,
                "%,d tokens with --recompute %s%s",
                longest,
                MemoryLimit.name(way),
                pinned == 0 ? "" : " and " + Quantity.bytes(pinned) + " of the host's");
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
                "Loss        %.4f -> %.4f nats per %s in %d %s%s%n",
                firstLoss,
                lastLoss,
                vocabulary.token(),
                steps.size(),
                steps.size() == 1 ? "step" : "steps",
                (stepsBefore == 0 ? "" : " after " + stepsBefore + " of the checkpoint")
                        + (skipped == 0 ? "" : ", " + skipped + " skipped: a gradient was not finite"));
        if (repeat) {
            printHalves(out);
        }
        out.printf(
                Locale.ROOT,
                "Speed       %,.0f tokens/s, the median step: %s/s of the model (%s a step, %.0f %% attention)%s,"
                        + " %s/s with what is computed again%n",
                tokensPerSecond,
                Quantity.flops(modelFlopsPerSecond),
                Quantity.flops(flops.model()),
                100 * flops.attention() / flops.model(),
                mfu == null ? "" : String.format(Locale.ROOT, ", MFU %.1f %%", 100 * mfu),
                Quantity.flops(computedFlopsPerSecond));
        out.printf(
                Locale.ROOT,
                "Memory      a rank: %s planned, %s taken%s, %s seen in use that was not before; largest: %s%n",
                Quantity.bytes(memory.planned()),
                Quantity.bytes(memory.taken()),
                memory.beside() == 0 ? "" : ", " + Quantity.bytes(memory.beside()) + " beside the plan",
                Quantity.bytes(memory.watched()),
                memoryBlocks.stream()
                        .sorted(Comparator.comparingLong(PlacedBlock::bytes).reversed())
                        .limit(BLOCKS_NAMED)
                        .map(block -> block.name() + " " + Quantity.bytes(block.bytes()))
                        .collect(Collectors.joining(", ")));
        out.printf(
                Locale.ROOT,
                "            %s in the process half-way, %s at the end; %,d parameters, whole on each rank%n",
                Quantity.bytes(steps.get(steps.size() / 2).residentBytes()),
                Quantity.bytes(steps.get(steps.size() - 1).residentBytes()),
                parameters);
        printPhases(out);
    }

    /** What is seen first has to be guessed; what repeats it can be looked up. */
    private void printHalves(PrintWriter out) {
        List<Double> means = lossByPosition.last();
        out.printf(
                Locale.ROOT,
                "Repeated    %.4f nats in first halves, %.4f in second ones, which repeat them; at the start %.4f"
                        + " and %.4f%n",
                mean(means.subList(0, means.size() / 2)),
                mean(means.subList(means.size() / 2, means.size())),
                mean(lossByPosition.first().subList(0, means.size() / 2)),
                mean(lossByPosition.first().subList(means.size() / 2, means.size())));
    }

    private static double mean(List<Double> bins) {
        return bins.stream()
                .filter(Double::isFinite)
                .mapToDouble(bin -> bin)
                .average()
                .orElse(Double.NaN);
    }

    private void printPhases(PrintWriter out) {
        double whole =
                phaseSeconds.values().stream().mapToDouble(value -> value).sum();
        Table table = new Table("rank 0, a step", "  seconds", "  share");
        phaseSeconds.forEach((name, seconds) -> table.row(
                name,
                String.format(Locale.ROOT, "%.4f", seconds),
                String.format(Locale.ROOT, "%.1f %%", 100 * seconds / whole)));
        if (!phaseSeconds.isEmpty()) {
            table.print(out);
        }
    }

    @Override
    public List<Path> draw(Path folder, PrintWriter console) throws IOException {
        return DensePictures.write(folder, this);
    }
}
