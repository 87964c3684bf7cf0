package org.flashring.cli.train;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.flashring.DType;
import org.flashring.cli.support.Quantity;
import org.flashring.plan.Plan;

/**
 * What result.json holds: a run of at least one step.
 *
 * @param complete whether all steps were done; if not, a signal or a failure ended the run
 * @param bytesHeld per rank, by attention's plan: all its buffers, which the layers share
 * @param tokensPerSecond of the median step
 */
record TrainResult(
        boolean complete,
        List<String> text,
        int textFiles,
        int textBytes,
        Settings settings,
        long parameters,
        String plan,
        List<Long> bytesHeld,
        double firstLoss,
        double lastLoss,
        double tokensPerSecond,
        Comparison.Result comparison,
        List<Training.Step> steps)
        implements RunResult {

    /** Returns the result; null before the first step is done. */
    static TrainResult of(List<Path> text, Corpus corpus, Settings settings, Plan plan, Training.Outcome outcome) {
        List<Training.Step> steps = outcome.steps();
        if (steps.isEmpty()) {
            return null;
        }
        return new TrainResult(
                steps.size() == settings.steps(),
                text.stream().map(Path::toString).toList(),
                corpus.files(),
                corpus.length(),
                settings,
                outcome.parameters(),
                plan.toString(),
                bytesHeld(settings),
                steps.get(0).loss(),
                steps.get(steps.size() - 1).loss(),
                tokensPerSecond(settings, steps),
                outcome.comparison(),
                steps);
    }

    /** Returns the bytes of attention's buffers, per rank of the mesh. */
    static List<Long> bytesHeld(Settings settings) {
        return IntStream.range(0, settings.mesh().worldSize())
                .mapToObj(rank -> settings.plan(DType.FLOAT32, rank)
                        .bytesHeld(settings.mesh().coordinate("cp", rank)))
                .toList();
    }

    /** Returns the rate of the median step. */
    static double tokensPerSecond(Settings settings, List<Training.Step> steps) {
        double[] seconds =
                steps.stream().mapToDouble(Training.Step::seconds).sorted().toArray();
        return settings.tokens() / seconds[seconds.length / 2];
    }

    /** Every run begins anew. */
    @Override
    public long stepsBefore() {
        return 0;
    }

    /** Returns whether no comparison with one rank failed. */
    @Override
    public boolean passed() {
        return comparison == null || comparison.passed();
    }

    /** A JDK without fonts or a class path without XChart cannot draw, and that is no reason to lose the results. */
    @Override
    public List<Path> draw(Path folder, PrintWriter console) throws IOException {
        Path file = folder.resolve("loss.png");
        try {
            LossChart.write(
                    file,
                    text.stream().map(Path::of).toList(),
                    settings.mesh().worldSize(),
                    (int) stepsBefore(),
                    steps);
            return List.of(file);
        } catch (LinkageError | InternalError | RuntimeException e) {
            console.println("No loss.png: it cannot be drawn here (" + e + ").");
            return List.of();
        }
    }

    /** Prints loss, rate, memory and the comparison. */
    @Override
    public void print(PrintWriter out) {
        out.printf(
                Locale.ROOT,
                "Loss        %.4f -> %.4f nats per byte in %d %s; %,.0f tokens/s%n",
                firstLoss,
                lastLoss,
                steps.size(),
                steps.size() == 1 ? "step" : "steps",
                tokensPerSecond);
        out.printf(
                Locale.ROOT,
                "Memory      %s in the process half-way, %s at the end; %,d parameters on each rank%n",
                Quantity.bytes(steps.get(steps.size() / 2).residentBytes()),
                Quantity.bytes(steps.get(steps.size() - 1).residentBytes()),
                parameters);
        if (comparison != null) {
            out.printf(
                    Locale.ROOT,
                    "1 rank      largest difference of the loss %.1e (allowed %.0e), of a gradient %.1e (allowed %.0e;"
                            + " %s, step %d)%s: %s%n",
                    comparison.lossDifference(),
                    comparison.lossBar(),
                    comparison.gradientDifference(),
                    comparison.gradientBar(),
                    comparison.parameter(),
                    comparison.step(),
                    judgement(),
                    comparison.passed() ? "equal" : "NOT EQUAL");
        }
    }

    private String judgement() {
        return comparison.judged() == 0
                ? ""
                : String.format(
                        Locale.ROOT,
                        "; the %d that differ by more are %.1f times as far from float64 as one rank's on average"
                                + " (allowed %.0f%s), %.1f times at worst"
                                + " (allowed %.0f)",
                        comparison.judged(),
                        comparison.meanRatio(),
                        comparison.meanBar(),
                        comparison.judged() < Comparison.MANY ? " from " + Comparison.MANY + " on" : "",
                        comparison.worstRatio(),
                        comparison.worstBar());
    }
}
