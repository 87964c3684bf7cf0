package org.flashring.attention;

import java.util.concurrent.atomic.AtomicBoolean;
import org.flashring.device.CurrentDevice;
import org.flashring.device.Device;

/**
 * Lets one thread at a time into an operation, and none after its close; whoever is inside has its device as the
 * current one.
 */
public final class Entrance {
    private final String name;
    private final String owner;
    private final Device device;
    private final AtomicBoolean busy = new AtomicBoolean();
    private volatile boolean closed;

    /** {@code owner} follows the name where it is said to be closed, such as " of rank 2". */
    public Entrance(String name, String owner, Device device) {
        this.name = name;
        this.owner = owner;
        this.device = device;
    }

    /** Returns what {@link #leave} wants afterwards. */
    public int enter() {
        if (!busy.compareAndSet(false, true)) {
            throw new IllegalStateException("another thread is inside this " + name + "; each thread needs its own");
        }
        try {
            requireOpen();
            return CurrentDevice.enter(device);
        } catch (RuntimeException | Error e) {
            busy.set(false);
            throw e;
        }
    }

    /** Throws after the close. */
    public void requireOpen() {
        if (closed) {
            throw new IllegalStateException("the " + name + owner + " is closed");
        }
    }

    public void leave(int current) {
        CurrentDevice.leave(current);
        busy.set(false);
    }

    /** Runs {@code free} the first time. */
    public void close(Runnable free) {
        if (!busy.compareAndSet(false, true)) {
            throw new IllegalStateException("another thread is inside this " + name + "; it cannot be closed yet");
        }
        if (!closed) {
            closed = true;
            free.run();
        }
        busy.set(false);
    }
}
