package org.flashring;

import org.flashring.internal.Native;
import org.flashring.internal.Status;

/**
 * The CPU workers of this process, shared by all operations and ranks of it: the number of threads that one kernel call
 * may use.
 *
 * <p>Unless set, it is {@code FLASHRING_THREADS} from the environment, or else {@link Runtime#availableProcessors()}
 * when the library is loaded, which heeds affinity, the CPU quota of a container and {@code -XX:ActiveProcessorCount}.
 * Results do not depend on it.
 */
public final class Threads {
    private Threads() {}

    /**
     * Returns the number of threads, from 1 to 1024.
     *
     * @throws IllegalArgumentException if {@code FLASHRING_THREADS} is set to anything but a whole number from 1 to
     *     1024
     * @throws UnsatisfiedLinkError if the native library cannot be loaded
     */
    public static int get() {
        int threads = Native.threads();
        if (threads == 0) {
            throw new IllegalArgumentException(Native.lastError());
        }
        return threads;
    }

    /**
     * Sets the number of threads, whatever the environment says. Calls under way may keep what they have.
     *
     * @throws IllegalArgumentException unless {@code threads} lies from 1 to 1024
     * @throws UnsatisfiedLinkError if the native library cannot be loaded
     */
    public static void set(int threads) {
        Status.check(Native.setThreads(threads));
    }
}
