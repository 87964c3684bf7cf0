package org.flashring.support;

import java.util.IdentityHashMap;
import java.util.Map;
import org.bytedeco.javacpp.BytePointer;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;

/** Copies of test buffers on a CUDA device, fences included; on the host the buffers themselves. */
public final class DeviceCopies implements AutoCloseable {
    private final Device device;
    private final Map<FencedBuffer, DeviceBuffer> copies = new IdentityHashMap<>();

    public DeviceCopies(Device device) {
        this.device = device;
    }

    /** Returns the tensor on the device, its buffer copied there as it is now if it was not before. */
    public Tensor tensor(TestTensor tensor) {
        return device.isCuda() ? tensor.tensor(copy(tensor.buffer()).address(), device) : tensor.tensor();
    }

    /** Returns the address of the buffer's first element on the device. */
    public long address(FencedBuffer buffer) {
        return device.isCuda()
                ? copy(buffer).address() + buffer.offset(0)
                : buffer.memory(0).address();
    }

    private DeviceBuffer copy(FencedBuffer buffer) {
        return copies.computeIfAbsent(buffer, source -> {
            DeviceBuffer copy = DeviceBuffer.allocate(device, source.whole().capacity());
            copy.upload(new BytePointer(source.whole()));
            return copy;
        });
    }

    /** Brings everything back. The caller has waited for the work on the device. */
    public void download() {
        copies.forEach((buffer, copy) -> copy.download(new BytePointer(buffer.whole())));
    }

    @Override
    public void close() {
        copies.values().forEach(DeviceBuffer::close);
    }
}
