package org.flashring.comm;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.WeakHashMap;
import org.flashring.internal.Terms;

/**
 * What the ranks of a {@link LocalGroup} share: a mailbox per pair of ranks, a board on which each rank publishes two numbers,
 * a barrier and the first failure. Everything is guarded by this object's monitor; copies happen outside it.
 *
 * <p>Memory is safe by two rules: a verb that returns leaves nobody at its rank's memory, and one that throws has ended the
 * group, after which no copy begins and those under way are waited for.
 */
final class LocalExchange {
    /** Messages in flight per pair of ranks, which is also how many a rank may post before it awaits; a power of two. */
    static final int DEPTH = 8;
    private static final int ANYONE = -1;

    /** What ended the group: {@code rank} did {@code what}, because of {@code cause} unless null. */
    record Failure(int rank, String what, Throwable cause) {
        CommunicationException toException() {
            return new CommunicationException("rank " + rank + " " + what, cause);
        }
    }

    private final int worldSize;
    private final long deadlineNanos;

    private final long[] address; // of message m from a to b at ((a * worldSize + b) * DEPTH + m % DEPTH)
    private final long[] bytes;
    private final long[] ready;   // event after which the message may be read; 0 where it may at once
    private final long[] copied;  // event after which it has been read
    private final long[] sent;    // messages put into the mailbox of a pair, ever
    private final long[] taken;   // messages taken out of it, ever

    private final long[] board;   // two published numbers per rank
    private final Object[] gift;  // an object handed to each rank by split
    private final LocalQueue[] queues; // of each rank; closed together, as ranks wait for each other's events
    private final boolean[] gone; // ranks that have left
    private final String[] phase; // what each rank is at: null, or this step of it
    private final int[] step;
    private final Set<LocalExchange> parts = Collections.newSetFromMap(new WeakHashMap<>()); // groups split off

    private final List<Map<String, String>> terms; // of each rank, while they agree
    // the rank whose message, or whose taking of one, each rank waits for; ANYONE if for none
    private final int[] awaited;
    private final boolean[] here; // ranks that wait in the barrier
    private int arrived;          // their number
    private int opener;           // the first of them
    private String operation;     // what it called
    private long generation;      // barriers completed, ever

    private int copying;          // ranks that read or write their peers' memory just now
    private Failure failure;

    LocalExchange(int worldSize, long deadlineNanos) {
        this.worldSize = worldSize;
        this.deadlineNanos = deadlineNanos;
        int pairs = Math.multiplyExact(worldSize, worldSize);
        address = new long[Math.multiplyExact(pairs, DEPTH)];
        bytes = new long[pairs * DEPTH];
        ready = new long[pairs * DEPTH];
        copied = new long[pairs * DEPTH];
        sent = new long[pairs];
        taken = new long[pairs];
        board = new long[2 * worldSize];
        gift = new Object[worldSize];
        queues = new LocalQueue[worldSize];
        gone = new boolean[worldSize];
        terms = new ArrayList<>(Collections.nCopies(worldSize, null));
        awaited = new int[worldSize];
        Arrays.fill(awaited, ANYONE);
        phase = new String[worldSize];
        step = new int[worldSize];
        here = new boolean[worldSize];
    }

    int worldSize() {
        return worldSize;
    }

    long deadlineNanos() {
        return deadlineNanos;
    }

    /** Notes where a rank copies; once for each rank, before any verb. */
    synchronized void join(int rank, LocalQueue queue) {
        queues[rank] = queue;
    }

    /** Notes what a rank is at, for the message of its failure. */
    synchronized void at(int rank, String newPhase, int newStep) {
        phase[rank] = newPhase;
        step[rank] = newStep;
    }

    synchronized LocalQueue queue(int rank) {
        return queues[rank];
    }

    /** Puts a message from {@code from} to {@code to} into their mailbox, which has room: see {@link #DEPTH}. Returns its number. */
    synchronized long put(int from, int to, long messageAddress, long messageBytes, long readyEvent) {
        check();
        int pair = from * worldSize + to;
        int slot = pair * DEPTH + (int) (sent[pair] % DEPTH);
        address[slot] = messageAddress;
        bytes[slot] = messageBytes;
        ready[slot] = readyEvent;
        notifyAll();
        return sent[pair]++;
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

    /** Returns the event after which the message that was peeked at may be read. */
    synchronized long ready(int from, int to) {
        int pair = from * worldSize + to;
        return ready[pair * DEPTH + (int) (taken[pair] % DEPTH)];
    }

    /** Takes the message that was peeked at; its sender may overwrite it after {@code copiedEvent}. */
    synchronized void take(int from, int to, long copiedEvent) {
        int pair = from * worldSize + to;
        copied[pair * DEPTH + (int) (taken[pair] % DEPTH)] = copiedEvent;
        taken[pair]++;
        endCopy();
    }

    /** Returns the event after which a message that was taken has been read. */
    synchronized long copied(int from, int to, long number) {
        return copied[(from * worldSize + to) * DEPTH + (int) (number % DEPTH)];
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

    /** Waits until every rank has come here with the same operation; what they published before is then visible to all. */
    synchronized void barrier(int rank, String called) {
        check();
        if (arrived == 0) {
            opener = rank;
            operation = called;
        } else if (!operation.equals(called)) {
            throw fail(rank, "calls " + called + " while rank " + opener + " calls " + operation, null);
        }
        here[rank] = true;
        if (++arrived == worldSize) {
            compareTerms();
            arrived = 0;
            Arrays.fill(here, false);
            generation++;
            notifyAll();
            return;
        }
        for (int peer : awaited) {
            if (peer == rank) {
                notifyAll(); // whoever waits for this rank does so in vain
            }
        }
        long mine = generation;
        long start = System.nanoTime();
        while (generation == mine) {
            pause(rank, ANYONE, called, start);
        }
    }

    /**
     * Waits until every rank has come here with the same operation, and fails on all of them unless all bring the same
     * terms.
     */
    synchronized void agree(int rank, String called, Map<String, String> own) {
        terms.set(rank, own);
        barrier(rank, called);
    }

    /** Fails if ranks that have come to agree differ. */
    private void compareTerms() {
        Map<String, String> first = terms.get(0);
        for (int rank = 1; rank < worldSize && first != null; rank++) {
            String difference = Terms.difference(first, rank, terms.get(rank));
            if (difference != null) {
                throw fail(rank, "and rank 0 cannot " + operation + ": " + difference, null);
            }
        }
        Collections.fill(terms, null);
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

    /** Notes a group of some of these ranks, which will end when this one fails. */
    synchronized void adopt(LocalExchange part) {
        parts.add(part);
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

    /** Ends the group and those split off, as {@link #end} does, and returns the exception to throw. */
    CommunicationException fail(int rank, String what, Throwable cause) {
        end(new Failure(rank, what + place(rank), cause));
        return failure().toException();
    }

    private synchronized String place(int rank) {
        return phase[rank] == null ? "" : " (step " + step[rank] + " of " + phase[rank] + ")";
    }

    /** Ends the group and those split off, unless it has failed before; returns once no rank touches another's memory. */
    void end(Failure reason) {
        for (LocalExchange part : mark(reason)) {
            part.end(reason);
        }
        settle();
    }

    private synchronized Set<LocalExchange> mark(Failure reason) {
        if (failure != null) {
            return Set.of();
        }
        failure = reason;
        notifyAll();
        return Set.copyOf(parts);
    }

    private synchronized void settle() {
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
    }

    /** Returns what ended the group, or null. */
    synchronized Failure failure() {
        return failure;
    }

    /** Notes that a rank has left: peers that wait for it fail. The last one to leave frees what they shared. */
    synchronized void leave(int rank) {
        gone[rank] = true;
        notifyAll();
        boolean all = true;
        for (boolean left : gone) {
            all &= left;
        }
        if (all) {
            for (LocalQueue queue : queues) {
                queue.close();
            }
        }
    }

    /** Throws if the group has failed. */
    synchronized void requireAlive() {
        check();
    }

    private void check() {
        if (failure != null) {
            settle();
            throw failure.toException();
        }
    }

    /** Waits a while for {@code peer}, or for {@link #ANYONE}; throws when the group failed, the peer left or the deadline passed. */
    private void pause(int rank, int peer, String called, long start) {
        check();
        for (int other = 0; other < worldSize; other++) {
            if (gone[other] && awaits(peer, other)) {
                throw fail(rank, "waits in " + called + ", but rank " + other + " has left the group", null);
            }
        }
        if (peer != ANYONE && here[peer]) { // which waits for this rank
            throw fail(rank, "waits in " + called + " for rank " + peer + ", which calls " + operation, null);
        }
        long remaining = deadlineNanos - (System.nanoTime() - start);
        if (remaining <= 0) {
            throw fail(rank, "waited " + deadlineNanos / 1_000_000 + " ms, the deadline, in " + called + " for " + awaited(peer), null);
        }
        awaited[rank] = peer;
        try {
            wait(remaining / 1_000_000, (int) (remaining % 1_000_000));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw fail(rank, "was interrupted in " + called, e);
        } finally {
            awaited[rank] = ANYONE;
        }
    }

    /** Returns whether who waits for {@code peer} waits for {@code other}: in a barrier, for all that are not here. */
    private boolean awaits(int peer, int other) {
        return other == peer || (peer == ANYONE && !here[other]);
    }

    private String awaited(int peer) {
        StringBuilder ranks = new StringBuilder();
        for (int other = 0; other < worldSize; other++) {
            if (awaits(peer, other)) {
                ranks.append(ranks.isEmpty() ? "rank " : ", ").append(other);
            }
        }
        return ranks.toString();
    }
}
