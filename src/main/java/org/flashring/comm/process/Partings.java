package org.flashring.comm.process;

import java.io.IOException;
import java.nio.channels.Selector;
import java.util.concurrent.locks.LockSupport;

/** How a rank leaves. */
final class Partings {
    private static final long PATIENCE_NANOS = 1_000_000_000; // who reads nothing is not waited for longer
    private static final long RETRY_NANOS = 1_000_000;

    private Partings() {}

    /** Says goodbye on all lanes and sees what has been put on its way. */
    static void say(Lane[] lanes) {
        long start = System.nanoTime();
        for (Lane lane : lanes) {
            if (lane != null) {
                Header goodbye = new Header();
                goodbye.set(Header.GOODBYE, 0, 0, 0, "");
                while (!(goodbye.isWhole() && lane.isFlushed())
                        && !lane.connectionEnded()
                        && System.nanoTime() - start < PATIENCE_NANOS) {
                    boolean moved = !goodbye.isWhole() && goodbye.put(lane);
                    if (!lane.pump() && !moved) {
                        LockSupport.parkNanos(RETRY_NANOS);
                    }
                }
            }
        }
    }

    /** Ends a thread that sleeps in a selector, and that. */
    static void end(Thread thread, Selector selector) {
        boolean interrupted = false;
        while (thread.isAlive()) {
            selector.wakeup();
            try {
                thread.join();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        close(selector);
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    static void close(Selector selector) {
        try {
            selector.close();
        } catch (IOException e) {
            // nothing is left to be lost
        }
    }
}
