package org.flashring.device;

import org.bytedeco.javacpp.Pointer;
import org.flashring.internal.Checks;
import org.flashring.internal.Cudart;

/**
 * An owner of a CUDA device's memory, or a view of somebody else's. Copies run in the order of a stream and the host
 * does not wait for them, unless the host side is pageable memory; either side must stay until the stream has passed
 * the copy.
 */
public final class DeviceBuffer extends OwnedMemory {
    private static final Runnable NOTHING = () -> {};

    private final Runnable free; // of what it owns

    private DeviceBuffer(Device device, long address, long bytes, Runnable free) {
        super(device, address, bytes);
        this.free = free;
    }

    /**
     * Returns {@code bytes} bytes on {@code device}, not cleared, 256-byte aligned. 0 bytes are allowed.
     *
     * @throws IllegalArgumentException if {@code bytes} is negative, or {@code device} is not a CUDA device of this
     *     process
     * @throws UnsupportedOperationException if there is no CUDA
     * @throws OutOfMemoryError if the device has no such memory
     */
    public static DeviceBuffer allocate(Device device, long bytes) {
        Checks.atLeast("bytes", bytes, 0);
        int previous = CurrentDevice.enter(Cuda.requireCuda("device", device));
        try {
            long address = Cudart.malloc(Math.max(bytes, 1));
            return adopt(device, address, bytes, () -> DeferredFrees.free(device, () -> Cudart.free(address)));
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    /**
     * Returns a view of {@code bytes} bytes at a device address that stays somebody else's; closing it frees nothing.
     */
    public static DeviceBuffer wrap(Device device, long address, long bytes) {
        Checks.atLeast("address", address, 1);
        Checks.atLeast("bytes", bytes, 0);
        return adopt(Cuda.requireCuda("device", device), address, bytes, NOTHING);
    }

    /** Returns an owner of {@code bytes} bytes of {@code device} that {@code free} gives back. */
    public static DeviceBuffer adopt(Device device, long address, long bytes, Runnable free) {
        return new DeviceBuffer(device, address, bytes, free);
    }

    /**
     * Copies {@code count} bytes at the host address {@code from} to the start of this buffer, in the order of
     * {@code stream}.
     *
     * @throws IllegalArgumentException if they do not fit
     */
    public void copyFromHost(long from, long count, long stream) {
        checkCount(count);
        onDevice(() -> Cudart.copy(address(), Checks.atLeast("from", from, 1), count, stream));
    }

    /**
     * Copies the first {@code count} bytes of this buffer to the host address {@code to}, in the order of
     * {@code stream}.
     */
    public void copyToHost(long to, long count, long stream) {
        checkCount(count);
        onDevice(() -> Cudart.copy(Checks.atLeast("to", to, 1), address(), count, stream));
    }

    /** Copies what {@code from} points to, of the size of this buffer at most, and waits for it. */
    public void upload(Pointer from) {
        long count = checkCount((from.limit() - from.position()) * from.sizeof());
        copyFromHost(from.address() + from.position() * from.sizeof(), count, 0);
        onDevice(() -> Cudart.synchronizeStream(0));
    }

    /** Copies to what {@code to} points to, of the size of this buffer at most, and waits for it. */
    public void download(Pointer to) {
        long count = checkCount((to.limit() - to.position()) * to.sizeof());
        copyToHost(to.address() + to.position() * to.sizeof(), count, 0);
        onDevice(() -> Cudart.synchronizeStream(0));
    }

    /** Sets every byte to the low byte of {@code value}, in the order of {@code stream}. */
    public void fill(int value, long stream) {
        onDevice(() -> Cudart.fill(address(), value, bytes(), stream));
    }

    /** Runs a call for which stream 0 stands for the default stream of this buffer's device. */
    private void onDevice(Runnable call) {
        int previous = CurrentDevice.enter(device());
        try {
            call.run();
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    private long checkCount(long count) {
        return Checks.between("count", count, 0, bytes());
    }

    @Override
    void free(long ownedAddress) {
        free.run();
    }
}
