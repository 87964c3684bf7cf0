package org.flashring.comm.peer;

import java.nio.ByteBuffer;
import java.util.Map;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Transfers;
import org.flashring.comm.transport.Collective;
import org.flashring.comm.transport.Deadline;
import org.flashring.comm.transport.DeviceWork;
import org.flashring.comm.transport.Transport;
import org.flashring.device.Device;
import org.flashring.device.Stream;
import org.flashring.internal.Made;

/**
 * A rank of a {@link PeerGroup}. Letters, agreements and failures go through a group of the same ranks on the host;
 * what they are about is copied between the devices by who receives it.
 */
final class PeerTransport implements Transport {
    private final PeerProcess process;
    private final Transport control;
    private final Signals signals;
    private final PeerQueue queue;
    private final Mail[] mails = new Mail[DEPTH];
    private final Cards cards;
    private final Freed freed;
    private final int[] processes; // of the ranks: who tells which memory is whose
    private final long[] brought; // where what each rank brings to a collective lies here
    private final CollectiveCopies copies;
    private final Runnable untilIdle; // before peers' memory is closed

    /**
     * Returns one that takes {@code control} over, which is failed and closed where there can be none. {@link #connect}
     * comes next.
     */
    static PeerTransport over(PeerProcess process, Transport control) {
        try {
            return new PeerTransport(process, control);
        } catch (RuntimeException | Error e) {
            control.fail("cannot join the group: " + e.getMessage(), e);
            control.close();
            throw e;
        }
    }

    private PeerTransport(PeerProcess process, Transport control) {
        this.process = process;
        this.control = control;
        processes = new int[control.worldSize()];
        brought = new long[control.worldSize()];
        cards = new Cards(control);
        freed = new Freed(control);
        untilIdle = () -> process.awaitIdle(control);
        for (int i = 0; i < DEPTH; i++) {
            mails[i] = new Mail();
        }
        try (Made made = new Made()) {
            signals = made.add(new Signals(process.device(), control.rank(), control.worldSize()));
            queue = made.add(new PeerQueue(control, process.device(), signals));
            made.keep();
        }
        copies = new CollectiveCopies(queue, control.rank(), control.worldSize());
    }

    /** Reaches the words of all ranks. Returns why not, the same on all ranks; empty if all have. */
    String connect() {
        try {
            String cause = Introduction.of(control, process, signals, processes, untilIdle);
            if (cause.isEmpty()) {
                process.add(this);
                queue.meet("connect");
                synchronize();
            }
            return cause;
        } catch (RuntimeException | Error e) { // else peers would wait for this rank until the deadline
            control.fail("cannot join the group: " + e.getMessage(), e);
            throw e;
        }
    }

    @Override
    public int rank() {
        return control.rank();
    }

    @Override
    public int worldSize() {
        return control.worldSize();
    }

    @Override
    public Device device() {
        return process.device();
    }

    @Override
    public void requireAlive() {
        try {
            control.requireAlive();
        } catch (CommunicationException e) {
            throw settled(e);
        }
    }

    /** Returns {@code failure} of the group once this rank's copies are over. */
    private CommunicationException settled(CommunicationException failure) {
        queue.settle();
        return failure;
    }

    /** Ends the group, as CUDA has failed, and returns what to throw. */
    private CommunicationException broken(String operation, IllegalStateException e) {
        fail("failed in " + operation + ": " + e.getMessage(), e);
        try {
            control.requireAlive();
        } catch (CommunicationException failure) {
            return failure;
        }
        throw e;
    }

    @Override
    public void at(String phase, int step) {
        control.at(phase, step);
        queue.at(phase, step);
    }

    @Override
    public void stream(long stream) {
        queue.stream(stream);
    }

    @Override
    public void post(long ticket, Transfers batch) {
        try {
            Transfers letters = mail(ticket).write(batch, process.exports());
            queue.post(ticket, batch); // before the letters: whoever has one can rely on the word
            control.post(ticket, letters);
        } catch (CommunicationException e) {
            throw settled(e);
        } catch (IllegalStateException e) {
            throw broken("exchange", e);
        }
    }

    private Mail mail(long ticket) {
        return mails[(int) (ticket % DEPTH)];
    }

    @Override
    public void receive(long ticket, Transfers batch) {
        Mail mail = mail(ticket);
        try {
            control.receive(ticket, mail.host());
            String difference = mail.difference(batch);
            if (difference != null) {
                fail(difference, null);
                control.requireAlive();
            }
            if (batch.receives() > 0) {
                copy(ticket, batch, mail);
            }
        } catch (CommunicationException e) {
            throw settled(e);
        } catch (IllegalStateException e) {
            throw broken("exchange", e);
        }
    }

    private void copy(long ticket, Transfers batch, Mail mail) {
        long[] sources = mail.sources(batch, rank(), this); // may close memory: before anything here waits for a peer
        DeviceWork work = queue.beginCopies(ticket, batch);
        for (int first = 0; first < batch.receives(); first++) {
            int from = batch.from(first);
            if (batch.nextFrom(from, 0) == first) { // one word a rank
                queue.awaitReady(from);
                for (int i = first; i < batch.receives(); i = batch.nextFrom(from, i + 1)) {
                    queue.fetch(batch.receiveAddress(i), sources[i], batch.receiveBytes(i));
                }
                queue.taken(from);
            }
        }
        queue.endCopies(work);
    }

    /** Returns where the message of a letter from {@code peer} lies here. */
    long address(int peer, ByteBuffer letters, int at) {
        return process.imports().address(processes[peer], letters, at, untilIdle);
    }

    @Override
    public void release(long ticket, Transfers batch) {
        try {
            control.release(ticket, mail(ticket).host());
            queue.release(ticket, batch);
        } catch (CommunicationException e) {
            throw settled(e);
        } catch (IllegalStateException e) {
            throw broken("exchange", e);
        }
    }

    /**
     * Tells all ranks what this one brings, fails on all of them where sizes differ, and copies or sums between two
     * meetings of their streams.
     */
    @Override
    public void collective(Collective collective) {
        String operation = collective.operation();
        try {
            cards.exchange(collective, process.exports(), freed);
            String difference = cards.difference(collective);
            if (difference != null) {
                fail(difference, null);
                control.requireAlive();
            }
            closeFreed(cards.letters(), cards.freed(0), cards.freed(1) - cards.freed(0));
            for (int peer = 0; peer < worldSize(); peer++) {
                brought[peer] = peer == rank() ? collective.send() : address(peer, cards.letters(), cards.letter(peer));
            }
            queue.meet(operation);
            copies.run(collective, brought);
            queue.meet(operation);
        } catch (CommunicationException e) {
            throw settled(e);
        } catch (IllegalStateException e) {
            throw broken(operation, e);
        }
    }

    @Override
    public void barrier() {
        synchronize();
        try {
            meetFreed("barrier");
            control.barrier(); // now all have closed it
        } catch (CommunicationException e) {
            throw settled(e);
        } catch (IllegalStateException e) {
            throw broken("barrier", e);
        }
    }

    /** Tells all ranks what this one has freed, and closes what they have. */
    private void meetFreed(String operation) {
        process.exports().findFreed();
        do {
            freed.exchange(operation);
            closeFreed(freed.cards(), 0, Freed.LENGTH);
        } while (freed.isMore());
    }

    /** Closes what ranks tell, {@code stride} bytes a rank from {@code first} on, that they have freed. */
    private void closeFreed(ByteBuffer told, int first, int stride) {
        boolean any = false;
        for (int peer = 0; peer < worldSize(); peer++) {
            any |= peer != rank() && process.imports().note(processes[peer], told, first + peer * stride);
        }
        if (any) {
            process.awaitIdle(control);
            process.imports().closeFreed();
        }
    }

    /** Returns what this rank has to tell the others that it has freed. */
    Freed freed() {
        return freed;
    }

    /** Returns whether nothing in this rank's streams waits for peers or copies. */
    boolean isIdle() {
        return queue.isIdle();
    }

    @Override
    public void synchronize() {
        try {
            queue.synchronize();
        } catch (CommunicationException e) {
            throw settled(e);
        } catch (IllegalStateException e) {
            throw broken("synchronize", e);
        }
    }

    @Override
    public void agree(long plan, Map<String, String> terms) {
        try {
            control.agree(plan, terms);
            meetFreed("agree");
        } catch (CommunicationException e) {
            throw settled(e);
        } catch (IllegalStateException e) {
            throw broken("agree", e);
        }
    }

    @Override
    public Transport split(String name, int color, int key) {
        try {
            return part(control.split(name, color, key));
        } catch (CommunicationException e) {
            throw settled(e);
        } catch (IllegalStateException e) {
            throw broken("split", e);
        }
    }

    private PeerTransport part(Transport members) {
        PeerTransport part = over(process, members);
        boolean connected = false;
        try {
            String cause = part.connect();
            if (!cause.isEmpty()) {
                fail("cannot split: " + cause, null);
                control.requireAlive();
            }
            connected = true;
            return part;
        } finally {
            if (!connected) {
                part.close();
            }
        }
    }

    @Override
    public void fail(String what, Throwable cause) {
        control.fail(what, cause);
        queue.settle();
    }

    /**
     * What the watchdog does now and then: ends, by {@code rescue}, waits of a group that has failed, and a group that
     * is overdue.
     */
    void watch(Deadline deadline, Stream rescue) {
        try {
            String overdue = hasFailed() ? null : queue.overdue(deadline);
            if (overdue != null) {
                control.fail(overdue, null);
            }
            if (hasFailed()) {
                releaseWaits(rescue);
            }
        } catch (RuntimeException | Error e) { // other groups are watched on
            unwatched(e);
        }
    }

    /** Ends the group, as {@code cause} has ended what watches it. */
    void unwatched(Throwable cause) {
        control.fail("failed in the watchdog: " + cause, cause);
    }

    /** Ends what still waits for peers. */
    void releaseWaits(Stream rescue) {
        if (!queue.isIdle()) {
            signals.release(rescue.handle());
        }
    }

    private boolean hasFailed() {
        try {
            control.requireAlive();
            return false;
        } catch (CommunicationException e) {
            return true;
        }
    }

    @Override
    public void close() {
        boolean idle = isDrained() || queue.settle();
        process.remove(this, idle);
        control.close();
        if (idle) { // else freeing would wait for the device
            free();
        }
    }

    /** Frees what a closed group has left, once nothing of it waits. */
    void free() {
        queue.close();
        signals.close();
    }

    /** Waits until all is done. Returns whether it is; not if the group has failed. */
    private boolean isDrained() {
        try {
            queue.drain();
            return true;
        } catch (CommunicationException | IllegalStateException e) {
            return false;
        }
    }
}
