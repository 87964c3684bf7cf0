package org.flashring.sync;

import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.flashring.DType;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.RawPointer;
import org.flashring.kernel.TensorMath;

/** Divides elements on the host: computed in the accumulator's type and rounded once. */
final class HostDivider implements AutoCloseable {
    private static final int CHUNK = 16 << 10; // fits a core's cache

    private final double divisor;
    private final OwnedMemory wide = OwnedMemory.allocate(Device.HOST, (long) CHUNK * Double.BYTES);
    private final FloatPointer floats = new FloatPointer(new RawPointer().at(wide.address())).capacity(CHUNK);
    private final DoublePointer doubles = new DoublePointer(new RawPointer().at(wide.address())).capacity(CHUNK);

    HostDivider(double divisor) {
        this.divisor = divisor;
    }

    /** Divides {@code count} elements at {@code address}. */
    void divide(TensorMath math, long address, DType dtype, long count) {
        DType accumulator = dtype.accumulator();
        for (long start = 0; start < count; start += CHUNK) {
            int length = (int) Math.min(CHUNK, count - start);
            long at = address + start * dtype.bytes();
            math.convert(wide.address(), accumulator, at, dtype, length);
            for (int i = 0; i < length; i++) {
                if (accumulator == DType.FLOAT64) {
                    doubles.put(i, doubles.get(i) / divisor);
                } else {
                    floats.put(i, (float) (floats.get(i) / divisor));
                }
            }
            math.convert(at, dtype, wide.address(), accumulator, length);
        }
    }

    @Override
    public void close() {
        wide.close();
    }
}
