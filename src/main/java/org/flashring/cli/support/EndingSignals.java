package org.flashring.cli.support;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.IntConsumer;
import org.jline.utils.Signals;

/**
 * The signals that ask a process to end: Ctrl-C, a kill, a closed terminal. A second one halts it at once, with 128
 * plus the signal's number, as shells have it. Not so where a launcher started it: that passes on what a terminal may
 * have sent already, and ends all its processes at a second one.
 */
final class EndingSignals implements AutoCloseable {
    private static final Map<String, Integer> SIGNALS = Map.of("HUP", 1, "INT", 2, "TERM", 15);

    private final AtomicBoolean came = new AtomicBoolean();
    private final Map<String, Object> before = new HashMap<>();

    /**
     * Takes them until it is closed.
     *
     * @param first told of the first one, as an exit code, on a thread of its own
     * @param last done before a second one halts the process
     */
    EndingSignals(IntConsumer first, Runnable last) {
        boolean launched = Launched.of(System.getenv()) != null;
        SIGNALS.forEach((name, number) -> before.put(name, Signals.register(name, () -> {
            if (came.compareAndSet(false, true)) {
                first.accept(128 + number);
            } else if (!launched) {
                last.run();
                Runtime.getRuntime().halt(128 + number);
            }
        })));
    }

    /** Gives the signals back. */
    @Override
    public void close() {
        before.forEach(Signals::unregister);
    }
}
