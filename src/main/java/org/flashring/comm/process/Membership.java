package org.flashring.comm.process;

import java.io.IOException;
import java.net.InetAddress;
import java.util.ArrayList;
import java.util.List;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.transport.Deadline;
import org.flashring.launch.Session;

/**
 * What all communicators of this process that stem from one group share: the links to the other processes, by which
 * failures are told and heard, and the first failure, which ends all of them.
 */
final class Membership {
    private static final long MEMORY = 8 << 20; // of a group on one host: some hosts give no more than 64 MiB in all
    private static final int MOST_RING_BYTES = 256 << 10; // of a ring: what both ends copy stays in their caches
    private static final int LEAST_RING_BYTES = 16 << 10;

    private final Session session;
    private final Deadline deadline;
    private final long patienceNanos;
    private final InetAddress bind;
    private final List<ProcessTransport> members = new ArrayList<>();
    private volatile CommunicationException failure;

    /**
     * @param patienceNanos how long the making of a group may take
     * @param bind where this process listens for the others; null for all addresses
     */
    Membership(Session session, Deadline deadline, long patienceNanos, InetAddress bind) {
        this.session = session;
        this.deadline = deadline;
        this.patienceNanos = patienceNanos;
        this.bind = bind;
    }

    /** Returns the bytes of a lane through shared memory, each way, in a group of {@code world}. */
    static int ringBytes(int world) {
        long rings = Math.max(1, (long) world * (world - 1) * Switchboard.Use.values().length);
        return Math.max(
                LEAST_RING_BYTES, (int) Math.min(MOST_RING_BYTES, Long.highestOneBit(Math.max(1, MEMORY / rings))));
    }

    long patienceNanos() {
        return patienceNanos;
    }

    /** Returns where the members of a new group connect to this process. */
    Switchboard open() throws IOException {
        return new Switchboard(bind);
    }

    Deadline deadline() {
        return deadline;
    }

    synchronized void add(ProcessTransport member) {
        members.add(member);
    }

    /** Forgets a member; after the last one the peers are told that this process leaves in peace. */
    void remove(ProcessTransport member) {
        synchronized (this) {
            members.remove(member);
            if (!members.isEmpty()) {
                return;
            }
        }
        session.close();
    }

    /** Leaves before there is a member. */
    void close() {
        session.close();
    }

    /** A rank that fails says where; of one that is gone, this rank says where it waits. */
    void heard(String what) {
        String place = "";
        if (what.endsWith(Session.GONE)) {
            for (ProcessTransport member : members()) {
                place = place.isEmpty() ? member.place() : place;
            }
        }
        fail(what + place, null, false);
    }

    private synchronized List<ProcessTransport> members() {
        return List.copyOf(members);
    }

    /**
     * Ends the group, unless it has failed before, and returns once this process touches no memory of its users for it.
     * Called with no lock of a queue held.
     */
    void fail(String what, Throwable cause, boolean tellPeers) {
        synchronized (this) {
            if (failure == null) {
                failure = new CommunicationException(what, cause);
            } else {
                tellPeers = false;
            }
        }
        if (tellPeers) {
            session.fail(what);
        }
        members().forEach(ProcessTransport::settle);
    }

    boolean hasFailed() {
        return failure != null;
    }

    /** Throws if the group has failed. */
    void check() {
        if (failure != null) {
            throw failure();
        }
    }

    /** Returns a new exception of the group that has failed. */
    CommunicationException failure() {
        CommunicationException known = failure;
        return new CommunicationException(known.getMessage(), known.getCause());
    }
}
