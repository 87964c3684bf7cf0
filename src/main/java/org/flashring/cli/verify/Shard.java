package org.flashring.cli.verify;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import org.flashring.DType;
import org.flashring.Memory;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.internal.Combiner;

/** One rank's part of a tensor, cut from and put back into the dense float64 whole. Memory that nobody wrote reads as NaN. */
final class Shard {
    private final Positions positions;
    private final int batch;
    private final int row; // elements of a token
    private final DoubleBuffer values; // [batch, local length, heads, dim]
    private final Tensor wide;
    private final Tensor tensor;

    Shard(DType dtype, long batch, Positions positions, long heads, long dim, boolean headsFirst) {
        this.positions = positions;
        this.batch = (int) batch;
        this.row = Math.toIntExact(heads * dim);
        long length = positions.length();
        int elements = Math.toIntExact(batch * length * row);
        ByteBuffer wideMemory = nan(elements * Double.BYTES);
        this.values = wideMemory.asDoubleBuffer();
        this.wide = Tensor.bshd(Memory.of(wideMemory), DType.FLOAT64, batch, length, heads, dim);
        Memory memory = Memory.of(nan(elements * dtype.bytes()));
        this.tensor = headsFirst ? Tensor.bhsd(memory, dtype, batch, heads, length, dim) : Tensor.bshd(memory, dtype, batch, length, heads, dim);
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
        return tensor;
    }

    /** Fills the tensor from the whole, and returns this. */
    Shard load(double[] whole, Combiner combiner) {
        forEachToken(whole, (local, global) -> values.put(local, whole, global, row));
        combiner.convert(tensor, wide);
        return this;
    }

    /** Puts the tensor into the whole. */
    void store(double[] whole, Combiner combiner) {
        combiner.convert(wide, tensor);
        forEachToken(whole, (local, global) -> values.get(local, whole, global, row));
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
