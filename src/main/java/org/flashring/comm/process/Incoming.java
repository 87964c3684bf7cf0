package org.flashring.comm.process;

import org.flashring.comm.Transfers;

/**
 * What of the batches comes from one peer. Headers are taken as they come, so that a message that nobody expects, or a
 * goodbye, is seen at once; what follows them when the batch that expects it has been posted. Guarded by the queue's
 * lock.
 */
final class Incoming implements Traffic {
    private final Batches batches;
    private final int peer;
    private final Lane lane;
    private final Header header = new Header();
    private long ticket; // of the batch in hand
    private int next; // where to look for the next message of it
    private int ordinal; // among those from the peer
    private int message = -1; // being received; -1 if none is
    private long moved; // bytes of it
    private boolean left;

    Incoming(Batches batches, int peer, Lane lane) {
        this.batches = batches;
        this.peer = peer;
        this.lane = lane;
        header.clear();
    }

    @Override
    public boolean isPast(long until) {
        skip();
        return ticket > until;
    }

    /** Returns whether the peer has said goodbye. */
    boolean hasLeft() {
        return left;
    }

    private void skip() {
        while (message < 0 && ticket < batches.posted()) {
            Transfers batch = batches.of(ticket);
            if (batch.nextFrom(peer, next) < batch.receives()) {
                return;
            }
            ticket++;
            next = 0;
            ordinal = 0;
        }
    }

    @Override
    public boolean step() {
        if (left) {
            return false;
        }
        boolean any = !header.isWhole() && header.take(lane);
        if (!header.isWhole()) {
            return any;
        }
        if (header.isGoodbye()) {
            left = true;
            return true;
        }
        if (message < 0 && !begin()) {
            return any;
        }
        Transfers batch = batches.of(ticket);
        long wanted = batch.receiveBytes(message) - moved;
        long more = wanted == 0 ? 0 : lane.take(batch.receiveAddress(message) + moved, wanted);
        moved += more;
        if (more == wanted) {
            next = message + 1;
            message = -1;
            ordinal++;
            header.clear();
            return true;
        }
        return any || more > 0;
    }

    /** Returns whether the message that has come is one that is expected by now. */
    private boolean begin() {
        skip();
        if (ticket == batches.posted()) {
            if (header.tag() < ticket) {
                batches.problem("expected no more messages from rank " + peer + ", which sends " + header.count());
            }
            return false;
        }
        Transfers batch = batches.of(ticket);
        int expected = batch.nextFrom(peer, next);
        String difference = difference(batch, expected);
        if (difference != null) {
            batches.problem(difference);
            return false;
        }
        message = expected;
        moved = 0;
        return true;
    }

    /** Returns how what has come differs from what is expected, as what this rank did; null if it does not. */
    private String difference(Transfers batch, int expected) {
        if (header.tag() == ticket && header.ordinal() == ordinal && header.size() != batch.receiveBytes(expected)) {
            return "expected " + batch.receiveBytes(expected) + " bytes from rank " + peer + ", which sends "
                    + header.size();
        }
        int count = 0;
        for (int i = batch.nextFrom(peer, 0); i < batch.receives(); i = batch.nextFrom(peer, i + 1)) {
            count++;
        }
        if (header.tag() == ticket && header.count() == count) {
            return null;
        }
        return "expected " + (header.tag() < ticket ? 0 : count) + " messages from rank " + peer + ", which sends "
                + (header.tag() > ticket ? 0 : header.count());
    }
}
