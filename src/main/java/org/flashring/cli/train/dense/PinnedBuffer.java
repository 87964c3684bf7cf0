package org.flashring.cli.train.dense;

import static org.bytedeco.cuda.global.cudart.cudaGetErrorName;
import static org.bytedeco.cuda.global.cudart.cudaGetLastError;
import static org.bytedeco.cuda.global.cudart.cudaHostRegister;
import static org.bytedeco.cuda.global.cudart.cudaHostRegisterPortable;
import static org.bytedeco.cuda.global.cudart.cudaHostUnregister;
import static org.bytedeco.cuda.global.cudart.cudaSuccess;

import java.util.stream.LongStream;
import org.flashring.device.CurrentDevice;
import org.flashring.device.Device;
import org.flashring.device.HostBuffer;

/** Host memory that stays in its place, so that a GPU copies to it and from it without the host. */
final class PinnedBuffer implements AutoCloseable {
    private static final long PAGE = 4096;

    private final Device device;
    private final HostBuffer memory;

    /**
     * Pins {@code bytes} bytes for {@code device}.
     *
     * @throws OutOfMemoryError if the host has no such memory, or the system does not let it be pinned
     */
    PinnedBuffer(Device device, long bytes) {
        this.device = device;
        this.memory = HostBuffer.allocate(bytes);
        // CUDA would have pages made by one thread, which takes minutes for hundreds of GB.
        LongStream.range(0, bytes / PAGE).parallel().forEach(page -> HostOps.view()
                .putDouble(memory.address() + page * PAGE, 0));
        int previous = CurrentDevice.enter(device);
        try {
            int status = bytes == 0
                    ? cudaSuccess
                    : cudaHostRegister(new DeviceAddress().at(memory.address()), bytes, cudaHostRegisterPortable);
            if (status != cudaSuccess) {
                cudaGetLastError(); // the device stays usable
                memory.close();
                throw new OutOfMemoryError(bytes + " bytes of host memory cannot be pinned for " + device + ": "
                        + cudaGetErrorName(status).getString());
            }
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    long address() {
        return memory.address();
    }

    @Override
    public void close() {
        int previous = CurrentDevice.enter(device);
        try {
            int status =
                    memory.bytes() == 0 ? cudaSuccess : cudaHostUnregister(new DeviceAddress().at(memory.address()));
            if (status != cudaSuccess) {
                throw new IllegalStateException("cudaHostUnregister failed with "
                        + cudaGetErrorName(status).getString());
            }
        } finally {
            CurrentDevice.leave(previous);
        }
        memory.close();
    }
}
