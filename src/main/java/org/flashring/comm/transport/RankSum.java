package org.flashring.comm.transport;

import org.flashring.DType;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.kernel.TensorMath;

/** Sums over ranks' memory, in rank order, in the order of the stream of its math. */
public final class RankSum implements AutoCloseable {
    private final Device device;
    private final TensorMath math;
    private final boolean reaches;
    private final int chunk;
    private OwnedMemory sums; // made by the first one
    private OwnedMemory staged; // a part of a peer's, where kernels cannot read it; made by the first one

    /**
     * Makes it for {@code device}; {@code math} stays the caller's.
     *
     * @param reaches whether kernels can read and write the memory of all ranks; if not, all but this rank's own is
     *     copied to it and from it
     */
    public RankSum(Device device, TensorMath math, boolean reaches) {
        this.device = device;
        this.math = math;
        this.reaches = reaches;
        chunk = device.isCuda() ? 4 << 20 : 16 << 10; // few launches; fits a core's cache
    }

    /**
     * Sums {@code count} elements at {@code from} of every rank, in rank order, and puts the sum at every {@code to}.
     */
    public void sum(long[] from, long[] to, long count, DType dtype) {
        if (sums == null) {
            sums = OwnedMemory.allocate(device, (long) chunk * Double.BYTES);
            staged = reaches ? null : OwnedMemory.allocate(device, (long) chunk * Double.BYTES);
        }
        DType wide = dtype.accumulator();
        for (long start = 0; start < count; start += chunk) {
            long length = Math.min(chunk, count - start);
            long offset = start * dtype.bytes();
            math.convert(sums.address(), wide, near(from[0] + offset, length, dtype), dtype, length);
            for (int peer = 1; peer < from.length; peer++) {
                math.add(sums.address(), wide, near(from[peer] + offset, length, dtype), dtype, length);
            }
            for (long target : to) {
                if (reaches) {
                    math.convert(target + offset, dtype, sums.address(), wide, length);
                } else {
                    math.convert(staged.address(), dtype, sums.address(), wide, length);
                    math.copyBytes(target + offset, staged.address(), length * dtype.bytes());
                }
            }
        }
    }

    /** Returns where a kernel can read what lies at {@code address}. */
    private long near(long address, long count, DType dtype) {
        if (reaches) {
            return address;
        }
        math.copyBytes(staged.address(), address, count * dtype.bytes());
        return staged.address();
    }

    @Override
    public void close() {
        if (sums != null) {
            sums.close();
        }
        if (staged != null) {
            staged.close();
        }
    }
}
