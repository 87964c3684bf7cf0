package org.flashring.cli.train;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;

/** The text that a model learns: the bytes of some files, one after the other. */
final class Corpus {
    private final byte[] text;
    private final int files;

    private Corpus(byte[] text, int files) {
        this.text = text;
        this.files = files;
    }

    /**
     * Returns the text of {@code paths}; of a directory, that of all files below it in the order of their names, but for those
     * that are hidden or binary (hold a zero byte).
     *
     * @throws IllegalArgumentException if a path is missing or cannot be read, or the whole is less than 2 or more than 2^31 - 9 bytes
     */
    static Corpus read(List<Path> paths) {
        ByteArrayOutputStream text = new ByteArrayOutputStream();
        int files = 0;
        for (Path path : paths) {
            if (!Files.exists(path)) {
                throw new IllegalArgumentException("--text " + path + " does not exist.");
            }
            boolean directory = Files.isDirectory(path);
            for (Path file : directory ? filesBelow(path) : List.of(path)) {
                byte[] bytes = bytes(file);
                if (!directory || !isBinary(bytes)) {
                    if (text.size() > Integer.MAX_VALUE - 8 - bytes.length) {
                        throw new IllegalArgumentException("--text holds more than 2 GiB; give less text.");
                    }
                    text.writeBytes(bytes);
                    files++;
                }
            }
        }
        if (text.size() < 2) {
            throw new IllegalArgumentException("--text " + join(paths) + " holds " + (text.size() == 0 ? "no text" : "1 byte")
                    + "; a model needs at least 2 bytes to learn from.");
        }
        return new Corpus(text.toByteArray(), files);
    }

    private static List<Path> filesBelow(Path directory) {
        try (Stream<Path> tree = Files.walk(directory.toRealPath())) {
            Path root = directory.toRealPath();
            List<Path> files = new ArrayList<>(tree.filter(Files::isRegularFile).filter(file -> !isHidden(root.relativize(file))).toList());
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

    private static byte[] bytes(Path file) {
        try {
            return Files.readAllBytes(file);
        } catch (IOException | OutOfMemoryError e) {
            throw unreadable(file, e);
        }
    }

    private static IllegalArgumentException unreadable(Path path, Throwable e) {
        String reason = e instanceof java.nio.file.AccessDeniedException ? "permission denied" : e.getMessage();
        return new IllegalArgumentException("--text " + path + " cannot be read: " + reason + ".", e);
    }

    private static boolean isBinary(byte[] bytes) {
        for (byte b : bytes) {
            if (b == 0) {
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
        return text.length;
    }

    /** Returns the number of files. */
    int files() {
        return files;
    }

    /** Returns [batch][context] bytes, windows of the text that {@code random} chooses; equal seeds choose equal windows. */
    long[][] batch(int batch, int context, Random random) {
        long[][] rows = new long[batch][context];
        for (long[] row : rows) {
            int start = random.nextInt(text.length - context + 1);
            for (int i = 0; i < context; i++) {
                row[i] = Byte.toUnsignedLong(text[start + i]);
            }
        }
        return rows;
    }
}
