package org.flashring.device;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Frees of device memory that are put off while work on the device is aborted: CUDA would make the thread that frees
 * wait for that work, for ever if it hangs.
 */
public final class DeferredFrees {
    private static final class Held {
        final List<Runnable> frees = new ArrayList<>();
        int holders;
    }

    private static final Map<Device, Held> HELD = new HashMap<>();

    private DeferredFrees() {}

    /** Lets frees on {@code device} wait until as many have called {@link #release}. */
    public static synchronized void hold(Device device) {
        HELD.computeIfAbsent(device, key -> new Held()).holders++;
    }

    /** Runs what has waited, on this thread, if nobody else holds the device. */
    public static void release(Device device) {
        List<Runnable> frees = List.of();
        synchronized (DeferredFrees.class) {
            Held held = HELD.get(device);
            if (--held.holders == 0) {
                HELD.remove(device);
                frees = held.frees;
            }
        }
        frees.forEach(Runnable::run);
    }

    /** Runs {@code free} now, or when {@code device} is released if it is held. */
    public static void free(Device device, Runnable free) {
        synchronized (DeferredFrees.class) {
            Held held = HELD.get(device);
            if (held != null) {
                held.frees.add(free);
                return;
            }
        }
        free.run();
    }
}
