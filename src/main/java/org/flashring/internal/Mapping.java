package org.flashring.internal;

import java.io.IOException;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;

/**
 * A file mapped into memory, and unmapped by close, not when the garbage collector comes by. Java 22 and newer have
 * arenas for that, before there is {@code Unsafe} alone, which newer ones warn of; so both are looked up when needed.
 */
public final class Mapping implements AutoCloseable {
    private static final int ARENAS_SINCE = 22;

    /** Unmaps. */
    private interface Unmap {
        void run() throws Throwable;
    }

    private final ByteBuffer memory;
    private final Unmap unmap;
    private boolean closed;

    private Mapping(ByteBuffer memory, Unmap unmap) {
        this.memory = memory;
        this.unmap = unmap;
    }

    /** Returns whether this Java runtime can: before Java 22 its module jdk.unsupported is needed. */
    public static boolean isPossible() {
        return Runtime.version().feature() >= ARENAS_SINCE
                || ModuleLayer.boot().findModule("jdk.unsupported").isPresent();
    }

    /**
     * Maps the first {@code bytes} bytes of a file, to read and to write.
     *
     * @throws IOException if it cannot be mapped
     */
    public static Mapping of(FileChannel file, long bytes) throws IOException {
        try {
            return Runtime.version().feature() >= ARENAS_SINCE ? inArena(file, bytes) : byUnsafe(file, bytes);
        } catch (IOException | RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new IOException("this Java runtime cannot map a file: " + e, e);
        }
    }

    private static Mapping inArena(FileChannel file, long bytes) throws Throwable {
        MethodHandles.Lookup lookup = MethodHandles.publicLookup();
        Class<?> arenas = Class.forName("java.lang.foreign.Arena");
        Class<?> segments = Class.forName("java.lang.foreign.MemorySegment");
        AutoCloseable arena = (AutoCloseable) lookup.findStatic(arenas, "ofShared", MethodType.methodType(arenas))
                .invoke();
        try {
            Object segment = lookup.findVirtual(
                            FileChannel.class,
                            "map",
                            MethodType.methodType(segments, FileChannel.MapMode.class, long.class, long.class, arenas))
                    .invoke(file, FileChannel.MapMode.READ_WRITE, 0L, bytes, arena);
            ByteBuffer memory =
                    (ByteBuffer) lookup.findVirtual(segments, "asByteBuffer", MethodType.methodType(ByteBuffer.class))
                            .invoke(segment);
            return new Mapping(memory, arena::close);
        } catch (Throwable e) {
            arena.close();
            throw e;
        }
    }

    private static Mapping byUnsafe(FileChannel file, long bytes) throws Throwable {
        Class<?> unsafe = Class.forName("sun.misc.Unsafe");
        Field instance = unsafe.getDeclaredField("theUnsafe");
        instance.setAccessible(true);
        MethodHandle clean = MethodHandles.publicLookup()
                .findVirtual(unsafe, "invokeCleaner", MethodType.methodType(void.class, ByteBuffer.class))
                .bindTo(instance.get(null));
        ByteBuffer memory = file.map(FileChannel.MapMode.READ_WRITE, 0, bytes);
        return new Mapping(memory, () -> clean.invoke(memory));
    }

    /** Returns the bytes, which are not to be touched after close. */
    public ByteBuffer memory() {
        return memory;
    }

    /** Unmaps the memory. Closing twice is harmless. */
    @Override
    public void close() {
        if (closed) {
            return;
        }
        closed = true;
        try {
            unmap.run();
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new IllegalStateException("cannot unmap: " + e, e);
        }
    }
}
