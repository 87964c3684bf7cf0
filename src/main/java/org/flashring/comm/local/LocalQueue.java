package org.flashring.comm.local;

import org.flashring.DType;
import org.flashring.comm.transport.RankSum;
import org.flashring.comm.transport.Transport;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.device.Event;
import org.flashring.device.Stream;
import org.flashring.internal.Cudart;
import org.flashring.internal.Made;
import org.flashring.kernel.TensorMath;

/**
 * Where a rank of a {@link LocalGroup} copies and sums. On the host that is done when a method returns. On a CUDA
 * device it is queued: messages in a stream of this object's own, so that they run beside the caller's work,
 * collectives in the caller's; events, which ranks hand to each other as handles, say when memory may be touched. On
 * the host every handle is 0.
 *
 * <p>Events are recorded again and again. Who waits for one does so before the rank that owns it can have come round to
 * it again: a rank waits for its messages before it posts {@link Transport#DEPTH} more, and collectives wait for each
 * other.
 */
final class LocalQueue implements AutoCloseable {
    private final Device device;
    private final TensorMath math;
    private final RankSum sums;
    private final Stream transfers;
    private final Event[] posted; // [batch of this rank]: its memory is ready, at both ends
    private final Event[][] copied; // [peer][message of the peer]: it has been read
    private final Event ready; // for a collective
    private final Event done;
    private long stream;

    LocalQueue(Device device, int worldSize) {
        this.device = device;
        try (Made made = new Made()) {
            math = made.add(new TensorMath(device));
            sums = made.add(new RankSum(device, math, !device.isCuda() || Cuda.beyondReach(device) == null));
            if (device.isCuda()) {
                transfers = made.add(Stream.create(device));
                posted = events(made);
                copied = new Event[worldSize][];
                ready = made.add(Event.create(device));
                done = made.add(Event.create(device));
            } else {
                transfers = null;
                posted = null;
                copied = null;
                ready = null;
                done = null;
            }
            made.keep();
        }
    }

    private Event[] events(Made made) {
        Event[] events = new Event[Transport.DEPTH];
        for (int i = 0; i < events.length; i++) {
            events[i] = made.add(Event.create(device));
        }
        return events;
    }

    Device device() {
        return device;
    }

    void stream(long caller) {
        stream = caller;
        math.stream(caller);
    }

    /** Returns the event after which the memory of this rank's batch may be touched. */
    long posted(long ticket) {
        return transfers == null ? 0 : record(posted[(int) (ticket % Transport.DEPTH)], stream);
    }

    /**
     * Makes the copies that follow wait for a peer's message, which is ready after {@code sent}, and for this rank's
     * batch.
     */
    void begin(long ticket, long sent) {
        if (transfers != null) {
            Cudart.waitEvent(transfers.handle(), sent);
            transfers.await(posted[(int) (ticket % Transport.DEPTH)]);
        }
    }

    /** Copies a piece of a message. */
    void fetch(long to, long from, long bytes) {
        if (transfers == null) {
            math.copyBytes(to, from, bytes);
        } else if (bytes > 0) {
            Cudart.copy(to, from, bytes, transfers.handle());
        }
    }

    /**
     * Returns the event after which the {@code number}-th message from {@code peer} has been copied; later work waits
     * for it.
     */
    long received(int peer, long number) {
        if (transfers == null) {
            return 0;
        }
        if (copied[peer] == null) {
            try (Made made = new Made()) {
                copied[peer] = events(made);
                made.keep();
            }
        }
        long event = record(copied[peer][(int) (number % Transport.DEPTH)], transfers.handle());
        await(event);
        return event;
    }

    /** Makes later work wait for a peer's event. */
    void await(long event) {
        if (event != 0) {
            Cudart.waitEvent(stream, event);
        }
    }

    /** Notes that what this rank brings to a collective is ready after the work queued so far. */
    void ready() {
        if (ready != null) {
            ready.record(stream);
        }
    }

    long readyEvent() {
        return ready == null ? 0 : ready.handle();
    }

    /** Notes that this rank touches its peers' memory no more after the work queued so far. */
    void done() {
        if (done != null) {
            done.record(stream);
        }
    }

    long doneEvent() {
        return done == null ? 0 : done.handle();
    }

    private static long record(Event event, long stream) {
        event.record(stream);
        return event.handle();
    }

    /** Waits on the host for all work queued so far. */
    void synchronize() {
        if (transfers != null) {
            Cudart.synchronizeStream(stream);
        }
    }

    void copy(long to, long from, long bytes) {
        math.copyBytes(to, from, bytes);
    }

    /**
     * Sums {@code count} elements at {@code from} of every rank, in rank order, and puts the sum at every {@code to}.
     */
    void sum(long[] from, long[] to, long count, DType dtype) {
        sums.sum(from, to, count, dtype);
    }

    @Override
    public void close() {
        math.close();
        sums.close();
        if (transfers != null) {
            transfers.close();
            ready.close();
            done.close();
            close(posted);
            for (Event[] ofPeer : copied) {
                close(ofPeer);
            }
        }
    }

    private static void close(Event[] events) {
        if (events != null) {
            for (Event event : events) {
                event.close();
            }
        }
    }
}
