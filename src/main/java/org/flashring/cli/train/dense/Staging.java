package org.flashring.cli.train.dense;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import org.flashring.DType;
import org.flashring.device.HostBuffer;

/** Host memory through which values come to a device and go, a part at a time. Of one thread. */
final class Staging implements AutoCloseable {
    /** Makes the values of elements from a number on. */
    interface Source {
        void fill(long first, double[] to, int count);
    }

    private final Ops ops;
    private final HostBuffer buffer = HostBuffer.allocate(StepMemory.STAGING);
    private final long[] some = new long[(int) (StepMemory.STAGING / Long.BYTES)];
    private final double[] values = new double[(int) (StepMemory.STAGING / Double.BYTES)];

    Staging(Ops ops) {
        this.ops = ops;
    }

    /** Returns its address. */
    long address() {
        return buffer.address();
    }

    /** Copies int64 values to the device. */
    void putLongs(long to, long[] from, int count) {
        for (int first = 0; first < count; first += some.length) {
            int now = Math.min(some.length, count - first);
            System.arraycopy(from, first, some, 0, now);
            HostOps.view().putLongs(address(), some, now);
            ops.upload(to + (long) first * Long.BYTES, address(), (long) now * Long.BYTES);
        }
    }

    /** Sets {@code count} elements of the device. */
    void put(DType type, long to, long count, Source source) {
        for (long first = 0; first < count; first += values.length) {
            int now = (int) Math.min(values.length, count - first);
            source.fill(first, values, now);
            HostOps.view().store(type, address(), values, 0, now);
            ops.upload(to + first * type.bytes(), address(), (long) now * type.bytes());
        }
    }

    /** Gets float64 values of the device. */
    void get(long from, double[] to) {
        for (int first = 0; first < to.length; first += values.length) {
            int now = Math.min(values.length, to.length - first);
            ops.download(address(), from + (long) first * Double.BYTES, (long) now * Double.BYTES);
            HostOps.view().load(DType.FLOAT64, address(), to, first, now);
        }
    }

    /** Returns a float64 of the device. */
    double getDouble(long from) {
        ops.download(address(), from, Double.BYTES);
        return HostOps.view().getDouble(address());
    }

    /** Writes bytes of the device to a file from {@code position} on. */
    void write(FileChannel file, long position, long from, long bytes) throws IOException {
        for (long done = 0; done < bytes; done += StepMemory.STAGING) {
            int now = (int) Math.min(StepMemory.STAGING, bytes - done);
            ops.download(address(), from + done, now);
            Safetensors.writeFully(file, HostOps.view().bytes(address(), now), position + done);
        }
    }

    /** Reads bytes of a file from {@code position} on to the device. */
    void read(Path name, FileChannel file, long position, long to, long bytes) throws IOException {
        for (long done = 0; done < bytes; done += StepMemory.STAGING) {
            int now = (int) Math.min(StepMemory.STAGING, bytes - done);
            Safetensors.readFully(name, file, HostOps.view().bytes(address(), now), position + done);
            ops.upload(to + done, address(), now);
        }
    }

    @Override
    public void close() {
        buffer.close();
    }
}
