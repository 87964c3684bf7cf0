package org.flashring.device;

import org.flashring.internal.Checks;

/**
 * Where memory lies and kernels run.
 *
 * @param ordinal -1 for the host, else the number of a CUDA device in this process; also what the native interface
 *     calls it
 */
public record Device(int ordinal) {
    /** The host: ordinary memory and CPU kernels. */
    public static final Device HOST = new Device(-1);

    /**
     * @throws IllegalArgumentException if the ordinal is below -1; whether the device exists is asked when it is used
     */
    public Device {
        Checks.atLeast("ordinal", ordinal, -1);
    }

    /** Returns the CUDA device of the given number, at least 0. */
    public static Device cuda(int ordinal) {
        Checks.atLeast("ordinal", ordinal, 0);
        return new Device(ordinal);
    }

    /** Returns whether this is a CUDA device. */
    public boolean isCuda() {
        return ordinal >= 0;
    }

    @Override
    public String toString() {
        return isCuda() ? "cuda:" + ordinal : "host";
    }
}
