package org.flashring.device;

import org.flashring.internal.Checks;
import org.flashring.internal.Native;

/** An owner of host memory outside the Java heap, 64-byte aligned. */
public final class HostBuffer extends OwnedMemory {
    private HostBuffer(long address, long bytes) {
        super(Device.HOST, address, bytes);
    }

    /**
     * Returns {@code bytes} bytes of memory, not cleared. 0 bytes are allowed.
     *
     * @throws IllegalArgumentException if {@code bytes} is negative
     * @throws OutOfMemoryError if the system has no such memory
     */
    public static HostBuffer allocate(long bytes) {
        Checks.atLeast("bytes", bytes, 0);
        long address = Native.hostAllocate(Math.max(bytes, 1));
        if (address == 0) {
            throw new OutOfMemoryError("no host memory for " + bytes + " bytes");
        }
        return new HostBuffer(address, bytes);
    }

    @Override
    void free(long ownedAddress) {
        Native.hostFree(ownedAddress);
    }
}
