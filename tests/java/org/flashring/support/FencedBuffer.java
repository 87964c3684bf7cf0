package org.flashring.support;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.BitSet;
import org.flashring.DType;
import org.flashring.device.Memory;

/**
 * Memory for tensors, every bit of it set (a NaN in each type), with a fence on either side that nobody may write to.
 * The first element is aligned to its own size and to nothing more.
 */
public final class FencedBuffer {
    private static final int FENCE = 67;

    private final DType dtype;
    private final int elements;
    private final ByteBuffer bytes;
    private byte[] frozen;

    public FencedBuffer(DType dtype, long elements) {
        this.dtype = dtype;
        this.elements = Math.toIntExact(elements);
        int size = Math.toIntExact((elements + 2 * FENCE) * dtype.bytes());
        this.bytes = ByteBuffer.allocateDirect(size + 128)
                .alignedSlice(64)
                .slice(0, size)
                .order(ByteOrder.nativeOrder());
        fill();
    }

    /** Sets every bit, so that whatever is not written again is a NaN. */
    public void fill() {
        for (int i = 0; i < bytes.capacity(); i++) {
            bytes.put(i, (byte) -1);
        }
    }

    public DType dtype() {
        return dtype;
    }

    /** Returns the memory from element {@code first} to the last one. */
    public Memory memory(long first) {
        int start = Math.toIntExact((FENCE + first) * dtype.bytes());
        return Memory.of(
                bytes.slice(start, (FENCE + elements) * dtype.bytes() - start).order(ByteOrder.nativeOrder()));
    }

    /** Returns the bytes of elements and fences, to be copied to a device and back. */
    ByteBuffer whole() {
        return bytes.duplicate().order(ByteOrder.nativeOrder());
    }

    /** Returns where element {@code first} lies, in bytes from the start of {@link #whole}. */
    long offset(long first) {
        return (FENCE + first) * dtype.bytes();
    }

    /** Returns the bytes from element {@code first} to the last one. */
    long extent(long first) {
        return (elements - first) * dtype.bytes();
    }

    public double get(long element) {
        return Elements.get(dtype, bytes, Math.toIntExact(FENCE + element));
    }

    public void put(long element, double value) {
        Elements.put(dtype, bytes, Math.toIntExact(FENCE + element), value);
    }

    /** Remembers every bit, fences included. */
    public void freeze() {
        frozen = copy();
    }

    /** Throws if any bit has changed since {@link #freeze} outside the elements in {@code writable}. */
    public void requireUntouched(String name, BitSet writable) {
        byte[] now = copy();
        int changed = Arrays.mismatch(frozen, now);
        while (changed >= 0) {
            int element = changed / dtype.bytes() - FENCE;
            if (element < 0 || !writable.get(element)) {
                throw new AssertionError(name + ": element " + element + " of " + elements
                        + " was written, which is not the operation's");
            }
            int next = (element + FENCE + 1) * dtype.bytes();
            int further = Arrays.mismatch(frozen, next, frozen.length, now, next, now.length);
            changed = further < 0 ? -1 : next + further;
        }
    }

    private byte[] copy() {
        byte[] copy = new byte[bytes.capacity()];
        bytes.get(0, copy);
        return copy;
    }
}
