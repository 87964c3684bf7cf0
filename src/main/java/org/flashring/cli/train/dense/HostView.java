package org.flashring.cli.train.dense;

import java.nio.ByteBuffer;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.nio.ShortBuffer;
import java.util.Arrays;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.flashring.DType;

/**
 * Host memory by raw address, copied to and from arrays of float64, and some such arrays to work in. Of one thread.
 * Buffers over whole gibibytes are kept, so that calls make no objects.
 */
final class HostView {
    private static final int SHIFT = 30;
    private static final int WINDOW = Integer.MAX_VALUE - 7; // a copy may begin in one GiB and end in the next
    private static final int KEPT = 8;
    private static final long PAGE = 4096; // the first one is nobody's: address 0 would be no memory
    private static final int ARRAYS = 5;

    private static final class Address extends Pointer {
        Address(long address) {
            this.address = address;
        }
    }

    private record Window(
            long base,
            ByteBuffer bytes,
            DoubleBuffer doubles,
            FloatBuffer floats,
            LongBuffer longs,
            ShortBuffer shorts) {}

    private final long[] keys = new long[KEPT];
    private final Window[] windows = new Window[KEPT];
    private final double[][] arrays = new double[ARRAYS][0];
    private final double[][][] matrices = new double[ARRAYS][][];
    private float[] narrow = new float[0];
    private short[] halves = new short[0];

    HostView() {
        Arrays.fill(keys, -1);
    }

    private Window window(long address) {
        long key = address >>> SHIFT;
        int place = (int) (key % KEPT);
        if (keys[place] != key) {
            long base = Math.max(key << SHIFT, PAGE);
            ByteBuffer bytes =
                    new BytePointer(new Address(base)).capacity(WINDOW).asByteBuffer();
            windows[place] = new Window(
                    base,
                    bytes,
                    bytes.asDoubleBuffer(),
                    bytes.asFloatBuffer(),
                    bytes.asLongBuffer(),
                    bytes.asShortBuffer());
            keys[place] = key;
        }
        return windows[place];
    }

    /** Returns the array of a number, from 0 to 4, of at least {@code size} elements, with whatever it held. */
    double[] array(int number, long size) {
        if (arrays[number].length < size) {
            arrays[number] = new double[Math.toIntExact(size)];
        }
        return arrays[number];
    }

    /**
     * Returns the matrix of a number, from 0 to 4, whose size is always the same. Its rows are arrays of their own,
     * which compilers turn loops over into vectors.
     */
    double[][] matrix(int number, int rows, int columns) {
        if (matrices[number] == null) {
            matrices[number] = new double[rows][columns];
        }
        return matrices[number];
    }

    private float[] narrow(int size) {
        if (narrow.length < size) {
            narrow = new float[size];
        }
        return narrow;
    }

    private short[] halves(int size) {
        if (halves.length < size) {
            halves = new short[size];
        }
        return halves;
    }

    /** Returns the bits of the nearest bfloat16, of two as near the even one. */
    private static short bfloat16(float value) {
        int bits = Float.floatToRawIntBits(value);
        if (Float.isNaN(value)) {
            return (short) (bits >>> 16 | 0x40); // rounded it could become infinite
        }
        return (short) (bits + 0x7FFF + (bits >>> 16 & 1) >>> 16);
    }

    /** Copies {@code count} float32, float64 or bfloat16 elements to an array from {@code at} on. */
    void load(DType type, long address, double[] to, int at, int count) {
        if (count == 0) {
            return;
        }
        Window window = window(address);
        if (type == DType.FLOAT64) {
            window.doubles().get((int) ((address - window.base()) / Double.BYTES), to, at, count);
        } else if (type == DType.BFLOAT16) {
            short[] values = halves(count);
            window.shorts().get((int) ((address - window.base()) / Short.BYTES), values, 0, count);
            for (int i = 0; i < count; i++) {
                to[at + i] = Float.intBitsToFloat(values[i] << 16);
            }
        } else {
            float[] values = narrow(count);
            window.floats().get((int) ((address - window.base()) / Float.BYTES), values, 0, count);
            for (int i = 0; i < count; i++) {
                to[at + i] = values[i];
            }
        }
    }

    /** Copies {@code count} elements of an array from {@code at} on to memory, rounded to its type. */
    void store(DType type, long address, double[] from, int at, int count) {
        if (count == 0) {
            return;
        }
        Window window = window(address);
        if (type == DType.FLOAT64) {
            window.doubles().put((int) ((address - window.base()) / Double.BYTES), from, at, count);
        } else if (type == DType.BFLOAT16) {
            short[] values = halves(count);
            for (int i = 0; i < count; i++) {
                values[i] = bfloat16((float) from[at + i]);
            }
            window.shorts().put((int) ((address - window.base()) / Short.BYTES), values, 0, count);
        } else {
            float[] values = narrow(count);
            for (int i = 0; i < count; i++) {
                values[i] = (float) from[at + i];
            }
            window.floats().put((int) ((address - window.base()) / Float.BYTES), values, 0, count);
        }
    }

    long getLong(long address) {
        Window window = window(address);
        return window.longs().get((int) ((address - window.base()) / Long.BYTES));
    }

    double getDouble(long address) {
        Window window = window(address);
        return window.doubles().get((int) ((address - window.base()) / Double.BYTES));
    }

    void putDouble(long address, double value) {
        Window window = window(address);
        window.doubles().put((int) ((address - window.base()) / Double.BYTES), value);
    }

    /** Copies int64 values to memory. */
    void putLongs(long address, long[] from, int count) {
        Window window = window(address);
        window.longs().put((int) ((address - window.base()) / Long.BYTES), from, 0, count);
    }

    /** Copies bytes that do not overlap. */
    void copy(long to, long from, int bytes) {
        Window source = window(from);
        Window target = window(to);
        target.bytes().put((int) (to - target.base()), source.bytes(), (int) (from - source.base()), bytes);
    }

    /** Returns a buffer over memory, for files. */
    ByteBuffer bytes(long address, int count) {
        Window window = window(address);
        return window.bytes().slice((int) (address - window.base()), count);
    }
}
