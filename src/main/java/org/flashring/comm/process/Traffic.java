package org.flashring.comm.process;

import org.flashring.comm.Transfers;

/**
 * What of the batches is exchanged with one peer, one way: batch by batch and message by message, each behind its
 * header. Guarded by the queue's lock.
 */
abstract class Traffic {
    final Batches batches;
    final int peer;
    final Lane lane;
    final Header header = new Header();
    private long ticket; // of the batch in hand
    private int next; // where to look for the next message of it
    private int ordinal; // of that among those of the peer
    private int message = -1; // being moved; -1 if none is
    private long moved; // bytes of it

    Traffic(Batches batches, int peer, Lane lane) {
        this.batches = batches;
        this.peer = peer;
        this.lane = lane;
    }

    /** Returns the peer's first message of a batch from the {@code start}-th on; {@link #end} if there is none. */
    abstract int next(Transfers batch, int start);

    /** Returns the number of messages of a batch, of all peers. */
    abstract int end(Transfers batch);

    /** Moves what can be moved at once. Returns whether anything was. */
    abstract boolean step();

    /** Returns whether nothing more is to be moved of batches up to {@code until}, itself included. */
    final boolean isPast(long until) {
        skip();
        return ticket > until;
    }

    /** Goes on to the next batch that has a message of the peer. Returns whether there is one. */
    final boolean skip() {
        while (message < 0 && ticket < batches.posted()) {
            Transfers batch = batches.of(ticket);
            if (next(batch, next) < end(batch)) {
                return true;
            }
            ticket++;
            next = 0;
            ordinal = 0;
        }
        return ticket < batches.posted();
    }

    final long ticket() {
        return ticket;
    }

    final Transfers batch() {
        return batches.of(ticket);
    }

    final int ordinal() {
        return ordinal;
    }

    /** Returns the message to be moved next. */
    final int upcoming() {
        return next(batch(), next);
    }

    /** Returns the number of the peer's messages of the batch. */
    final int count() {
        int count = 0;
        for (int i = next(batch(), 0); i < end(batch()); i = next(batch(), i + 1)) {
            count++;
        }
        return count;
    }

    /** Returns the message that is being moved; -1 if none is. */
    final int message() {
        return message;
    }

    final void begin(int newMessage) {
        message = newMessage;
        moved = 0;
    }

    /** Returns how many of the message's bytes have been moved. */
    final long moved() {
        return moved;
    }

    /**
     * Notes that {@code more} of {@code left} bytes have been moved. Returns whether that was the end of the message.
     */
    final boolean move(long more, long left) {
        moved += more;
        if (more < left) {
            return false;
        }
        next = message + 1;
        message = -1;
        ordinal++;
        return true;
    }
}
