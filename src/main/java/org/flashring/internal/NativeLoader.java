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
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Loads native libraries, one process at a time. JavaCPP unpacks natives from jars into a cache shared by all
 * processes of a user without guarding against a reader of a half-written file; one process per GPU starts just so.
 */
final class NativeLoader {
    private static final Logger LOG = LoggerFactory.getLogger(NativeLoader.class);

    private static final long POLL_NANOS = 5_000_000;
    private static final String UNLOCKABLE =
            "JavaCPP's cache folder cannot be locked; set -Dorg.bytedeco.javacpp.cachedir to a writable one";

    private NativeLoader() {}

    /**
     * Returns once FlashRing's own library is loaded. Called from the initialiser of {@link Native} alone.
     *
     * @throws UnsatisfiedLinkError if it cannot be loaded; the message says what to add or install
     */
    static void load() {
        try {
            loadAlone(Native.class);
        } catch (IOException e) {
            throw failure("FlashRing's native library", UNLOCKABLE, e);
        } catch (UnsatisfiedLinkError e) {
            throw failure("FlashRing's native library",
                    "it is not on the class path or cannot be loaded; add flashring-<version>-" + Loader.getPlatform() + ".jar", e);
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
            throw failure(preset.getName(), UNLOCKABLE, e);
        }
    }

    private static void loadAlone(Class<?> binding) throws IOException {
        boolean interrupted = Thread.interrupted(); // would close the lock's channel, and no second attempt is possible
        try (FileChannel channel = FileChannel.open(lockFile(), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
                FileLock lock = lock(channel)) {
            LOG.debug("loading {} under {}", binding, lock);
            Pointer.totalBytes(); // A library being loaded waits, inside Loader's monitor, for this class, whose initialiser waits for the monitor.
            Loader.load(binding);
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /**
     * Returns the lock, once no other process has it. Polled: JavaCPP locks a file of its own, and where another thread of the
     * process waits for that one, the system would take two blocking locks for a deadlock and refuse.
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

    private static UnsatisfiedLinkError failure(String what, String reason, Throwable cause) {
        Throwable root = cause.getCause() == null ? cause : cause.getCause();
        UnsatisfiedLinkError error = new UnsatisfiedLinkError(
                what + " for " + Loader.getPlatform() + ": " + reason + " (" + root.getMessage() + ")");
        error.initCause(cause);
        return error;
    }

    private static Path lockFile() throws IOException {
        Path cache = Loader.getCacheDir().toPath();
        Files.createDirectories(cache);
        return cache.resolve("flashring.lock");
    }
}
