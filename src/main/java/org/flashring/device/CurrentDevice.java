package org.flashring.device;

import org.flashring.internal.Cudart;

/**
 * This thread's current CUDA device, around a piece of work. Host work touches nothing of CUDA, not even the preset's
 * classes.
 */
public final class CurrentDevice {
    private static final int ON_HOST = -1;

    private CurrentDevice() {}

    /**
     * Makes {@code device} current for this thread; nothing for the host. Returns what {@link #leave} wants afterwards.
     */
    public static int enter(Device device) {
        return device.isCuda() ? Cudart.makeCurrent(device.ordinal()) : ON_HOST;
    }

    /** Makes the device current again that was before {@link #enter}. */
    public static void leave(int previous) {
        if (previous != ON_HOST) {
            Cudart.makeCurrent(previous);
        }
    }
}
