package org.flashring.device;

import org.flashring.internal.Checks;

/** An owner of memory on one device. Closing twice is harmless; use after close throws. */
public abstract sealed class OwnedMemory implements AutoCloseable permits HostBuffer, DeviceBuffer {
    private final Device device;
    private final long bytes;
    private long address;

    OwnedMemory(Device device, long address, long bytes) {
        this.device = device;
        this.address = address;
        this.bytes = bytes;
    }

    /**
     * Returns {@code bytes} bytes on {@code device}, not cleared. 0 bytes are allowed.
     *
     * @throws IllegalArgumentException if {@code bytes} is negative, or there is no such device
     * @throws UnsupportedOperationException if the device is CUDA's and there is no CUDA
     * @throws OutOfMemoryError if the device has no such memory
     */
    public static OwnedMemory allocate(Device device, long bytes) {
        return Checks.notNull("device", device).isCuda()
                ? DeviceBuffer.allocate(device, bytes)
                : HostBuffer.allocate(bytes);
    }

    /** Returns the device that the memory lies on. */
    public final Device device() {
        return device;
    }

    /**
     * Returns the address of the first byte.
     *
     * @throws IllegalStateException after close
     */
    public final synchronized long address() {
        if (address == 0) {
            throw new IllegalStateException("the buffer of " + bytes + " bytes on " + device + " is closed");
        }
        return address;
    }

    /** Returns the size in bytes. */
    public final long bytes() {
        return bytes;
    }

    /** Returns whether the buffer has been closed. */
    public final synchronized boolean isClosed() {
        return address == 0;
    }

    /** Returns the buffer as memory that tensors can be laid over; operations refuse them after close. */
    public final Memory memory() {
        return Memory.of(this);
    }

    @Override
    public final synchronized void close() {
        if (address != 0) {
            free(address);
            address = 0;
        }
    }

    abstract void free(long ownedAddress);
}
