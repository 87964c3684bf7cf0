package org.flashring.comm;

import org.flashring.device.Device;
import org.flashring.device.Event;

/** One operation that has been queued: between its two events it waits for nothing but the peers. Guarded by its {@link NcclBacklog}. */
final class NcclWork implements AutoCloseable {
    final Event begun;
    final Event ended;
    String operation;
    int to;
    int from;
    String phase;
    int step;
    long number;
    boolean issued; // its call has come back, and ended been recorded
    long since; // when it was first seen to have begun, System.nanoTime; 0 before

    NcclWork(Device device) {
        begun = Event.create(device);
        ended = Event.create(device);
    }

    /** Returns such as "exchange to rank 1 and from rank 3 (operation 12, step 2 of backward)". */
    String describe() {
        return operation + (to < 0 ? "" : " to rank " + to + " and from rank " + from)
                + " (operation " + number + (phase == null ? "" : ", step " + step + " of " + phase) + ")";
    }

    @Override
    public void close() {
        begun.close();
        ended.close();
    }
}
