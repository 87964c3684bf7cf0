package org.flashring.cli.train;

import java.io.PrintWriter;
import java.util.Locale;
import java.util.function.Consumer;
import org.flashring.cli.support.Progress;

/** Tells of steps as they are done: beside a bar on a terminal, else in about ten lines a run. */
final class StepReport implements Consumer<Training.Step>, AutoCloseable {
    private static final int LINES = 10;

    private final Settings settings;
    private final PrintWriter console;
    private Progress progress;
    private int step;
    private boolean closed;

    StepReport(Settings settings, PrintWriter console) {
        this.settings = settings;
        this.console = console;
    }

    /** Shows the bar, under what has been printed. */
    synchronized void begin() {
        console.flush();
        progress = closed ? null : new Progress("train", settings.steps());
    }

    /** Counts steps as done that a checkpoint had done before. */
    synchronized void startAt(int done) {
        step = done;
        for (int i = 0; i < done && progress != null; i++) {
            progress.step();
        }
    }

    @Override
    public void accept(Training.Step done) {
        accept(done, String.format(Locale.ROOT, "%,.0f tokens/s", settings.tokens() / done.seconds()));
    }

    /** As the other one, with more to say than the rate. */
    synchronized void accept(Training.Step done, String more) {
        if (closed) {
            return; // a step was under way when the run was interrupted
        }
        step++;
        String line = String.format(Locale.ROOT, "loss %.4f, %s", done.loss(), more);
        progress.step(line);
        if (!progress.isShown()
                && (step == 1 || step == settings.steps() || step % Math.max(1, settings.steps() / LINES) == 0)) {
            console.printf(Locale.ROOT, "step %d of %d: %s%n", step, settings.steps(), line);
            console.flush();
        }
    }

    /** Says, under what the bar shows, that a signal stops the run. */
    synchronized void stopping() {
        if (!closed) {
            console.print(progress != null && progress.isShown() ? System.lineSeparator() : "");
            console.println("Stopping after this step, with a checkpoint; a second Ctrl-C ends it at once.");
            console.flush();
        }
    }

    /** Removes the bar, and says no more. */
    @Override
    public synchronized void close() {
        closed = true;
        if (progress != null) {
            progress.close();
        }
    }
}
