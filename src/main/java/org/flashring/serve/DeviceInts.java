package org.flashring.serve;

import org.bytedeco.javacpp.IntPointer;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.HostBuffer;
import org.flashring.device.Memory;
import org.flashring.internal.Cudart;
import org.flashring.internal.Made;
import org.flashring.internal.RawPointer;

/** Numbers of 32 bits that kernels read, and the host's copy of them: on the host one and the same. */
final class DeviceInts implements AutoCloseable {
    private final HostBuffer host;
    private final IntPointer values;
    private final DeviceBuffer device; // null on the host

    /** Makes {@code zeros} zeros, and behind them {@code nones} times -1. */
    DeviceInts(Device where, long zeros, long nones) {
        long count = zeros + nones;
        try (Made made = new Made()) {
            this.host = made.add(HostBuffer.allocate(count * Integer.BYTES));
            this.values = new IntPointer(new RawPointer().at(host.address())).capacity(count);
            for (long i = 0; i < count; i++) {
                values.put(i, i < zeros ? 0 : -1);
            }
            this.device = where.isCuda() ? made.add(DeviceBuffer.allocate(where, host.bytes())) : null;
            if (device != null && count > 0) {
                device.upload(values);
            }
            made.keep();
        }
    }

    /** Returns the address of a number on the device. */
    long address(long index) {
        return (device == null ? host.address() : device.address()) + index * Integer.BYTES;
    }

    Memory memory(long index, long count) {
        Memory all = device == null ? host.memory() : device.memory();
        return all.slice(index * Integer.BYTES, count * Integer.BYTES);
    }

    int get(long index) {
        return values.get(index);
    }

    /** Sets a number on the host; {@link #upload} brings it to the device. */
    void put(long index, int value) {
        values.put(index, value);
    }

    /** Returns whether work given to {@code stream} goes into a CUDA graph. */
    boolean isCapturing(long stream) {
        return device != null && Cudart.isCapturing(stream);
    }

    /**
     * Returns if numbers can be brought to the device in the order of {@code stream}, before they are changed.
     *
     * @throws IllegalStateException if the stream is being captured: replays would bring what is there by then
     */
    void requireUploads(long stream) {
        if (isCapturing(stream)) {
            throw new IllegalStateException("the stream is being captured in a CUDA graph, which cannot take pages or"
                    + " new lengths: reserve what the graph needs before");
        }
    }

    /** Brings numbers to the device, in the order of {@code stream}; the host's may be changed at once. */
    void upload(long first, long count, long stream) {
        if (device == null || count == 0) {
            return;
        }
        Cudart.copy(address(first), host.address() + first * Integer.BYTES, count * Integer.BYTES, stream);
    }

    @Override
    public void close() {
        if (device != null) {
            device.close();
        }
        host.close();
    }
}
