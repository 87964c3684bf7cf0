package org.flashring.comm.transport;

import org.flashring.DType;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.kernel.TensorMath;

/** Sums over ranks whose memory this one can read, in rank order, in the order of the stream of its math. */
public final class RankSum implements AutoCloseable {
    private final Device device;
    private final TensorMath math;
    private final int chunk;
    private OwnedMemory sums; // made by the first one

    /** Makes it for {@code device}; {@code math} stays the caller's. */
    public RankSum(Device device, TensorMath math) {
        this.device = device;
        this.math = math;
        chunk = device.isCuda() ? 4 << 20 : 16 << 10; // few launches; fits a core's cache
    }

    /**
     * Sums {@code count} elements at {@code from} of every rank, in rank order, and puts the sum at every {@code to}.
     */
    public void sum(long[] from, long[] to, long count, DType dtype) {
        if (sums == null) {
            sums = OwnedMemory.allocate(device, (long) chunk * Double.BYTES);
        }
        DType wide = dtype.accumulator();
        for (long start = 0; start < count; start += chunk) {
            long length = Math.min(chunk, count - start);
            long offset = start * dtype.bytes();
            math.convert(sums.address(), wide, from[0] + offset, dtype, length);
            for (int peer = 1; peer < from.length; peer++) {
                math.add(sums.address(), wide, from[peer] + offset, dtype, length);
            }
            for (long target : to) {
                math.convert(target + offset, dtype, sums.address(), wide, length);
            }
        }
    }

    @Override
    public void close() {
        if (sums != null) {
            sums.close();
        }
    }
}
