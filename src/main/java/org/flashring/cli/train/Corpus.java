package org.flashring.cli.train;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;

/** The text that a model learns: the bytes of some files, one after the other, outside the Java heap. */
final class Corpus implements AutoCloseable {
    private static final int LONGEST = Integer.MAX_VALUE - 8;
    private static final int CHUNK = 1 << 24;

    private final List<Pointer> owned = new ArrayList<>();
    private final List<ByteBuffer> chunks = new ArrayList<>();
    private int length;
    private int files;

    private Corpus() {}

    /**
     * Returns the text of {@code paths}; of a directory, that of all files below it in the order of their names, but
     * for those that are hidden or binary (hold a zero byte).
     *
     * @throws IllegalArgumentException if a path is missing or cannot be read, or the whole is less than 2 or more than
     *     2^31 - 9 bytes
     */
    static Corpus read(List<Path> paths) {
        Corpus corpus = new Corpus();
        try {
            for (Path path : paths) {
                if (!Files.exists(path)) {
                    throw new IllegalArgumentException("--text " + path + " does not exist.");
                }
                boolean directory = Files.isDirectory(path);
                for (Path file : directory ? filesBelow(path) : List.of(path)) {
                    corpus.add(file, directory);
                }
            }
            if (corpus.length < 2) {
                throw new IllegalArgumentException(
                        "--text " + join(paths) + " holds " + (corpus.length == 0 ? "no text" : "1 byte")
                                + "; a model needs at least 2 bytes to learn from.");
            }
            return corpus;
        } catch (RuntimeException | Error e) {
            corpus.close();
            throw e;
        }
    }

    /** Adds what a file holds or, if {@code textAlone}, nothing of a binary one. */
    private void add(Path file, boolean textAlone) {
        int before = length;
        byte[] part = new byte[1 << 16];
        try (InputStream in = Files.newInputStream(file)) {
            for (int bytes = in.read(part); bytes >= 0; bytes = in.read(part)) {
                if (textAlone && isBinary(part, bytes)) {
                    length = before;
                    return;
                }
                append(part, bytes);
            }
        } catch (IOException e) {
            throw unreadable(file, e);
        }
        files++;
    }

    private void append(byte[] part, int bytes) {
        if (length > LONGEST - bytes) {
            throw new IllegalArgumentException("--text holds more than 2 GiB; give less text.");
        }
        for (int done = 0; done < bytes; ) {
            int start = (length + done) % CHUNK;
            int chunk = (length + done) / CHUNK;
            if (chunk == chunks.size()) {
                Pointer memory = Pointer.malloc(CHUNK);
                if (memory == null || memory.isNull()) {
                    throw new OutOfMemoryError("the system has no memory for --text");
                }
                owned.add(memory);
                chunks.add(new BytePointer(memory).capacity(CHUNK).asByteBuffer());
            }
            int now = Math.min(bytes - done, CHUNK - start);
            chunks.get(chunk).put(start, part, done, now);
            done += now;
        }
        length += bytes;
    }

    private static List<Path> filesBelow(Path directory) {
        try (Stream<Path> tree = Files.walk(directory.toRealPath())) {
            Path root = directory.toRealPath();
            List<Path> files = new ArrayList<>(tree.filter(Files::isRegularFile)
                    .filter(file -> !isHidden(root.relativize(file)))
                    .toList());
            files.sort(null);
            return files;
        } catch (IOException | java.io.UncheckedIOException e) {
            throw unreadable(directory, e);
        }
    }

    private static boolean isHidden(Path relative) {
        for (Path part : relative) {
            if (part.toString().startsWith(".")) {
                return true;
            }
        }
        return false;
    }

    private static IllegalArgumentException unreadable(Path path, Throwable e) {
        String reason = e instanceof java.nio.file.AccessDeniedException ? "permission denied" : e.getMessage();
        return new IllegalArgumentException("--text " + path + " cannot be read: " + reason + ".", e);
    }

    private static boolean isBinary(byte[] part, int bytes) {
        for (int i = 0; i < bytes; i++) {
            if (part[i] == 0) {
                return true;
            }
        }
        return false;
    }

    private static String join(List<Path> paths) {
        return String.join(" ", paths.stream().map(Path::toString).toList());
    }

    /** Returns the number of bytes. */
    int length() {
        return length;
    }

    /** Returns the number of files. */
    int files() {
        return files;
    }

    /** Returns the byte at a place, from 0 to 255. */
    int at(int place) {
        return Byte.toUnsignedInt(chunks.get(place / CHUNK).get(place % CHUNK));
    }

    /** Returns the SHA-256 of the whole, in hexadecimal. */
    String digest() {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            for (int chunk = 0; chunk < chunks.size(); chunk++) {
                digest.update(chunks.get(chunk).slice(0, Math.min(CHUNK, length - chunk * CHUNK)));
            }
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e); // every Java has it
        }
    }

    /**
     * Returns [batch][context] bytes, windows of the text that {@code random} chooses; equal seeds choose equal
     * windows.
     */
    long[][] batch(int batch, int context, Random random) {
        long[][] rows = new long[batch][context];
        for (long[] row : rows) {
            int start = random.nextInt(length - context + 1);
            for (int i = 0; i < context; i++) {
                row[i] = at(start + i);
            }
        }
        return rows;
    }

    /** Frees the text. */
    @Override
    public void close() {
        owned.forEach(Pointer::free);
        owned.clear();
        chunks.clear();
    }
}
