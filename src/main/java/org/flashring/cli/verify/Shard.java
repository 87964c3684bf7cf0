package org.flashring.cli.verify;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import org.bytedeco.javacpp.BytePointer;
import org.flashring.DType;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Memory;
import org.flashring.kernel.TensorMath;

/**
 * One rank's part of a tensor, cut from and put back into the dense float64 whole. Memory that nobody wrote reads as
 * NaN.
 */
final class Shard implements AutoCloseable {
    private final Positions positions;
    private final int batch;
    private final int row; // elements of a token
    private final DoubleBuffer values; // [batch, local length, heads, dim]
    private final Tensor wide;
    private final Tensor tensor; // on the host
    private final ByteBuffer memory; // of that
    private final DeviceBuffer copy; // of that memory on a CUDA device; null on the host
    private final Tensor onDevice;
    private final TensorMath math; // of the host

    Shard(
            Device device,
            TensorMath math,
            DType dtype,
            long batch,
            Positions positions,
            long heads,
            long dim,
            boolean headsFirst) {
        this.math = math;
        this.positions = positions;
        this.batch = (int) batch;
        this.row = Math.toIntExact(heads * dim);
        long length = positions.length();
        int elements = Math.toIntExact(batch * length * row);
        ByteBuffer wideMemory = nan(elements * Double.BYTES);
        this.values = wideMemory.asDoubleBuffer();
        this.wide = Tensor.bshd(Memory.of(wideMemory), DType.FLOAT64, batch, length, heads, dim);
        this.memory = nan(elements * dtype.bytes());
        this.tensor = view(Memory.of(memory), dtype, length, heads, dim, headsFirst);
        if (device.isCuda()) {
            this.copy = DeviceBuffer.allocate(device, memory.capacity());
            this.onDevice = view(copy.memory(), dtype, length, heads, dim, headsFirst);
            upload();
        } else {
            this.copy = null;
            this.onDevice = tensor;
        }
    }

    private Tensor view(Memory place, DType dtype, long length, long heads, long dim, boolean headsFirst) {
        return headsFirst
                ? Tensor.bhsd(place, dtype, batch, heads, length, dim)
                : Tensor.bshd(place, dtype, batch, length, heads, dim);
    }

    private static ByteBuffer nan(int bytes) {
        ByteBuffer buffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder());
        for (int i = 0; i < bytes; i++) {
            buffer.put(i, (byte) 0xff);
        }
        return buffer;
    }

    /** Returns the tensor that the ring works on. */
    Tensor tensor() {
        return onDevice;
    }

    /** Fills the tensor from the whole, and returns this. */
    Shard load(double[] whole) {
        forEachToken(whole, (local, global) -> values.put(local, whole, global, row));
        math.convert(tensor, wide);
        upload();
        return this;
    }

    /** Puts the tensor into the whole. The caller has waited for the work on the device. */
    void store(double[] whole) {
        if (copy != null) {
            copy.download(new BytePointer(memory));
        }
        math.convert(wide, tensor);
        forEachToken(whole, (local, global) -> values.get(local, whole, global, row));
    }

    private void upload() {
        if (copy != null) {
            copy.upload(new BytePointer(memory));
        }
    }

    @Override
    public void close() {
        if (copy != null) {
            copy.close();
        }
    }

    private interface Copy {
        void copy(int local, int global);
    }

    private void forEachToken(double[] whole, Copy copy) {
        int length = whole.length / batch / row;
        int localLength = (int) positions.length();
        for (int b = 0; b < batch; b++) {
            for (int i = 0; i < localLength; i++) {
                copy.copy((b * localLength + i) * row, (b * length + (int) positions.position(i)) * row);
            }
        }
    }
}
