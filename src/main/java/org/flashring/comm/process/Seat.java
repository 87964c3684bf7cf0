package org.flashring.comm.process;

import org.flashring.comm.CommunicationException;
import org.flashring.comm.transport.Deadline;

/** A rank's place in a group: how its failures begin and where they say that it was. */
final class Seat {
    private final Membership membership;
    private final String group; // what failures of the group begin with
    private final int rank;
    private volatile String phase;
    private volatile int step;
    private volatile String waiting; // what this rank waits in; null if in nothing
    private volatile int peer; // for whom

    Seat(Membership membership, String group, int rank) {
        this.membership = membership;
        this.group = group;
        this.rank = rank;
    }

    Membership membership() {
        return membership;
    }

    String group() {
        return group;
    }

    int rank() {
        return rank;
    }

    Deadline deadline() {
        return membership.deadline();
    }

    /** Notes what this rank is at. */
    void at(String newPhase, int newStep) {
        step = newStep;
        phase = newPhase;
    }

    /** Notes what this rank waits in and for whom; null when it waits no more. */
    void waits(String operation, int forPeer) {
        peer = forPeer;
        waiting = operation;
    }

    /** Returns what this rank waits in and at which step, as the end of a sentence; empty if neither is known. */
    String place() {
        String operation = waiting;
        if (operation != null) {
            return "; " + group + "rank " + rank + " waits in " + operation + " for rank " + peer + step();
        }
        String known = step();
        return known.isEmpty() ? "" : "; " + group + "rank " + rank + " goes on" + known;
    }

    private String step() {
        String known = phase;
        return known == null ? "" : " (step " + step + " of " + known + ")";
    }

    /** Returns the sentence that this rank did {@code what}, and at which step. */
    String sentence(String what) {
        return "rank " + rank + " " + what + step();
    }

    /** Ends the group, of which {@code what} is to be said. Called with no lock of a queue held. */
    CommunicationException fail(String what, Throwable cause) {
        membership.fail(group + what, cause, true);
        return membership.failure();
    }
}
