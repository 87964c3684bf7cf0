package org.flashring.comm.transport;

import java.util.ArrayDeque;
import org.flashring.comm.Transfers;
import org.flashring.device.Device;

/**
 * The operations that a rank has queued on its device and that may not be done. Waiting is measured from when an
 * operation has begun on the device, not from when it was queued: the host runs ahead of long kernels.
 */
public final class DeviceBacklog implements AutoCloseable {
    private static final int CAPACITY = 64;

    private final ArrayDeque<DeviceWork> free = new ArrayDeque<>();
    private final ArrayDeque<DeviceWork> pending = new ArrayDeque<>();
    private long numbers;
    private String phase;
    private int step;

    /** Makes one without operations, on {@code device}. */
    public DeviceBacklog(Device device) {
        for (int i = 0; i < CAPACITY; i++) {
            free.add(new DeviceWork(device));
        }
    }

    /** Notes what the operations that follow are for. */
    public synchronized void at(String newPhase, int newStep) {
        phase = newPhase;
        step = newStep;
    }

    /**
     * Returns an operation, of a batch unless null, to be recorded and then {@link #add added}; null while all are
     * pending.
     */
    public synchronized DeviceWork take(String operation, Transfers batch) {
        retire();
        DeviceWork work = free.poll();
        if (work != null) {
            work.set(operation, batch, numbers++);
            work.phase = phase;
            work.step = step;
        }
        return work;
    }

    /** Notes an operation whose beginning has been recorded. */
    public synchronized void add(DeviceWork work) {
        pending.add(work);
    }

    /** Notes that an operation's end has been recorded too. */
    public synchronized void issued(DeviceWork work) {
        work.issued = true;
    }

    /** Moves what is done from pending to free. */
    private void retire() {
        for (int left = pending.size(); left > 0; left--) { // once round, which allocates no iterator
            DeviceWork work = pending.remove();
            (work.issued && work.ended.isDone() ? free : pending).add(work);
        }
    }

    /** Returns an operation that has waited for its peers longer than the deadline, in words; null if none has. */
    public synchronized String overdue(long now, long deadlineNanos) {
        retire();
        for (DeviceWork work : pending) {
            if (work.since == 0 && work.begun.isDone()) {
                work.since = now;
            }
            if (work.since != 0 && now - work.since > deadlineNanos) {
                return work.describe();
            }
        }
        return null;
    }

    /** Returns the oldest operation that is not done, in words; null if all are. */
    public synchronized String oldest() {
        retire();
        return pending.isEmpty() ? null : pending.peek().describe();
    }

    @Override
    public synchronized void close() {
        free.forEach(DeviceWork::close);
        pending.forEach(DeviceWork::close);
        free.clear();
        pending.clear();
    }
}
