package org.flashring.device;

import org.flashring.internal.Checks;
import org.flashring.internal.Cudart;

/**
 * A CUDA event: a point in a stream that other streams and the host can wait for. Closing twice is harmless; use after
 * close throws.
 */
public final class Event implements AutoCloseable {
    private final Device device;
    private final boolean owned;
    private final long handle;
    private boolean closed;

    private Event(Device device, long handle, boolean owned) {
        this.device = device;
        this.handle = handle;
        this.owned = owned;
    }

    /**
     * Returns a new event, which keeps no time and counts as done until it is recorded.
     *
     * @throws UnsupportedOperationException if there is no CUDA
     * @throws IllegalArgumentException unless {@code device} is a CUDA device of this process
     */
    public static Event create(Device device) {
        return create(device, false);
    }

    /** Returns a new event as {@link #create(Device)} does, which keeps the time. */
    public static Event createTimed(Device device) {
        return create(device, true);
    }

    private static Event create(Device device, boolean timed) {
        int previous = CurrentDevice.enter(Cuda.requireCuda("device", device));
        try {
            return new Event(device, timed ? Cudart.createTimedEvent() : Cudart.createEvent(), true);
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    /** Returns a view of somebody else's {@code cudaEvent_t}, which stays theirs. */
    public static Event wrap(Device device, long handle) {
        return new Event(Cuda.requireCuda("device", device), Checks.atLeast("handle", handle, 1), false);
    }

    /** Returns the {@code cudaEvent_t}. */
    public long handle() {
        if (closed) {
            throw new IllegalStateException("the event on " + device + " is closed");
        }
        return handle;
    }

    /** Notes the point that {@code stream}, a {@code cudaStream_t} of the same device, has been given work up to. */
    public void record(long stream) {
        int previous = CurrentDevice.enter(device); // whose default stream 0 stands for
        try {
            Cudart.recordEvent(handle(), stream);
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    /** Returns whether the work before the last record is done. */
    public boolean isDone() {
        return Cudart.isDone(handle());
    }

    /** Returns the milliseconds from {@code earlier} to this one; both keep the time and are done. */
    public double millisSince(Event earlier) {
        return Cudart.millisBetween(earlier.handle(), handle());
    }

    /** Waits on the host until the work before the last record is done. */
    public void synchronize() {
        Cudart.synchronizeEvent(handle());
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            if (owned) {
                Cudart.destroyEvent(handle);
            }
        }
    }
}
