package org.flashring.comm.peer;

import java.util.concurrent.locks.LockSupport;
import org.flashring.DType;
import org.flashring.comm.Transfers;
import org.flashring.comm.transport.Deadline;
import org.flashring.comm.transport.DeviceBacklog;
import org.flashring.comm.transport.DeviceWork;
import org.flashring.comm.transport.RankSum;
import org.flashring.comm.transport.Transport;
import org.flashring.device.Device;
import org.flashring.device.Event;
import org.flashring.device.Stream;
import org.flashring.internal.Cudart;
import org.flashring.internal.Made;
import org.flashring.kernel.TensorMath;

/**
 * Where a rank copies, sums and signals: copies of messages and every wait for a peer in streams of this object's own,
 * joined to the caller's by events in both directions. What tells a peer that memory is ready waits for no peer itself,
 * so that two ranks never wait for each other's word.
 */
final class PeerQueue implements AutoCloseable {
    private static final long SPIN_NANOS = 200_000;
    private static final long PARK_NANOS = 50_000;
    private static final long SETTLE_NANOS = 800_000_000;

    private final Transport control; // on the host, which knows of failures
    private final int rank;
    private final int worldSize;
    private final Signals signals;
    private final DeviceBacklog backlog;
    private final TensorMath math;
    private final RankSum sums;
    private final Stream outgoing; // tells that messages are ready, and who has come to a meeting
    private final Stream transfers; // copies them
    private final Stream returns; // waits until peers have
    private final Stream meetings;
    private final Event[] posted = new Event[Transport.DEPTH]; // the memory of a batch is ready, at both ends
    private final Event reached; // a point of the caller's stream
    private long stream;
    private boolean settled;

    PeerQueue(Transport control, Device device, Signals signals) {
        this.control = control;
        this.signals = signals;
        rank = control.rank();
        worldSize = control.worldSize();
        try (Made made = new Made()) {
            backlog = made.add(new DeviceBacklog(device));
            math = made.add(new TensorMath(device));
            sums = made.add(new RankSum(device, math, true));
            outgoing = made.add(Stream.createUrgent(device)); // not to queue behind streams that wait
            transfers = made.add(Stream.create(device));
            returns = made.add(Stream.create(device));
            meetings = made.add(Stream.create(device));
            reached = made.add(Event.create(device));
            for (int i = 0; i < posted.length; i++) {
                posted[i] = made.add(Event.create(device));
            }
            made.keep();
        }
    }

    void stream(long caller) {
        if (Cudart.isCapturing(caller)) {
            throw new UnsupportedOperationException(
                    "the stream is captured in a CUDA graph, but peers' words count up and cannot be replayed; of the"
                            + " ranks of a LocalGroup operations can");
        }
        stream = caller;
        math.stream(caller);
    }

    void at(String phase, int step) {
        backlog.at(phase, step);
    }

    /** Tells the receivers of a batch that they may read it once the caller's stream has come here. */
    void post(long ticket, Transfers batch) {
        Event ready = posted(ticket);
        ready.record(stream);
        outgoing.await(ready);
        for (int i = 0; i < batch.sends(); i++) {
            int to = batch.to(i);
            if (to != rank && batch.nextTo(to, 0) == i) { // one word a rank
                signals.raise(Signals.Word.READY, to, outgoing.handle());
            }
        }
    }

    private Event posted(long ticket) {
        return posted[(int) (ticket % Transport.DEPTH)];
    }

    /** Begins the copies of what a batch receives, which wait for its own memory. */
    DeviceWork beginCopies(long ticket, Transfers batch) {
        transfers.await(posted(ticket));
        return begin("exchange", batch, transfers);
    }

    /** Makes copies that follow wait for a batch of a peer. */
    void awaitReady(int peer) {
        if (peer != rank) {
            signals.await(Signals.Word.READY, peer, transfers.handle());
        }
    }

    void fetch(long to, long from, long bytes) {
        if (bytes > 0) {
            Cudart.copy(to, from, bytes, transfers.handle());
        }
    }

    /** Tells a peer that its batch has been read. */
    void taken(int peer) {
        if (peer != rank) {
            signals.raise(Signals.Word.TAKEN, peer, transfers.handle());
        }
    }

    /** Makes later work of the caller's stream wait for the copies. */
    void endCopies(DeviceWork copies) {
        end(copies, transfers);
    }

    /** Makes later work of the caller's stream wait until peers have read what a batch sends. */
    void release(long ticket, Transfers batch) {
        DeviceWork work = null;
        for (int i = 0; i < batch.sends(); i++) {
            int to = batch.to(i);
            if (to != rank && batch.nextTo(to, 0) == i) {
                if (work == null) {
                    returns.await(posted(ticket));
                    work = begin("exchange", batch, returns);
                }
                signals.await(Signals.Word.TAKEN, to, returns.handle());
            }
        }
        if (work != null) {
            end(work, returns);
        }
    }

    /** Makes later work of the caller's stream wait until that of every rank has come to its call of this. */
    void meet(String operation) {
        reached.record(stream);
        outgoing.await(reached);
        meetings.await(reached);
        for (int peer = 0; peer < worldSize; peer++) {
            if (peer != rank) {
                signals.raise(Signals.Word.MET, peer, outgoing.handle());
            }
        }
        DeviceWork work = begin(operation, null, meetings);
        for (int peer = 0; peer < worldSize; peer++) {
            if (peer != rank) {
                signals.await(Signals.Word.MET, peer, meetings.handle());
            }
        }
        end(work, meetings);
    }

    private DeviceWork begin(String operation, Transfers batch, Stream on) {
        DeviceWork work = backlog.take(operation, batch);
        while (work == null) {
            LockSupport.parkNanos(PARK_NANOS);
            control.requireAlive();
            work = backlog.take(operation, batch);
        }
        work.begun().record(on.handle());
        backlog.add(work);
        return work;
    }

    private void end(DeviceWork work, Stream on) {
        work.ended().record(on.handle());
        backlog.issued(work);
        Cudart.waitEvent(stream, work.ended().handle());
    }

    /** Copies in the caller's stream. */
    void copy(long to, long from, long bytes) {
        if (to != from) {
            math.copyBytes(to, from, bytes);
        }
    }

    /** Sums in the caller's stream, see {@link RankSum}. */
    void sum(long[] from, long[] to, long count, DType dtype) {
        sums.sum(from, to, count, dtype);
    }

    /** Waits on the host until the caller's stream has come here; a failure of the group ends it. */
    void synchronize() {
        reached.record(stream);
        long start = System.nanoTime();
        while (!reached.isDone()) {
            control.requireAlive();
            if (System.nanoTime() - start < SPIN_NANOS) {
                Thread.onSpinWait();
            } else {
                LockSupport.parkNanos(PARK_NANOS);
            }
        }
        control.requireAlive();
    }

    /** Returns once everything queued is done; throws if the group fails. */
    void drain() {
        while (backlog.oldest() != null) {
            control.requireAlive();
            LockSupport.parkNanos(PARK_NANOS);
        }
    }

    /** Returns what has waited for peers longer than the deadline, in words; null if nothing has. */
    String overdue(Deadline deadline) {
        String overdue = backlog.overdue(System.nanoTime(), deadline.nanos());
        return overdue == null ? null : deadline.missedIn(overdue);
    }

    /**
     * Returns once this object's streams are done, whose waits are ended, or soon: they may be behind long work of the
     * caller's. Returns whether they are.
     */
    synchronized boolean settle() {
        long start = System.nanoTime();
        while (!settled && System.nanoTime() - start < SETTLE_NANOS) {
            settled = isIdle();
            if (!settled) {
                LockSupport.parkNanos(PARK_NANOS);
            }
        }
        return settled;
    }

    /** Returns whether nothing in this object's streams waits for peers or copies. */
    boolean isIdle() {
        try {
            return Cudart.isIdle(transfers.handle())
                    && Cudart.isIdle(returns.handle())
                    && Cudart.isIdle(meetings.handle())
                    && Cudart.isIdle(outgoing.handle());
        } catch (IllegalStateException e) {
            return true; // the device has failed: nothing runs on it
        }
    }

    @Override
    public void close() {
        backlog.close();
        sums.close();
        math.close();
        outgoing.close();
        transfers.close();
        returns.close();
        meetings.close();
        reached.close();
        for (Event event : posted) {
            event.close();
        }
    }
}
