package org.flashring.comm.peer;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.flashring.comm.transport.Deadline;
import org.flashring.comm.transport.Transport;
import org.flashring.device.Device;
import org.flashring.device.Stream;
import org.flashring.internal.BootId;
import org.flashring.internal.CudaIpc;

/**
 * What all groups of this process that stem from one share: its device, the memory that it shows and that it has
 * opened, and a thread that watches. Streams wait for peers for ever; the thread ends their waits when a peer is dead,
 * or comes later than the deadline.
 */
final class PeerProcess {
    private static final long POLL_MILLIS = 10;

    private static final long PARK_NANOS = 50_000;

    private static final Imports.Opener OTHERS = new Imports.Opener() {
        @Override
        public long open(long handle) {
            return CudaIpc.open(handle);
        }

        @Override
        public void close(long memory) {
            CudaIpc.close(memory);
        }
    };

    private final int number;
    private final Device device;
    private final Deadline deadline;
    private final Exports exports = new Exports(new OwnMemory());
    private final Imports imports = new Imports(OTHERS);
    private final List<PeerTransport> groups = new ArrayList<>(); // guarded by this object, as watching is
    private final List<PeerTransport> left = new ArrayList<>(); // closed, but not idle; guarded as the others are
    private boolean watching;

    /** Makes that of the process of a number that no other one of the first group has. */
    PeerProcess(int number, Device device, Deadline deadline) {
        this.number = number;
        this.device = device;
        this.deadline = deadline;
    }

    int number() {
        return number;
    }

    Device device() {
        return device;
    }

    /** Returns what all processes of this host say and no others do. */
    String host() {
        return BootId.read();
    }

    /** Returns why this process has no part in peer copies, as far as it knows alone; empty if it can. */
    String problem() {
        return CudaIpc.hasStreamWaits(device.ordinal()) ? "" : "streams of " + device + " cannot wait for memory";
    }

    Exports exports() {
        return exports;
    }

    Imports imports() {
        return imports;
    }

    /** Begins to watch a group. */
    synchronized void add(PeerTransport group) {
        if (!watching) {
            Stream rescue = Stream.createUrgent(device);
            Thread thread = new Thread(() -> watch(rescue), "flashring peer watchdog");
            thread.setDaemon(true);
            thread.start();
            watching = true;
        }
        groups.add(group);
        exports.add(group.freed());
    }

    /**
     * Forgets a group that is closed; unless it is {@code idle}, the watchdog ends its waits and frees it after the
     * last group. After all of them, what was opened is closed: nothing is copied from it.
     */
    synchronized void remove(PeerTransport group, boolean idle) {
        groups.remove(group);
        exports.remove(group.freed());
        if (!idle) {
            left.add(group);
        }
        if (groups.isEmpty() && left.isEmpty()) {
            imports.close();
        }
    }

    /**
     * Returns once nothing here waits for a peer, or throws if the group of {@code control} fails. Before memory of
     * peers is closed: CUDA waits for the device then, and nobody could end such waits.
     */
    void awaitIdle(Transport control) {
        while (!isIdle()) {
            control.requireAlive();
            LockSupport.parkNanos(PARK_NANOS);
        }
    }

    private synchronized boolean isIdle() {
        return areIdle(groups) && areIdle(left);
    }

    private static boolean areIdle(List<PeerTransport> groups) {
        for (PeerTransport group : groups) {
            if (!group.isIdle()) {
                return false;
            }
        }
        return true;
    }

    /** Watches; {@code rescue} is a stream in which nothing ever waits, and which this closes. */
    private void watch(Stream rescue) {
        try (rescue) {
            CudaIpc.enter(device.ordinal());
            while (watchOnce(rescue)) {
                TimeUnit.MILLISECONDS.sleep(POLL_MILLIS);
            }
        } catch (InterruptedException | RuntimeException | Error e) {
            end(e);
        }
    }

    private synchronized void end(Throwable cause) {
        watching = false;
        groups.forEach(group -> group.unwatched(cause));
    }

    /** Returns whether there will be something to watch. */
    private synchronized boolean watchOnce(Stream rescue) {
        for (PeerTransport group : groups) {
            group.watch(deadline, rescue);
        }
        rescueLeft(rescue);
        watching = !groups.isEmpty() || !left.isEmpty();
        return watching;
    }

    /** Ends waits of closed groups. Frees these once no other group is left, which it could keep from being watched. */
    private void rescueLeft(Stream rescue) {
        for (PeerTransport group : left) {
            try {
                group.releaseWaits(rescue);
            } catch (IllegalStateException e) {
                // the device has failed: nothing waits on it, as isIdle() says from now on
            }
        }
        if (groups.isEmpty() && !left.isEmpty() && areIdle(left)) {
            List<PeerTransport> idle = List.copyOf(left);
            left.clear();
            idle.forEach(PeerTransport::free);
            imports.close();
        }
    }
}
