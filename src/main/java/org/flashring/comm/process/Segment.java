package org.flashring.comm.process;

import java.io.IOException;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.HexFormat;
import org.flashring.internal.Native;

/**
 * Memory that two processes of a host share: a file in memory, which is deleted as soon as both have mapped it, so that
 * nothing is left behind whatever becomes of them. It begins with a nonce, by which the second one knows that it has
 * found the file of the first and not that of another host or container.
 */
final class Segment implements AutoCloseable {
    /** Where Linux keeps files in memory. */
    static final Path FOLDER = Path.of("/dev/shm");

    static final int NONCE = 16;

    private static final int PIECE = 64 << 10;
    private static final MethodHandle UNMAP = unmapper();

    private final Path path;
    private final MappedByteBuffer map;
    private final long address;
    private boolean closed;

    private Segment(Path path, MappedByteBuffer map) {
        this.path = path;
        this.map = map;
        this.address = Native.address(map);
    }

    /** Returns whether this host has a place for such files. */
    static boolean isPossible() {
        return Files.isDirectory(FOLDER) && Files.isWritable(FOLDER);
    }

    /**
     * Returns a new file of {@code bytes} zeros behind a nonce. All of it is written: where a file in memory has no
     * room, a write fails, but a first touch through a mapping kills the process.
     *
     * @throws IOException if there is no room; the message says where
     */
    static Segment create(byte[] nonce, long bytes) throws IOException {
        long room = Files.getFileStore(FOLDER).getUsableSpace();
        if (room < bytes) {
            throw new IOException(FOLDER + " has room for " + room + " bytes, and " + bytes + " are needed");
        }
        Path path = FOLDER.resolve("flashring-" + ProcessHandle.current().pid() + "-"
                + HexFormat.of().formatHex(nonce));
        FileAttribute<?> mine = PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"));
        Files.createFile(path, mine);
        try (FileChannel file = FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            ByteBuffer zeros = ByteBuffer.allocateDirect(PIECE);
            for (long at = 0; at < bytes; ) {
                zeros.clear().limit((int) Math.min(PIECE, bytes - at));
                at += file.write(zeros, at);
            }
            file.write(ByteBuffer.wrap(nonce), 0);
            return new Segment(path, file.map(FileChannel.MapMode.READ_WRITE, 0, bytes));
        } catch (IOException e) {
            Files.deleteIfExists(path);
            throw new IOException(path + " cannot take " + bytes + " bytes: " + e.getMessage(), e);
        }
    }

    /** Returns a peer's file; null if this process does not see it. */
    static Segment open(String name, byte[] nonce, long bytes) throws IOException {
        Path path = Path.of(name);
        try (FileChannel file = FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            ByteBuffer found = ByteBuffer.allocate(NONCE);
            file.read(found, 0);
            return Arrays.equals(found.array(), nonce) && file.size() == bytes
                    ? new Segment(path, file.map(FileChannel.MapMode.READ_WRITE, 0, bytes))
                    : null;
        } catch (NoSuchFileException e) {
            return null;
        }
    }

    /** Returns where the file is. */
    String name() {
        return path.toString();
    }

    /** Deletes the file; the memory stays. */
    void delete() throws IOException {
        Files.deleteIfExists(path);
    }

    ByteBuffer memory() {
        return map;
    }

    long address() {
        return address;
    }

    /** Unmaps the memory, now and not when the garbage collector comes by. */
    @Override
    public void close() {
        if (closed) {
            return;
        }
        closed = true;
        if (UNMAP != null) {
            try {
                UNMAP.invokeExact((ByteBuffer) map);
            } catch (Throwable e) {
                throw new IllegalStateException("cannot unmap " + path, e);
            }
        }
    }

    /** Returns {@code Unsafe.invokeCleaner}, Java 17's one way to unmap; null where a module graph lacks it. */
    private static MethodHandle unmapper() {
        try {
            Class<?> unsafe = Class.forName("sun.misc.Unsafe");
            Field instance = unsafe.getDeclaredField("theUnsafe");
            instance.setAccessible(true);
            return MethodHandles.lookup()
                    .findVirtual(unsafe, "invokeCleaner", MethodType.methodType(void.class, ByteBuffer.class))
                    .bindTo(instance.get(null));
        } catch (ReflectiveOperationException | RuntimeException e) {
            return null;
        }
    }
}
