package org.flashring.cli.support;

/**
 * Whether a signal has asked a command to stop where it can: Ctrl-C, a kill, a closed terminal. A second one halts the
 * process at once; where a launcher started it, that is the launcher's to do.
 */
public final class StopRequest implements AutoCloseable {
    private final EndingSignals signals;
    private volatile int exitCode;

    /**
     * Waits for signals until it is closed.
     *
     * @param asked done when the first one comes, on a thread of its own
     * @param last done before a second one halts the process
     */
    public StopRequest(Runnable asked, Runnable last) {
        this.signals = new EndingSignals(
                code -> {
                    exitCode = code;
                    asked.run();
                },
                last);
    }

    /** Returns whether a signal came. */
    public boolean isAsked() {
        return exitCode != 0;
    }

    /** Returns the exit code of a process that stopped for it, 128 plus the signal's number; 0 before. */
    public int exitCode() {
        return exitCode;
    }

    @Override
    public void close() {
        signals.close();
    }
}
