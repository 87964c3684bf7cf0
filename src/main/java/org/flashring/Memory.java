package org.flashring;

import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.ShortBuffer;
import org.bytedeco.javacpp.Pointer;
import org.flashring.device.HostBuffer;
import org.flashring.internal.Checks;
import org.flashring.internal.Native;

/**
 * A borrowed piece of host memory that a tensor lies in: a raw address, a JavaCPP {@link Pointer}, a direct
 * {@code java.nio} buffer or a {@link HostBuffer}. It is never freed here; a pointer or buffer is kept reachable while the
 * Memory is.
 */
public final class Memory {
    private static final long UNKNOWN = Long.MAX_VALUE;

    private final long address;
    private final long bytes;
    private final boolean writable;
    private final Object owner;

    private Memory(long address, long bytes, boolean writable, Object owner) {
        this.address = address;
        this.bytes = bytes;
        this.writable = writable;
        this.owner = owner;
    }

    /** Returns the memory at a raw address, whose extent the caller answers for. Null (0) holds only empty tensors. */
    public static Memory of(long address) {
        Checks.atLeast("address", address, 0);
        return new Memory(address, address == 0 ? 0 : UNKNOWN, true, null);
    }

    /** Returns {@code bytes} bytes of memory at a raw address; tensors that reach beyond are refused. */
    public static Memory of(long address, long bytes) {
        Checks.atLeast("address", address, address == 0 && bytes == 0 ? 0 : 1);
        Checks.atLeast("bytes", bytes, 0);
        return new Memory(address, bytes, true, null);
    }

    /**
     * Returns the memory from the pointer's position on. Its extent is checked where the pointer knows its limit.
     *
     * @throws IllegalArgumentException if the pointer is null or closed
     */
    public static Memory of(Pointer pointer) {
        Checks.notNull("pointer", pointer);
        if (pointer.isNull()) {
            throw Checks.broken("pointer", "closed or the null pointer", "point to memory");
        }
        long offset = pointer.position() * pointer.sizeof();
        long remaining = pointer.limit() > 0 ? (pointer.limit() - pointer.position()) * pointer.sizeof() : UNKNOWN;
        return new Memory(pointer.address() + offset, remaining, true, pointer);
    }

    /**
     * Returns the memory between the buffer's position and limit.
     *
     * @throws IllegalArgumentException unless the buffer is direct, of native byte order, and of bytes, shorts (16-bit
     *         floats), floats or doubles
     */
    public static Memory of(Buffer buffer) {
        Checks.notNull("buffer", buffer);
        if (!buffer.isDirect()) {
            throw Checks.broken("buffer", "on the Java heap", "be a direct buffer");
        }
        int shift;
        ByteOrder order;
        if (buffer instanceof ByteBuffer b) {
            shift = 0;
            order = b.order() == ByteOrder.nativeOrder() || b.remaining() == 0 ? ByteOrder.nativeOrder() : b.order();
        } else if (buffer instanceof ShortBuffer b) {
            shift = 1;
            order = b.order();
        } else if (buffer instanceof FloatBuffer b) {
            shift = 2;
            order = b.order();
        } else if (buffer instanceof DoubleBuffer b) {
            shift = 3;
            order = b.order();
        } else {
            throw Checks.broken("buffer", buffer.getClass().getSimpleName(), "hold bytes, shorts, floats or doubles");
        }
        if (order != ByteOrder.nativeOrder()) {
            throw Checks.broken("buffer order", order, "be the native " + ByteOrder.nativeOrder());
        }
        return new Memory(Native.address(buffer) + ((long) buffer.position() << shift), (long) buffer.remaining() << shift, !buffer.isReadOnly(), buffer);
    }

    /**
     * Returns the memory of a host buffer.
     *
     * @throws IllegalArgumentException if the buffer is null
     * @throws IllegalStateException    after its close
     */
    public static Memory of(HostBuffer buffer) {
        return new Memory(Checks.notNull("buffer", buffer).address(), buffer.bytes(), true, buffer);
    }

    /** Returns the address of the first byte. */
    public long address() {
        return address;
    }

    /** Returns the number of bytes from the address on, or {@link Long#MAX_VALUE} where it is not known. */
    public long bytes() {
        return bytes;
    }

    boolean writable() {
        return writable;
    }

    /** Returns whether the memory has been given back behind our back: the pointer or host buffer it came from is closed. */
    boolean closed() {
        return owner instanceof Pointer pointer && pointer.isNull() || owner instanceof HostBuffer buffer && buffer.isClosed();
    }
}
