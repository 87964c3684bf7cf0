package org.flashring.device;

import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.ShortBuffer;
import org.bytedeco.javacpp.Pointer;
import org.flashring.internal.Checks;
import org.flashring.internal.Native;

/**
 * A borrowed piece of memory that a tensor lies in: a raw address on the host or on a CUDA device, a JavaCPP
 * {@link Pointer}, a direct {@code java.nio} buffer, a {@code MemorySegment} or an {@link OwnedMemory}. It is never
 * freed here; the pointer, buffer, segment or owner that it came from is kept reachable while the Memory, a slice of it
 * or a tensor in it is.
 */
public final class Memory {
    private static final long UNKNOWN = Long.MAX_VALUE;

    private final long address;
    private final long bytes;
    private final Device device;
    private final boolean writable;
    private final Object owner;

    private Memory(long address, long bytes, Device device, boolean writable, Object owner) {
        this.address = address;
        this.bytes = bytes;
        this.device = device;
        this.writable = writable;
        this.owner = owner;
    }

    /**
     * Returns the host memory at a raw address, whose place and extent the caller answers for. Null (0) holds only
     * empty tensors.
     */
    public static Memory of(long address) {
        Checks.atLeast("address", address, 0);
        return new Memory(address, address == 0 ? 0 : UNKNOWN, Device.HOST, true, null);
    }

    /**
     * Returns {@code bytes} bytes of host memory at a raw address; tensors that reach beyond are refused.
     *
     * @throws IllegalArgumentException if {@code bytes} is negative, the address is not that of any bytes, or CUDA
     *     knows it as a device's
     */
    public static Memory of(long address, long bytes) {
        return of(address, bytes, Device.HOST);
    }

    /** Returns {@code bytes} bytes at a raw address of {@code device}, such as another framework's device pointer. */
    public static Memory of(long address, long bytes, Device device) {
        return at(address, bytes, device, null);
    }

    /**
     * Returns {@code bytes} bytes at a raw address of {@code device} that belong to {@code owner}, such as another
     * framework's array. The owner is kept reachable, and is to stay open while tensors are in use: once a
     * {@link Pointer} or an {@link OwnedMemory} is closed calls refuse its tensors, of other owners they cannot know.
     *
     * @throws IllegalArgumentException if {@code device} or {@code owner} is null, {@code bytes} is negative, the
     *     address is not that of any bytes, or it is said to be the host's and CUDA knows it as a device's
     */
    public static Memory of(long address, long bytes, Device device, Object owner) {
        return at(address, bytes, device, Checks.notNull("owner", owner));
    }

    private static Memory at(long address, long bytes, Device device, Object owner) {
        return at(address, bytes, device, owner, Whereabouts.known());
    }

    static Memory at(long address, long bytes, Device device, Object owner, Whereabouts whereabouts) {
        Checks.atLeast("address", address, address == 0 && bytes == 0 ? 0 : 1);
        Checks.atLeast("bytes", bytes, 0);
        if (bytes > 0 && !Checks.notNull("device", device).isCuda()) {
            whereabouts.requireHost(address);
        }
        return new Memory(address, bytes, Checks.notNull("device", device), true, owner);
    }

    /**
     * Returns the memory from the pointer's position on, on the device that CUDA says it lies on: the host's where it
     * knows nothing of it. Its extent is checked where the pointer knows its limit.
     *
     * @throws IllegalArgumentException if the pointer is null or closed
     */
    public static Memory of(Pointer pointer) {
        return of(pointer, Whereabouts.known());
    }

    static Memory of(Pointer pointer, Whereabouts whereabouts) {
        Checks.notNull("pointer", pointer);
        if (pointer.isNull()) {
            throw Checks.broken("pointer", "closed or the null pointer", "point to memory");
        }
        long offset = pointer.position() * pointer.sizeof();
        long remaining = pointer.limit() > 0 ? (pointer.limit() - pointer.position()) * pointer.sizeof() : UNKNOWN;
        long address = pointer.address() + offset;
        return new Memory(address, remaining, whereabouts.of(address), true, pointer);
    }

    /**
     * Returns the memory between the buffer's position and limit.
     *
     * @throws IllegalArgumentException unless the buffer is direct, of native byte order, and of bytes, shorts (16-bit
     *     floats), floats or doubles
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
        return new Memory(
                Native.address(buffer) + ((long) buffer.position() << shift),
                (long) buffer.remaining() << shift,
                Device.HOST,
                !buffer.isReadOnly(),
                buffer);
    }

    /**
     * Returns the memory of a native {@code java.lang.foreign.MemorySegment}, on Java 22 or newer: an Object here since
     * this library is compiled for Java 17. A read-only segment may hold what is read alone. The segment is to stay
     * open while tensors are in use; once its arena is closed calls refuse them.
     *
     * @throws IllegalArgumentException unless it is an open native segment that the current thread may use
     * @throws UnsupportedOperationException before Java 22
     */
    public static Memory ofSegment(Object segment) {
        ForeignSegment foreign = new ForeignSegment(segment);
        return new Memory(foreign.address(), foreign.bytes(), Device.HOST, !foreign.isReadOnly(), foreign);
    }

    /**
     * Returns the memory of a buffer on its device.
     *
     * @throws IllegalArgumentException if the buffer is null
     * @throws IllegalStateException after its close
     */
    public static Memory of(OwnedMemory buffer) {
        return new Memory(Checks.notNull("buffer", buffer).address(), buffer.bytes(), buffer.device(), true, buffer);
    }

    /**
     * Returns {@code bytes} bytes of this memory from byte {@code offset} on: the same owner's, on the same device.
     *
     * @throws IllegalArgumentException unless they lie within this memory
     */
    public Memory slice(long offset, long bytes) {
        Checks.between("offset", offset, 0, this.bytes);
        Checks.between("bytes", bytes, 0, this.bytes - offset);
        return new Memory(Checks.sum("address", address, offset), bytes, device, writable, owner);
    }

    /** Returns the address of the first byte. */
    public long address() {
        return address;
    }

    /** Returns the number of bytes from the address on, or {@link Long#MAX_VALUE} where it is not known. */
    public long bytes() {
        return bytes;
    }

    /** Returns the device that the memory lies on. */
    public Device device() {
        return device;
    }

    /** Returns whether the memory may be written: false of a read-only buffer or segment. */
    public boolean isWritable() {
        return writable;
    }

    /**
     * Returns whether the memory has been given back behind our back: the {@link Pointer}, {@link OwnedMemory} or
     * segment it came from is closed.
     */
    public boolean isClosed() {
        return owner instanceof Pointer pointer && pointer.isNull()
                || owner instanceof OwnedMemory buffer && buffer.isClosed()
                || owner instanceof ForeignSegment segment && segment.isClosed();
    }
}
