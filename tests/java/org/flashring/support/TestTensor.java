package org.flashring.support;

import java.util.BitSet;
import org.flashring.DType;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.Memory;

/** A strided view of [batch, length, heads, dim] in a {@link FencedBuffer}, read and written one element at a time. */
public record TestTensor(
        FencedBuffer buffer,
        long first,
        long batch,
        long length,
        long heads,
        long dim,
        long strideBatch,
        long strideLength,
        long strideHead) {

    /** Returns a dense [batch, length, heads, dim] tensor in memory of its own. */
    public static TestTensor dense(DType dtype, long batch, long length, long heads, long dim) {
        return padded(dtype, batch, length, heads, dim, 0);
    }

    /**
     * Returns such a tensor with {@code gap} elements behind each head, each token and each batch row that are not its
     * own.
     */
    public static TestTensor padded(DType dtype, long batch, long length, long heads, long dim, long gap) {
        long head = dim + gap;
        long token = heads * head + gap;
        long row = length * token + gap;
        return new TestTensor(new FencedBuffer(dtype, batch * row), 0, batch, length, heads, dim, row, token, head);
    }

    /** Returns a dense [batch, heads, length, dim] tensor in memory of its own. */
    public static TestTensor headsFirst(DType dtype, long batch, long length, long heads, long dim) {
        return new TestTensor(
                new FencedBuffer(dtype, batch * length * heads * dim),
                0,
                batch,
                length,
                heads,
                dim,
                heads * length * dim,
                dim,
                length * dim);
    }

    /** Returns what the library is given. */
    public Tensor tensor() {
        return over(buffer.memory(length == 0 ? 0 : first));
    }

    /** Returns the same view of a copy of the buffer that starts at {@code address} of {@code device}. */
    Tensor tensor(long address, Device device) {
        long start = length == 0 ? 0 : first;
        return over(Memory.of(address + buffer.offset(start), buffer.extent(start), device));
    }

    private Tensor over(Memory memory) {
        return Tensor.strided(memory, buffer.dtype(), batch, length, heads, dim, strideBatch, strideLength, strideHead);
    }

    private long element(long b, long s, long h, long d) {
        return first + b * strideBatch + s * strideLength + h * strideHead + d;
    }

    public double get(long b, long s, long h, long d) {
        return buffer.get(element(b, s, h, d));
    }

    public void put(long b, long s, long h, long d, double value) {
        buffer.put(element(b, s, h, d), value);
    }

    /**
     * Sets each local token to the token of {@code global}, dense [batch, globalLength, heads, dim], at its position.
     */
    public void scatter(double[] global, Positions positions) {
        forEach(global, positions, true);
    }

    /** Sets the token of {@code global} at each local token's position to the local one. */
    public void gather(double[] global, Positions positions) {
        forEach(global, positions, false);
    }

    private void forEach(double[] global, Positions positions, boolean scatter) {
        long globalLength = global.length / (batch * heads * dim);
        for (long b = 0; b < batch; b++) {
            for (long s = 0; s < length; s++) {
                long token = b * globalLength + positions.position(s);
                for (long h = 0; h < heads; h++) {
                    for (long d = 0; d < dim; d++) {
                        int index = Math.toIntExact((token * heads + h) * dim + d);
                        if (scatter) {
                            put(b, s, h, d, global[index]);
                        } else {
                            global[index] = get(b, s, h, d);
                        }
                    }
                }
            }
        }
    }

    /** Adds this tensor's elements to those of its buffer that may be written. */
    public void mark(BitSet writable) {
        for (long b = 0; b < batch; b++) {
            for (long s = 0; s < length; s++) {
                for (long h = 0; h < heads; h++) {
                    int start = Math.toIntExact(element(b, s, h, 0));
                    writable.set(start, Math.toIntExact(start + dim));
                }
            }
        }
    }
}
