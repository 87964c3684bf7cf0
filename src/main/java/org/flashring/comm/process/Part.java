package org.flashring.comm.process;

import org.flashring.comm.transport.Collective;

/**
 * What a rank and one peer have of a collective for each other: a header that says what it is, then bytes. Guarded by
 * the queue's lock.
 */
final class Part {
    private final int peer;
    private final Lane lane;
    private final Header sent = new Header();
    private final Header come = new Header();
    private String operation;
    private long expected; // bytes that the peer's header must speak of
    private int whose; // the rank whose part that is, where parts are uneven; -1 where they are even
    private boolean compared;
    private boolean left;
    private String problem;

    private long from;
    private long sending; // bytes to go
    private long to;
    private long receiving; // bytes to come

    Part(int peer, Lane lane) {
        this.peer = peer;
        this.lane = lane;
    }

    /** Begins a collective: {@code own} bytes are spoken of here, {@code theirs} there, of the part of a rank. */
    void begin(Collective collective, long own, long theirs, int rank) {
        begin(collective.operation(), own, theirs, collective.even() ? -1 : rank);
    }

    void begin(String name, long own, long theirs, int rank) {
        operation = name;
        expected = theirs;
        whose = rank;
        sent.set(0, own, 0, 0, name);
        come.clear();
        compared = false;
    }

    /** Sends bytes behind what has been sent. */
    void send(long address, long bytes) {
        from = address;
        sending = bytes;
    }

    /** Receives bytes behind those that have been received. */
    void receive(long address, long bytes) {
        to = address;
        receiving = bytes;
    }

    int peer() {
        return peer;
    }

    boolean hasSent() {
        return sent.isWhole() && sending == 0 && lane.isFlushed();
    }

    boolean hasReceived() {
        return compared && receiving == 0;
    }

    boolean hasLeft() {
        return left;
    }

    /** Returns whether there is nothing to wait for but the word why the peer failed. */
    boolean hasFailed() {
        return !left && (lane.hasFailed() || lane.ended());
    }

    Lane lane() {
        return lane;
    }

    /** Returns how the peer's call differs, as what this rank did; null if it does not as far as is known. */
    String problem() {
        return problem;
    }

    /** Asks to be woken when more can be moved. */
    void arm() {
        lane.arm(!hasSent());
    }

    /** Moves what can be moved at once. Returns whether anything was. */
    boolean step() {
        boolean any = lane.pump();
        any |= put();
        return take() || any;
    }

    private boolean put() {
        boolean any = !sent.isWhole() && sent.put(lane);
        long more = sent.isWhole() && sending > 0 ? lane.put(from, sending) : 0;
        from += more;
        sending -= more;
        return any || more > 0;
    }

    private boolean take() {
        boolean any = !come.isWhole() && come.take(lane);
        if (come.isWhole() && !compared && !left && problem == null) {
            compare();
        }
        long more = compared && receiving > 0 ? lane.take(to, receiving) : 0;
        to += more;
        receiving -= more;
        return any || more > 0;
    }

    private void compare() {
        if (come.isGoodbye()) {
            left = true;
        } else if (!come.isOf(operation)) {
            problem = "calls " + operation + " while rank " + peer + " calls " + come.operation();
        } else if (come.size() != expected) {
            problem = "calls " + operation + " with " + expected + " bytes" + (whose < 0 ? "" : " for rank " + whose)
                    + ", rank " + peer + " with " + come.size();
        } else {
            compared = true;
        }
    }
}
