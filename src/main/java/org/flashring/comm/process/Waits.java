package org.flashring.comm.process;

import org.flashring.launch.Session;

/** How long a rank may sleep for a peer, and what ends its wait: the peer's leave or death, or the deadline. */
final class Waits {
    /** How long a connection that ended is waited on for the peer's own word, which says more. */
    private static final long GRACE_NANOS = 500_000_000;

    private final Seat seat;
    private final long[] endedSince; // of each peer's lane; 0 while it has not
    private long sleep;

    Waits(Seat seat, int worldSize) {
        this.seat = seat;
        endedSince = new long[worldSize];
    }

    /**
     * Returns why there is nothing to wait for any more in a wait for {@code peer} that began at {@code start}; null if
     * there is.
     *
     * @param hasLeft whether the peer has said goodbye
     * @param ended whether its lane is at its end
     */
    String problem(int peer, boolean hasLeft, boolean ended, String operation, long start) {
        if (hasLeft) {
            return seat.sentence("waits in " + operation + ", but rank " + peer + " has left the group");
        }
        sleep = seat.deadline().left(start);
        if (sleep <= 0) {
            return seat.sentence(seat.deadline().missedIn(operation) + " for rank " + peer);
        }
        if (ended) {
            long now = System.nanoTime();
            if (endedSince[peer] == 0) {
                endedSince[peer] = now;
            }
            long grace = GRACE_NANOS - (now - endedSince[peer]);
            if (grace <= 0) {
                return "rank " + peer + " " + Session.GONE + seat.place();
            }
            sleep = Math.min(sleep, grace);
        }
        return null;
    }

    /** Returns how long to sleep at most, as there was no problem, in milliseconds: 1 or more. */
    long sleepMillis() {
        return sleep / 1_000_000 + 1;
    }
}
