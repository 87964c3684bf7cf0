package org.flashring.comm.process;

/** What of the batches is exchanged with one peer, one way. Guarded by the queue's lock. */
interface Traffic {
    /** Returns whether nothing more is to be moved of batches up to {@code ticket}, itself included. */
    boolean isPast(long ticket);

    /** Moves what can be moved at once. Returns whether anything was. */
    boolean step();
}
