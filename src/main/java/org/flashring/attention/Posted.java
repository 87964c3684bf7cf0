package org.flashring.attention;

import org.flashring.comm.Communicator;
import org.flashring.comm.Transfers;

/** What a call has posted: this rank's memory is its peers' until it has been awaited. */
final class Posted {
    private static final long NOTHING = -1; // in place of a ticket

    private final Communicator communicator;
    private boolean any; // since the call began: peers may read this rank's memory
    private boolean underWay;

    Posted(Communicator communicator) {
        this.communicator = communicator;
    }

    /** Posts a batch, which may be null for none. Returns what {@link #awaitAllBut} takes. */
    long post(Transfers batch) {
        if (batch == null) {
            return NOTHING;
        }
        any = true;
        underWay = true;
        return communicator.post(batch);
    }

    /**
     * Awaits what was posted before that for which {@link #post} returned {@code last}; everything if that was none.
     */
    void awaitAllBut(long last) {
        if (last == NOTHING) {
            communicator.await();
            underWay = false;
        } else if (last > 0) {
            communicator.await(last - 1);
        }
    }

    /** Awaits everything, unless that has been done. */
    void awaitAll() {
        if (underWay) {
            awaitAllBut(NOTHING);
        }
    }

    /** Lets the peers know that this rank gives up, and waits until none reads its memory, which may be freed next. */
    void abandon(Throwable cause) {
        if (any) {
            communicator.abort(cause);
        }
    }

    /** Notes that the call has ended. */
    void end() {
        any = false;
        underWay = false;
    }
}
