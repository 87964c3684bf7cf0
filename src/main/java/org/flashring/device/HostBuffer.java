package org.flashring.device;

import org.flashring.Memory;
import org.flashring.internal.Checks;
import org.flashring.internal.Native;

/** An owner of host memory outside the Java heap, 64-byte aligned. Closing twice is harmless; use after close throws. */
public final class HostBuffer implements AutoCloseable {
    private final long bytes;
    private long address;

    private HostBuffer(long address, long bytes) {
        this.address = address;
        this.bytes = bytes;
    }

    /**
     * Returns {@code bytes} bytes of memory, not cleared. 0 bytes are allowed.
     *
     * @throws IllegalArgumentException if {@code bytes} is negative
     * @throws OutOfMemoryError         if the system has no such memory
     */
    public static HostBuffer allocate(long bytes) {
        Checks.atLeast("bytes", bytes, 0);
        long address = Native.hostAllocate(Math.max(bytes, 1));
        if (address == 0) {
            throw new OutOfMemoryError("no host memory for " + bytes + " bytes");
        }
        return new HostBuffer(address, bytes);
    }

    /**
     * Returns the address of the first byte.
     *
     * @throws IllegalStateException after close
     */
    public synchronized long address() {
        if (address == 0) {
            throw new IllegalStateException("the buffer of " + bytes + " bytes is closed");
        }
        return address;
    }

    /** Returns the size in bytes. */
    public long bytes() {
        return bytes;
    }

    /** Returns whether the buffer has been closed. */
    public synchronized boolean isClosed() {
        return address == 0;
    }

    /** Returns the buffer as memory that tensors can be laid over; operations refuse them after close. */
    public Memory memory() {
        return Memory.of(this);
    }

    @Override
    public synchronized void close() {
        Native.hostFree(address);
        address = 0;
    }
}
