package org.flashring.comm.process;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.HexFormat;
import org.flashring.internal.Mapping;
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

    private final Path path;
    private final Mapping mapping;
    private final long address;

    private Segment(Path path, Mapping mapping) {
        this.path = path;
        this.mapping = mapping;
        this.address = Native.address(mapping.memory());
    }

    /** Returns why there are none on this host; empty if there may be. */
    static String unavailabilityCause() {
        if (!Mapping.isPossible()) {
            return "this Java runtime lacks the module jdk.unsupported";
        }
        return Files.isDirectory(FOLDER) && Files.isWritable(FOLDER)
                ? ""
                : FOLDER + " is no folder that this process may write to";
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
            return new Segment(path, Mapping.of(file, bytes));
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
                    ? new Segment(path, Mapping.of(file, bytes))
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
        return mapping.memory();
    }

    long address() {
        return address;
    }

    /** Unmaps the memory. */
    @Override
    public void close() {
        mapping.close();
    }
}
