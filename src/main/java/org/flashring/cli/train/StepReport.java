package org.flashring.cli.train;

import java.io.PrintWriter;
import java.util.List;
import java.util.Locale;
import java.util.function.Consumer;
import org.flashring.cli.Progress;

/** Tells of steps as they are done: beside the bar on a terminal, else in about ten lines a run. */
final class StepReport implements Consumer<Training.Step> {
    private static final int LINES = 10;

    private final Settings settings;
    private final Progress progress;
    private final PrintWriter console;
    private int step;

    StepReport(Settings settings, Progress progress, PrintWriter console) {
        this.settings = settings;
        this.progress = progress;
        this.console = console;
    }

    @Override
    public void accept(Training.Step done) {
        step++;
        String line = String.format(Locale.ROOT, "loss %.4f, %,.0f tokens/s", done.loss(), tokens() / done.seconds());
        progress.step(line);
        if (!progress.isShown() && (step == 1 || step == settings.steps() || step % Math.max(1, settings.steps() / LINES) == 0)) {
            console.printf("step %d of %d: %s%n", step, settings.steps(), line);
            console.flush();
        }
    }

    /** Returns the rate of the median step, over all ranks. */
    double tokensPerSecond(List<Training.Step> steps) {
        double[] seconds = steps.stream().mapToDouble(Training.Step::seconds).sorted().toArray();
        return tokens() / seconds[seconds.length / 2];
    }

    private double tokens() {
        return (double) settings.batch() * settings.context();
    }
}
