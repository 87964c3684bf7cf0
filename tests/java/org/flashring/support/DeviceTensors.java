package org.flashring.support;

import java.util.ArrayList;
import java.util.List;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;

/** Device memory of one small value, and tensors in it. */
public final class DeviceTensors implements AutoCloseable {
    private final Device device;
    private final List<DeviceBuffer> buffers = new ArrayList<>();

    public DeviceTensors(Device device) {
        this.device = device;
    }

    /** Returns {@code bytes} bytes that read as about 0.01 in bfloat16 and in float32. */
    public DeviceBuffer memory(long bytes) {
        DeviceBuffer buffer = DeviceBuffer.allocate(device, bytes);
        buffers.add(buffer);
        buffer.fill(0x3C, 0);
        return buffer;
    }

    /** Returns a tensor [1, tokens, heads, dim] of bfloat16. */
    public Tensor make(long tokens, long heads, long dim) {
        return Tensor.bshd(memory(tokens * heads * dim * 2).memory(), DType.BFLOAT16, 1, tokens, heads, dim);
    }

    /** Returns the LSE of such a tensor. */
    public Tensor lse(long tokens, long heads) {
        return Tensor.lse(memory(tokens * heads * 4).memory(), DType.FLOAT32, 1, heads, tokens);
    }

    @Override
    public void close() {
        buffers.forEach(DeviceBuffer::close);
    }
}
