package org.flashring.comm.process;

import org.flashring.comm.Transfers;

/** What of the batches goes to one peer: message by message, each behind its header. Guarded by the queue's lock. */
final class Outgoing implements Traffic {
    private final Batches batches;
    private final int peer;
    private final Lane lane;
    private final Header header = new Header();
    private long ticket; // of the batch in hand
    private int message = -1; // of it; -1 if none has been begun
    private int next; // where to look for the next one
    private int ordinal; // among those to the peer
    private long moved; // bytes of the message

    Outgoing(Batches batches, int peer, Lane lane) {
        this.batches = batches;
        this.peer = peer;
        this.lane = lane;
    }

    @Override
    public boolean isPast(long until) {
        skip();
        return ticket > until;
    }

    /** Returns whether something waits for room. */
    boolean isWaiting() {
        skip();
        return ticket < batches.posted() || !lane.isFlushed();
    }

    private void skip() {
        while (message < 0 && ticket < batches.posted()) {
            Transfers batch = batches.of(ticket);
            if (batch.nextTo(peer, next) < batch.sends()) {
                return;
            }
            ticket++;
            next = 0;
            ordinal = 0;
        }
    }

    @Override
    public boolean step() {
        skip();
        if (ticket == batches.posted()) {
            return false;
        }
        Transfers batch = batches.of(ticket);
        if (message < 0) {
            message = batch.nextTo(peer, next);
            header.set(ticket, batch.sendBytes(message), ordinal, count(batch), "");
            moved = 0;
        }
        boolean any = !header.isWhole() && header.put(lane);
        if (!header.isWhole()) {
            return any;
        }
        long left = batch.sendBytes(message) - moved;
        long more = left == 0 ? 0 : lane.put(batch.sendAddress(message) + moved, left);
        moved += more;
        if (more == left) {
            next = message + 1;
            message = -1;
            ordinal++;
            return true;
        }
        return any || more > 0;
    }

    private int count(Transfers batch) {
        int count = 0;
        for (int i = batch.nextTo(peer, 0); i < batch.sends(); i = batch.nextTo(peer, i + 1)) {
            count++;
        }
        return count;
    }
}
