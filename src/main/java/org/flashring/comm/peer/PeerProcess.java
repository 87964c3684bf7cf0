package org.flashring.comm.peer;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.flashring.comm.transport.Deadline;
import org.flashring.comm.transport.Transport;
import org.flashring.device.Device;
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
        groups.add(group);
        exports.add(group.freed());
        if (!watching) {
            watching = true;
            Thread thread = new Thread(this::watch, "flashring peer watchdog");
            thread.setDaemon(true);
            thread.start();
        }
    }

    /** Forgets a group; after the last one, what was opened is closed, if {@code idle}: nothing is copied from it. */
    synchronized void remove(PeerTransport group, boolean idle) {
        groups.remove(group);
        exports.remove(group.freed());
        if (groups.isEmpty() && idle) {
            imports.close();
        }
    }

    /**
     * Closes what peers have freed. It waits before until nothing here waits for a peer: CUDA waits for the device when
     * it closes memory, and then nobody could end such waits.
     */
    void closeFreed(Transport control) {
        while (!isIdle()) {
            control.requireAlive();
            LockSupport.parkNanos(PARK_NANOS);
        }
        imports.closeFreed();
    }

    private synchronized boolean isIdle() {
        for (PeerTransport group : groups) {
            if (!group.isIdle()) {
                return false;
            }
        }
        return true;
    }

    private void watch() {
        CudaIpc.enter(device.ordinal());
        while (watchOnce()) {
            try {
                TimeUnit.MILLISECONDS.sleep(POLL_MILLIS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return;
            }
        }
    }

    /** Returns whether there will be something to watch. */
    private synchronized boolean watchOnce() {
        watching = !groups.isEmpty();
        for (PeerTransport group : groups) {
            group.watch(deadline);
        }
        return watching;
    }
}
