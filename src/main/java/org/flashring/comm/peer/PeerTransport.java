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
    private final long[] sources;
    private final long[] target = new long[1];

    /** Takes {@code control} over. {@link #connect} comes next. */
    PeerTransport(PeerProcess process, Transport control) {
        this.process = process;
        this.control = control;
        processes = new int[control.worldSize()];
        brought = new long[control.worldSize()];
        sources = new long[control.worldSize()];
        cards = new Cards(control);
        freed = new Freed(control);
        for (int i = 0; i < DEPTH; i++) {
            mails[i] = new Mail();
        }
        try (Made made = new Made()) {
            signals = made.add(new Signals(process.device(), control.rank(), control.worldSize()));
            queue = made.add(new PeerQueue(control, process.device(), signals));
            made.keep();
        }
    }

    /** Reaches the words of all ranks. Returns why not, the same on all ranks; empty if all have. */
    String connect() {
        String cause = Introduction.of(control, process, signals, processes);
        if (cause.isEmpty()) {
            process.add(this);
            queue.meet("connect");
            synchronize();
        }
        return cause;
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

    /** Returns an exception of the group, which has failed, once this rank's copies are over. */
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
        DeviceWork copies = queue.beginCopies(ticket, batch);
        for (int first = 0; first < batch.receives(); first++) {
            int from = batch.from(first);
            if (batch.nextFrom(from, 0) == first) { // one word a rank
                queue.awaitReady(from);
                for (int i = first; i < batch.receives(); i = batch.nextFrom(from, i + 1)) {
                    queue.fetch(batch.receiveAddress(i), source(batch, mail, i), batch.receiveBytes(i));
                }
                queue.taken(from);
            }
        }
        queue.endCopies(copies);
    }

    /** Returns where the {@code i}-th message received lies. */
    private long source(Transfers batch, Mail mail, int i) {
        int from = batch.from(i);
        if (from != rank()) {
            return process.imports().address(processes[from], mail.letters(), mail.received(i));
        }
        int send = batch.nextTo(from, 0);
        for (int k = batch.nextFrom(from, 0); k < i; k = batch.nextFrom(from, k + 1)) {
            send = batch.nextTo(from, send + 1);
        }
        return batch.sendAddress(send);
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
                brought[peer] = peer == rank()
                        ? collective.send()
                        : process.imports().address(processes[peer], cards.letters(), cards.letter(peer));
            }
            queue.meet(operation);
            run(collective);
            queue.meet(operation);
        } catch (CommunicationException e) {
            throw settled(e);
        } catch (IllegalStateException e) {
            throw broken(operation, e);
        }
    }

    private void run(Collective collective) {
        switch (collective.kind()) {
            case ALL_GATHER -> {
                for (int peer = 0; peer < worldSize(); peer++) {
                    queue.copy(collective.receive() + collective.offset(peer), brought[peer], collective.bytes(peer));
                }
            }
            case ALL_TO_ALL -> {
                for (int peer = 0; peer < worldSize(); peer++) {
                    queue.copy(
                            collective.receive() + collective.offset(peer),
                            brought[peer] + collective.offset(rank()),
                            collective.bytes(peer));
                }
            }
            case ALL_REDUCE -> allReduce(collective);
            case REDUCE_SCATTER -> {
                long bytes = collective.bytes(rank());
                sum(collective.offset(rank()), collective.receive(), bytes, collective);
            }
        }
    }

    /** Each rank sums its share of all ranks, and takes the others' sums from them. */
    private void allReduce(Collective collective) {
        int element = collective.dtype().bytes();
        long count = collective.bytes(0) / element;
        long own = first(count, rank()) * element;
        sum(own, collective.send() + own, share(count, rank()) * element, collective);
        queue.meet(collective.operation());
        for (int i = 1; i < worldSize(); i++) {
            int peer = (rank() + i) % worldSize(); // not all from one at a time
            long offset = first(count, peer) * element;
            queue.copy(collective.send() + offset, brought[peer] + offset, share(count, peer) * element);
        }
    }

    /** Returns the first of {@code count} elements that a rank sums. */
    private long first(long count, int rank) {
        return Math.min(count, rank * ((count + worldSize() - 1) / worldSize()));
    }

    private long share(long count, int rank) {
        return first(count, rank + 1) - first(count, rank);
    }

    /** Sums {@code bytes} bytes that lie {@code offset} behind the beginning of what each rank brings. */
    private void sum(long offset, long to, long bytes, Collective collective) {
        for (int peer = 0; peer < worldSize(); peer++) {
            sources[peer] = brought[peer] + offset;
        }
        target[0] = to;
        queue.sum(sources, target, bytes / collective.dtype().bytes(), collective.dtype());
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
            process.closeFreed(control);
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
        PeerTransport part = new PeerTransport(process, members);
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

    /** What the watchdog does now and then: ends waits of a group that has failed, and a group that is overdue. */
    void watch(Deadline deadline) {
        if (hasFailed()) {
            queue.releaseWaits();
            return;
        }
        String overdue = queue.overdue(deadline);
        if (overdue != null) {
            control.fail(overdue, null);
            queue.releaseWaits();
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
            queue.close();
            signals.close();
        }
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
