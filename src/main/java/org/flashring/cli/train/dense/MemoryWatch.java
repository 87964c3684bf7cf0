package org.flashring.cli.train.dense;

import org.bytedeco.javacpp.Pointer;
import org.flashring.device.Cuda;
import org.flashring.device.Device;

/**
 * What memory is in use since it began to watch, as the system counts it: of the process on the host, of all processes
 * on a CUDA device.
 */
public final class MemoryWatch {
    private final Device device;
    private final long before;

    /** Begins. */
    public MemoryWatch(Device device) {
        this.device = device;
        this.before = inUse();
    }

    private long inUse() {
        if (device.isCuda()) {
            Cuda.MemoryFigures memory = Cuda.memory(device);
            return memory.total() - memory.free();
        }
        return Pointer.physicalBytes();
    }

    /** Returns the bytes that have been taken since then and are still in use. */
    public long bytes() {
        return Math.max(0, inUse() - before);
    }
}
