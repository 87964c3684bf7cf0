package org.flashring.comm.process;

import java.io.IOException;
import java.nio.channels.Selector;
import org.flashring.comm.Transfers;
import org.flashring.device.Device;
import org.flashring.kernel.TensorMath;

/**
 * Moves the batches of a rank. What goes at once does so within post and await; a thread of this object's own, which
 * sleeps while nothing can be moved, does the rest, so that peers do not wait for this rank while it computes.
 */
final class ExchangeQueue implements AutoCloseable {
    private final Seat seat;
    private final Lane[] lanes; // by rank; null for this one
    private final Batches batches = new Batches();
    private final Outgoing[] outgoing;
    private final Incoming[] incoming;
    private final Waits waits;
    private final TensorMath copier = new TensorMath(Device.HOST); // for messages of this rank to itself
    private final Selector selector;
    private final Thread mover;
    private boolean news; // a message has come or has gone, or a peer is gone
    private boolean closed;

    /** Takes the lanes over, which it closes. */
    ExchangeQueue(Seat seat, Lane[] lanes) throws IOException {
        this.seat = seat;
        this.lanes = lanes;
        outgoing = new Outgoing[lanes.length];
        incoming = new Incoming[lanes.length];
        waits = new Waits(seat, lanes.length);
        selector = Selector.open();
        for (int peer = 0; peer < lanes.length; peer++) {
            if (lanes[peer] != null) {
                lanes[peer].register(selector);
                outgoing[peer] = new Outgoing(batches, peer, lanes[peer]);
                incoming[peer] = new Incoming(batches, peer, lanes[peer]);
            }
        }
        mover = new Thread(this::move, "flashring exchange of rank " + seat.rank());
        mover.setDaemon(true);
    }

    /** Begins, once everything that may fail has been made. */
    void start() {
        mover.start();
    }

    private void move() {
        try {
            boolean goesOn = true;
            while (goesOn) {
                selector.select(Lane.WAKE, 0);
                goesOn = advanceAwake();
            }
        } catch (IOException | RuntimeException | Error e) { // without this thread peers would wait for this rank
            seat.fail(seat.sentence("moves nothing more: " + e), e);
        }
    }

    /** Returns whether there will be more to do. */
    private boolean advanceAwake() {
        String problem;
        synchronized (this) {
            if (closed || seat.membership().hasFailed()) {
                return false;
            }
            advance();
            problem = batches.problem();
        }
        if (problem != null) {
            seat.fail(seat.sentence(problem), null);
        }
        return problem == null;
    }

    void post(long ticket, Transfers batch) {
        String problem;
        synchronized (this) {
            batches.post(ticket, batch);
            advance();
            problem = batches.problem();
        }
        if (problem != null) {
            throw seat.fail(seat.sentence(problem), null);
        }
    }

    /** Moves all that can be moved at once, and asks to be woken for the rest. */
    private void advance() {
        do {
            while (step()) {
                // goes on
            }
            for (int peer = 0; peer < lanes.length; peer++) {
                if (lanes[peer] != null) {
                    lanes[peer].arm(outgoing[peer].isWaiting());
                    news |= lanes[peer].ended();
                }
            }
        } while (step());
        if (news) {
            news = false;
            notifyAll();
        }
    }

    private boolean step() {
        if (seat.membership().hasFailed()) {
            return false;
        }
        boolean any = false;
        for (int peer = 0; peer < lanes.length; peer++) {
            if (lanes[peer] != null) {
                any |= lanes[peer].pump();
                any |= outgoing[peer].step();
                any |= incoming[peer].step();
            }
        }
        news |= any;
        return any;
    }

    /** Returns once all that the batch receives has come, and that of batches before it. */
    void receive(long ticket, Transfers batch) {
        copyOwn(batch);
        await(ticket, "receive", incoming);
    }

    /** Returns once all that the batch sends is on its way, and that of batches before it. */
    void release(long ticket) {
        await(ticket, "send", outgoing);
    }

    private void await(long ticket, String operation, Traffic[] traffic) {
        long start = System.nanoTime();
        String problem = null;
        Throwable cause = null;
        synchronized (this) {
            advance();
            for (int peer = 0; peer < lanes.length && problem == null; ) {
                if (lanes[peer] == null || traffic[peer].isPast(ticket) && !hasFailed(peer)) {
                    peer++;
                    continue;
                }
                if (seat.membership().hasFailed()) {
                    break;
                }
                seat.waits(operation, peer);
                problem = batches.problem() != null
                        ? seat.sentence(batches.problem())
                        : waits.problem(peer, incoming[peer].hasLeft(), hasFailed(peer), operation, start);
                try {
                    if (problem == null) {
                        wait(waits.sleepMillis());
                    }
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                    problem = seat.sentence("was interrupted in " + operation);
                    cause = e;
                }
            }
        }
        if (problem != null) {
            throw seat.fail(problem, cause);
        }
        seat.membership().check();
        seat.waits(null, 0);
    }

    /** Returns whether there is nothing to wait for but the word why a peer failed. */
    private boolean hasFailed(int peer) {
        return !incoming[peer].hasLeft() && (lanes[peer].hasFailed() || lanes[peer].ended());
    }

    /** Copies what this rank sends to itself. */
    private void copyOwn(Transfers batch) {
        int rank = seat.rank();
        String problem = null;
        synchronized (this) {
            int send = batch.nextTo(rank, 0);
            int receive = batch.nextFrom(rank, 0);
            while (problem == null && (send < batch.sends() || receive < batch.receives())) {
                problem = difference(batch, send, receive);
                if (problem == null && !seat.membership().hasFailed()) {
                    copier.copyBytes(batch.receiveAddress(receive), batch.sendAddress(send), batch.sendBytes(send));
                }
                send = batch.nextTo(rank, send + 1);
                receive = batch.nextFrom(rank, receive + 1);
            }
        }
        if (problem != null) {
            throw seat.fail(seat.sentence(problem), null);
        }
    }

    private static String difference(Transfers batch, int send, int receive) {
        if (send == batch.sends() || receive == batch.receives()) {
            return "expected " + (send == batch.sends() ? "more" : "fewer") + " messages from itself than it sends";
        }
        return batch.sendBytes(send) == batch.receiveBytes(receive)
                ? null
                : "expected " + batch.receiveBytes(receive) + " bytes from itself, and sends " + batch.sendBytes(send);
    }

    /** Returns once nothing of the batches is touched any more; the group has failed. */
    synchronized void settle() {
        if (!closed) {
            for (Lane lane : lanes) {
                if (lane != null) {
                    lane.fail();
                }
            }
            selector.wakeup(); // the mover ends
            notifyAll();
        }
    }

    /** Says goodbye to the peers, and ends. */
    @Override
    public void close() {
        synchronized (this) {
            if (!seat.membership().hasFailed()) {
                Partings.say(lanes);
            }
            closed = true;
        }
        Partings.end(mover, selector);
        for (Lane lane : lanes) {
            if (lane != null) {
                lane.close();
            }
        }
        copier.close();
    }
}
