package org.flashring.cli.support;

import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;

/**
 * What a command still does when a signal ends the process: Ctrl-C, a kill, a closed terminal. The process then halts
 * with 128 plus the signal's number, as shells have it. It does not exit, since PyTorch's destructors crash beside its
 * threads at work. A second signal halts at once, unless a launcher started the process.
 */
public final class Interruption implements AutoCloseable {
    private final Runnable last;
    private final AtomicBoolean over = new AtomicBoolean();
    private final EndingSignals signals;

    /** Has {@code last} done, on a thread of its own, when a signal comes before {@link #close()}. */
    public Interruption(Runnable last) {
        this.last = last;
        this.signals = new EndingSignals(this::end, () -> {});
    }

    private void end(int exitCode) {
        try {
            if (over.compareAndSet(false, true)) {
                last.run();
            }
        } finally {
            Runtime.getRuntime().halt(exitCode);
        }
    }

    /** Gives the signals back. Does not return if one came first: the process is about to end. */
    @Override
    public void close() {
        while (!over.compareAndSet(false, true)) {
            LockSupport.park();
        }
        signals.close();
    }
}
