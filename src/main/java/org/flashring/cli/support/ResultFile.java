package org.flashring.cli.support;

import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;

/** Writes files that are whole or not there: into a file beside, which takes the name once it is complete. */
public final class ResultFile {
    /** Writes the content of a file. */
    public interface Content {
        void write(OutputStream out) throws IOException;
    }

    private ResultFile() {}

    /**
     * Throws if {@code file}, which {@code option} of the command names, could not be written: work whose results could
     * not be kept does not start.
     */
    public static void require(CommandLine command, String option, Path file) {
        Path folder = file.toAbsolutePath().getParent();
        String problem = null;
        if (Files.isDirectory(file)) {
            problem = "is a directory";
        } else if (Files.exists(file) && !Files.isWritable(file)) {
            problem = "cannot be written";
        } else if (!Files.exists(file) && (folder == null || !Files.isDirectory(folder))) {
            problem = "lies in a directory that does not exist";
        } else if (!Files.exists(file) && !Files.isWritable(folder)) {
            problem = "lies in a directory that cannot be written to";
        }
        if (problem != null) {
            throw new ParameterException(
                    command, option + " " + file + " " + problem + "; give a file that can be written.");
        }
    }

    /**
     * Writes {@code file}; what it held before stays until then. A device, a pipe, and a file in a directory that takes
     * no new ones are written in place.
     *
     * @throws IOException if it cannot be written; the message names the file and says why
     */
    public static void write(Path file, Content content) throws IOException {
        try {
            Path target = Files.exists(file)
                    ? file.toRealPath()
                    : file.toAbsolutePath(); // not a link's place, but what it stands for
            if (Files.exists(target) && (!Files.isRegularFile(target) || !Files.isWritable(target.getParent()))) {
                write(target, content, StandardOpenOption.WRITE);
            } else {
                replace(target, content);
            }
        } catch (IOException e) {
            throw new IOException(file + " cannot be written: " + why(e) + ".", e);
        }
    }

    /** Returns the reason, which these exceptions leave to their names. */
    private static String why(IOException e) {
        if (e instanceof NoSuchFileException missing) {
            Path folder = Path.of(missing.getFile()).getParent();
            return folder != null && !Files.exists(folder)
                    ? "the folder " + folder + " does not exist"
                    : missing.getFile() + " does not exist";
        }
        if (e instanceof AccessDeniedException denied) {
            return "there is no permission for " + denied.getFile();
        }
        return e.getMessage();
    }

    private static void replace(Path target, Content content) throws IOException {
        Path beside = target.resolveSibling(
                "." + target.getFileName() + "." + ProcessHandle.current().pid());
        try {
            write(
                    beside,
                    content,
                    StandardOpenOption.CREATE,
                    StandardOpenOption.TRUNCATE_EXISTING,
                    StandardOpenOption.WRITE);
            Files.move(beside, target, StandardCopyOption.ATOMIC_MOVE);
        } finally {
            Files.deleteIfExists(beside);
        }
    }

    private static void write(Path file, Content content, StandardOpenOption... options) throws IOException {
        try (OutputStream out = new BufferedOutputStream(Files.newOutputStream(file, options))) {
            content.write(out);
        }
    }
}
