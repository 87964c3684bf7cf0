package org.flashring.internal;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.locks.LockSupport;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.Pointer;

/**
 * Loads native libraries, one process at a time. JavaCPP unpacks natives from jars into a cache shared by all processes
 * of a user without guarding against a reader of a half-written file; one process per GPU starts just so.
 */
final class NativeLoader {
    private static final System.Logger LOG = System.getLogger(NativeLoader.class.getName());

    private static final long POLL_NANOS = 5_000_000;

    private static volatile UnsatisfiedLinkError failure; // why the library is not there; null if it is

    private NativeLoader() {}

    /**
     * Loads FlashRing's own library, then makes the first call into it. Called from the initialiser of {@link Native}
     * alone, and throws nothing: a class whose initialiser threw tells later callers no more than its name.
     */
    static void load(Runnable firstCall) {
        try {
            loadAlone(Native.class);
            firstCall.run();
        } catch (IOException | RuntimeException | LinkageError e) {
            failure = error(new LoadFailure(Native.class).explain(e), e);
        }
    }

    /**
     * Returns if FlashRing's own library is loaded.
     *
     * @throws UnsatisfiedLinkError if it could not be; the message says what to add, install or set
     */
    static void requireLoaded() {
        if (failure != null) {
            throw error(failure.getMessage(), failure);
        }
    }

    /**
     * Returns once the libraries behind a JavaCPP preset are loaded.
     *
     * @throws UnsatisfiedLinkError if they cannot be
     */
    static void load(Class<?> preset) {
        try {
            loadAlone(preset);
        } catch (IOException e) {
            throw error(new LoadFailure(preset).explain(e), e);
        }
    }

    private static UnsatisfiedLinkError error(String message, Throwable cause) {
        UnsatisfiedLinkError error = new UnsatisfiedLinkError(message);
        error.initCause(cause);
        return error;
    }

    private static void loadAlone(Class<?> binding) throws IOException {
        boolean interrupted = Thread.interrupted(); // would close the lock's channel, and no second attempt is possible
        try (FileChannel channel = FileChannel.open(lockFile(), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
                FileLock lock = lock(channel)) {
            LOG.log(System.Logger.Level.DEBUG, "loading {0} under {1}", binding, lock);
            Pointer.totalBytes(); // A library being loaded waits, inside Loader's monitor, for this class, whose
            // initialiser waits for the monitor.
            Loader.load(binding);
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /**
     * Returns the lock, once no other process has it. Polled: JavaCPP locks a file of its own, and where another thread
     * of the process waits for that one, the system would take two blocking locks for a deadlock and refuse.
     */
    private static FileLock lock(FileChannel channel) throws IOException {
        FileLock lock = tryLock(channel);
        while (lock == null) {
            LockSupport.parkNanos(POLL_NANOS);
            lock = tryLock(channel);
        }
        return lock;
    }

    private static FileLock tryLock(FileChannel channel) throws IOException {
        try {
            return channel.tryLock();
        } catch (OverlappingFileLockException e) {
            return null; // another thread or class loader of this process has it
        }
    }

    private static Path lockFile() throws IOException {
        Path cache = Loader.getCacheDir().toPath();
        Files.createDirectories(cache);
        return cache.resolve("flashring.lock");
    }
}
