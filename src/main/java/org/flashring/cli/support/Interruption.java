package org.flashring.cli.support;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;
import org.jline.utils.Signals;

/**
 * What a command still does when a signal ends the process: Ctrl-C, a kill, a closed terminal. The process then halts
 * with 128 plus the signal's number, as shells have it. It does not exit, since PyTorch's destructors crash beside its
 * threads at work. A second signal halts at once.
 */
public final class Interruption implements AutoCloseable {
    private static final Map<String, Integer> SIGNALS = Map.of("HUP", 1, "INT", 2, "TERM", 15);

    private final Runnable last;
    private final AtomicBoolean over = new AtomicBoolean();
    private final Map<String, Object> before = new HashMap<>();

    /** Has {@code last} done, on a thread of its own, when a signal comes before {@link #close()}. */
    public Interruption(Runnable last) {
        this.last = last;
        SIGNALS.forEach((name, number) -> before.put(name, Signals.register(name, () -> end(128 + number))));
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
        before.forEach(Signals::unregister);
    }
}
