package org.flashring.kernel;

import org.bytedeco.javacpp.Pointer;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.internal.Cudart;
import org.flashring.internal.Native;
import org.flashring.internal.NativeStructs;
import org.flashring.internal.RawPointer;
import org.flashring.internal.Status;

/**
 * Copies, conversions and sums of tensors: {@code flashring_combine}, its struct made once. For one thread at a time.
 */
public final class TensorMath implements AutoCloseable {
    private final NativeStructs.Combine args = Native.newCombine();
    private final NativeStructs.TensorView dst = args.dst();
    private final NativeStructs.TensorView a = args.a();
    private final NativeStructs.TensorView b = args.b();
    private final RawPointer target = new RawPointer();
    private final RawPointer source = new RawPointer();

    private final boolean cuda;

    /** Works on memory of {@code device}. */
    public TensorMath(Device device) {
        args.device(device.ordinal());
        cuda = device.isCuda();
    }

    /** Runs what follows in the order of a CUDA stream; 0 is the default stream, and the only one of the host. */
    public void stream(long stream) {
        args.stream(stream);
    }

    /** Copies {@code bytes} bytes that do not overlap. */
    public void copyBytes(long to, long from, long bytes) {
        if (bytes > 0 && cuda) {
            Cudart.copy(target.at(to), source.at(from), bytes, args.stream());
        } else if (bytes > 0) {
            Pointer.memcpy(target.at(to), source.at(from), bytes);
        }
    }

    /** Sets {@code to} to {@code from}, rounded to its type. */
    public void convert(Tensor to, Tensor from) {
        shape(to);
        Views.set(dst, to);
        Views.set(a, from);
        b.data(0);
        run(to.dtype(), from.dtype(), from.dtype());
    }

    /** Sets {@code to} to the part of {@code from} that begins at a row and a head and is as large. */
    public void load(Tensor to, Tensor from, long row, long head) {
        shape(to);
        Views.set(dst, to);
        Views.set(a, from, 0, row, head);
        b.data(0);
        run(to.dtype(), from.dtype(), from.dtype());
    }

    /**
     * Sets the part of {@code to} that begins at a row and a head and is as large as {@code from} to it, rounded to its
     * type.
     */
    public void store(Tensor to, long row, long head, Tensor from) {
        shape(from);
        Views.set(dst, to, 0, row, head);
        Views.set(a, from);
        b.data(0);
        run(to.dtype(), from.dtype(), from.dtype());
    }

    /** Sets {@code to} to {@code x + y}, rounded to its type. */
    public void sum(Tensor to, Tensor x, Tensor y) {
        shape(to);
        Views.set(dst, to);
        Views.set(a, x);
        Views.set(b, y);
        run(to.dtype(), x.dtype(), y.dtype());
    }

    /** Sets {@code count} elements at {@code to} to those at {@code from}, rounded to {@code toType}. */
    public void convert(long to, DType toType, long from, DType fromType, long count) {
        line(to, from, 0, count);
        run(toType, fromType, fromType);
    }

    /** Adds {@code count} elements at {@code from} to those at {@code to}. */
    public void add(long to, DType toType, long from, DType fromType, long count) {
        line(to, to, from, count);
        run(toType, toType, fromType);
    }

    private void shape(Tensor tensor) {
        args.batch(tensor.batch()).length(tensor.length()).heads(tensor.heads()).dim(tensor.dim());
    }

    private void line(long to, long x, long y, long count) {
        args.batch(1).length(1).heads(1).dim(count);
        Views.set(dst, to, count, count, count);
        Views.set(a, x, count, count, count);
        Views.set(b, y, count, count, count);
    }

    private void run(DType toType, DType aType, DType bType) {
        args.dstDType(toType.code()).aDType(aType.code()).bDType(bType.code());
        Status.check(Native.combine(args));
    }

    @Override
    public void close() {
        args.close();
        target.close();
        source.close();
    }
}
