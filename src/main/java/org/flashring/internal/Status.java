package org.flashring.internal;

/** Turns a native status into the exception it stands for. */
public final class Status {
    private Status() {}

    /**
     * Returns if {@code status} is OK.
     *
     * @throws IllegalArgumentException if an argument breaks a rule
     * @throws UnsupportedOperationException if no kernel serves the combination
     * @throws OutOfMemoryError if memory ran out
     * @throws IllegalStateException if the device failed, possibly in an earlier, asynchronous call
     */
    public static void check(int status) {
        if (status == Native.OK) {
            return;
        }
        String message = Native.lastError();
        switch (status) {
            case Native.INVALID_ARGUMENT -> throw new IllegalArgumentException(message);
            case Native.UNSUPPORTED -> throw new UnsupportedOperationException(message);
            case Native.OUT_OF_MEMORY -> throw new OutOfMemoryError(message);
            default -> throw new IllegalStateException(message);
        }
    }
}
