package org.flashring.comm.transport;

import org.flashring.comm.Transfers;
import org.flashring.device.Device;
import org.flashring.device.Event;

/**
 * One operation that has been queued: between its two events it waits for nothing but the peers. Guarded by its
 * {@link DeviceBacklog}.
 */
public final class DeviceWork implements AutoCloseable {
    private static final int NO_BATCH = -1;

    final Event begun;
    final Event ended;
    String phase;
    int step;
    private String operation;
    private long number;
    private int sends = NO_BATCH; // of the batch, which may be another by the time this one is described
    private int receives;
    private int to;
    private int from;
    boolean issued; // its call has come back, and ended been recorded
    long since; // when it was first seen to have begun, System.nanoTime; 0 before

    DeviceWork(Device device) {
        begun = Event.create(device);
        ended = Event.create(device);
    }

    /** Makes this the {@code number}-th operation; {@code batch} is null unless it sends messages. */
    void set(String newOperation, Transfers batch, long newNumber) {
        operation = newOperation;
        number = newNumber;
        since = 0;
        issued = false;
        sends = batch == null ? NO_BATCH : batch.sends();
        receives = batch == null ? NO_BATCH : batch.receives();
        to = sends > 0 ? batch.to(0) : NO_BATCH;
        from = receives > 0 ? batch.from(0) : NO_BATCH;
    }

    /** Returns such as "exchange to rank 1 and from rank 3 (operation 12, step 2 of backward)". */
    String describe() {
        return operation + messages() + " (operation " + number
                + (phase == null ? "" : ", step " + step + " of " + phase) + ")";
    }

    private String messages() {
        if (sends == NO_BATCH) {
            return "";
        }
        return sends == 1 && receives == 1
                ? " to rank " + to + " and from rank " + from
                : " of " + sends + " messages sent and " + receives + " received";
    }

    /** Returns the event that is recorded where it begins to wait for nothing but the peers. */
    public Event begun() {
        return begun;
    }

    /** Returns the event that is recorded at its end. */
    public Event ended() {
        return ended;
    }

    @Override
    public void close() {
        begun.close();
        ended.close();
    }
}
