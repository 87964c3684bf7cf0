package org.flashring.cli.support;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import me.tongfei.progressbar.ConsoleProgressBarConsumer;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarStyle;

/** A progress bar on stderr, where that is a terminal; silent where it is a file or a pipe. */
public final class Progress implements AutoCloseable {
    private final ProgressBar bar;

    /** Starts a bar of {@code steps} steps. */
    public Progress(String task, long steps) {
        this.bar = onTerminal()
                ? new ProgressBarBuilder()
                        .setTaskName(task)
                        .setInitialMax(steps)
                        .setStyle(ProgressBarStyle.ASCII)
                        .setUpdateIntervalMillis(200)
                        .setConsumer(new ConsoleProgressBarConsumer(System.err))
                        .clearDisplayOnFinish()
                        .build()
                : null;
    }

    /** Returns whether there is a terminal to show the bar on. */
    public boolean isShown() {
        return bar != null;
    }

    /** Counts one step as done, and shows {@code message} beside the bar. */
    public void step(String message) {
        if (bar != null) {
            bar.setExtraMessage(" " + message);
            bar.step();
        }
    }

    /** Counts one step as done. */
    public void step() {
        if (bar != null) {
            bar.step();
        }
    }

    /** System.console() tells of stdin and stdout only. */
    private static boolean onTerminal() {
        try {
            Path stderr = Files.readSymbolicLink(Path.of("/proc/self/fd/2"));
            return stderr.startsWith("/dev/pts") || stderr.toString().matches("/dev/(tty|console).*");
        } catch (IOException e) {
            return false;
        }
    }

    /** Removes the bar. */
    @Override
    public void close() {
        if (bar != null) {
            bar.close();
        }
    }
}
