package org.flashring.comm.process;

import org.flashring.comm.Transfers;
import org.flashring.comm.transport.Transport;

/** The batches of a rank that are under way, and what is found wrong with them. Guarded by the queue's lock. */
final class Batches {
    private final Transfers[] batches = new Transfers[Transport.DEPTH]; // by ticket, round and round
    private long posted;
    private String problem;

    void post(long ticket, Transfers batch) {
        batches[(int) (ticket % Transport.DEPTH)] = batch;
        posted = ticket + 1;
    }

    /** Returns the number of batches posted, ever. */
    long posted() {
        return posted;
    }

    Transfers of(long ticket) {
        return batches[(int) (ticket % Transport.DEPTH)];
    }

    /** Notes what this rank did that ends the group; the first is kept. */
    void problem(String what) {
        problem = problem == null ? what : problem;
    }

    /** Returns what ends the group, or null. */
    String problem() {
        return problem;
    }
}
