package org.flashring.comm;

/**
 * What the ranks of a {@link LocalGroup} share: a mailbox per pair of ranks, a board on which each rank publishes two numbers,
 * a barrier and the first failure. Everything is guarded by this object's monitor; copies happen outside it.
 */
final class LocalExchange {
    /** Messages in flight per pair of ranks; a power of two. */
    private static final int DEPTH = 8;
    private static final int ANYONE = -1;

    private final int worldSize;
    private final long deadlineNanos;

    private final long[] address; // of message m from a to b at ((a * worldSize + b) * DEPTH + m % DEPTH)
    private final long[] bytes;
    private final long[] sent;    // messages put into the mailbox of a pair, ever
    private final long[] taken;   // messages taken out of it, ever

    private final long[] board;   // two published numbers per rank
    private final Object[] gift;  // an object handed to each rank by split
    private final boolean[] gone; // ranks that have left
    private int arrived;
    private long generation;

    private int copying;          // ranks that read or write their peers' memory just now

    private String failure;
    private Throwable failureCause;

    LocalExchange(int worldSize, long deadlineNanos) {
        this.worldSize = worldSize;
        this.deadlineNanos = deadlineNanos;
        int pairs = Math.multiplyExact(worldSize, worldSize);
        address = new long[Math.multiplyExact(pairs, DEPTH)];
        bytes = new long[pairs * DEPTH];
        sent = new long[pairs];
        taken = new long[pairs];
        board = new long[2 * worldSize];
        gift = new Object[worldSize];
        gone = new boolean[worldSize];
    }

    int worldSize() {
        return worldSize;
    }

    long deadlineNanos() {
        return deadlineNanos;
    }

    /** Puts a message from {@code from} to {@code to} into their mailbox. */
    synchronized void put(int from, int to, long messageAddress, long messageBytes) {
        check();
        int pair = from * worldSize + to;
        if (sent[pair] - taken[pair] == DEPTH) {
            throw fail(from, "posted more than " + DEPTH + " messages to rank " + to + " without await", null);
        }
        int slot = pair * DEPTH + (int) (sent[pair] % DEPTH);
        address[slot] = messageAddress;
        bytes[slot] = messageBytes;
        sent[pair]++;
        notifyAll();
    }

    /**
     * Returns the address of the oldest message from {@code from} to {@code to}, once there is one of {@code expected} bytes.
     * The copy out of it has then begun, and ends with {@link #take}.
     */
    synchronized long peek(int from, int to, long expected) {
        int pair = from * worldSize + to;
        long start = System.nanoTime();
        while (sent[pair] == taken[pair]) {
            pause(to, from, "receive", start);
        }
        check();
        int slot = pair * DEPTH + (int) (taken[pair] % DEPTH);
        if (bytes[slot] != expected) {
            throw fail(to, "expected " + expected + " bytes from rank " + from + ", which sends " + bytes[slot], null);
        }
        copying++;
        return address[slot];
    }

    /** Takes the message that was peeked at; its sender may overwrite it. */
    synchronized void take(int from, int to) {
        taken[from * worldSize + to]++;
        endCopy();
    }

    /** Waits until every message from {@code from} to {@code to} has been taken. */
    synchronized void drained(int from, int to) {
        int pair = from * worldSize + to;
        long start = System.nanoTime();
        while (sent[pair] != taken[pair]) {
            pause(from, to, "send", start);
        }
        check();
    }

    /** Waits until every rank has come here; what they published before is then visible to all. */
    synchronized void barrier(int rank, String operation) {
        check();
        long mine = generation;
        if (++arrived == worldSize) {
            arrived = 0;
            generation++;
            notifyAll();
            return;
        }
        long start = System.nanoTime();
        while (generation == mine) {
            pause(rank, ANYONE, operation, start);
        }
    }

    synchronized void publish(int rank, long first, long second) {
        board[2 * rank] = first;
        board[2 * rank + 1] = second;
    }

    synchronized long first(int rank) {
        return board[2 * rank];
    }

    synchronized long second(int rank) {
        return board[2 * rank + 1];
    }

    synchronized void give(int rank, Object object) {
        gift[rank] = object;
    }

    synchronized Object takeGift(int rank) {
        Object object = gift[rank];
        gift[rank] = null;
        return object;
    }

    /** Notes that this rank will touch its peers' memory until {@link #endCopy}. */
    synchronized void beginCopy() {
        check();
        copying++;
    }

    synchronized void endCopy() {
        copying--;
        notifyAll();
    }

    /** Ends the group, unless it has failed before, wakes every rank that waits, and returns the exception to throw. */
    synchronized CommunicationException fail(int rank, String what, Throwable cause) {
        if (failure == null) {
            failure = "rank " + rank + " " + what;
            failureCause = cause;
        }
        notifyAll();
        return failure();
    }

    /** Returns the failure once no rank copies any more: who catches it may free its memory. */
    private CommunicationException failure() {
        boolean interrupted = false;
        while (copying > 0) {
            try {
                wait();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
        return new CommunicationException(failure, failureCause);
    }

    /** Notes that a rank has left: peers that wait for it fail. */
    synchronized void leave(int rank) {
        gone[rank] = true;
        notifyAll();
    }

    private void check() {
        if (failure != null) {
            throw failure();
        }
    }

    /** Waits a while for {@code peer}, or for {@link #ANYONE}; throws when the group failed, the peer left or the deadline passed. */
    private void pause(int rank, int peer, String operation, long start) {
        check();
        for (int other = 0; other < worldSize; other++) {
            if (gone[other] && (other == peer || peer == ANYONE)) {
                throw fail(rank, "waits in " + operation + ", but rank " + other + " has left the group", null);
            }
        }
        long remaining = deadlineNanos - (System.nanoTime() - start);
        if (remaining <= 0) {
            throw fail(rank, "waited " + deadlineNanos / 1_000_000 + " ms in " + operation
                    + (peer == ANYONE ? "" : " for rank " + peer) + ", the deadline", null);
        }
        try {
            wait(remaining / 1_000_000, (int) (remaining % 1_000_000));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw fail(rank, "was interrupted in " + operation, e);
        }
    }
}
