package org.flashring.support;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.locks.LockSupport;

/** The memory of this process that lies in RAM, watched from the start to {@link #close}: seen four times a second. */
public final class HostMemory implements AutoCloseable {
    private static final long PAUSE_NANOS = 250_000_000; // each look leaves some kilobytes on the heap

    private final long first = statusBytes("VmRSS");
    private final Thread watcher = new Thread(this::watch, "host memory");
    private volatile long most = first;
    private volatile boolean closed;

    public HostMemory() {
        watcher.setDaemon(true);
        watcher.start();
    }

    /** Returns the bytes at the start. */
    public long first() {
        return first;
    }

    /** Returns the most bytes so far. */
    public long most() {
        return Math.max(most, statusBytes("VmRSS"));
    }

    /**
     * Returns a field of /proc/self/status in bytes, such as VmRSS, what lies in RAM, and VmHWM, the most that ever
     * did.
     */
    public static long statusBytes(String field) {
        try {
            return Files.readAllLines(Path.of("/proc/self/status")).stream()
                    .filter(line -> line.startsWith(field + ":"))
                    .mapToLong(line -> Long.parseLong(line.replaceAll("[^0-9]", "")) << 10)
                    .findFirst()
                    .orElseThrow();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void watch() {
        while (!closed) {
            most = most();
            LockSupport.parkNanos(PAUSE_NANOS);
        }
    }

    @Override
    public void close() {
        closed = true;
    }
}
