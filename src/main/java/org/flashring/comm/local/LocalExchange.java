package org.flashring.comm.local;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.WeakHashMap;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Transfers;
import org.flashring.comm.transport.Collective;
import org.flashring.comm.transport.Deadline;
import org.flashring.comm.transport.Transport;
import org.flashring.internal.Terms;

/**
 * What the ranks of a {@link LocalGroup} share: a mailbox per pair of ranks, a board on which each rank publishes what
 * it calls, a barrier and the first failure. Everything is guarded by this object's monitor; copies happen outside it.
 *
 * <p>Memory is safe by two rules: a verb that returns leaves nobody at its rank's memory, and one that throws has ended
 * the group, after which no copy begins and those under way are waited for.
 */
final class LocalExchange {
    /** Messages in flight per pair of ranks, which is also how many batches a rank may post before it awaits. */
    private static final int DEPTH = Transport.DEPTH;

    private static final int ANYONE = -1;

    private final int worldSize;
    private final Deadline deadline;
    private final String name; // that its failures begin with

    // a message is what one batch sends to one rank
    private final Transfers[] message; // m from a to b at ((a * worldSize + b) * DEPTH + m % DEPTH)
    private final long[] ready; // event after which the message may be read; 0 where it may at once
    private final long[] copied; // event after which it has been read
    private final long[] sent; // messages put into the mailbox of a pair, ever
    private final long[] taken; // messages taken out of it, ever

    private final Collective[] called; // what each rank calls
    private final int[] color; // of each rank, in split
    private final int[] key;
    private final LocalTransport[] gift; // handed to each rank by split
    private final LocalQueue[] queues; // of each rank; closed together, as ranks wait for each other's events
    private final boolean[] gone; // ranks that have left
    private final String[] phase; // what each rank is at: null, or this step of it
    private final int[] step;
    private final Set<LocalExchange> parts = Collections.newSetFromMap(new WeakHashMap<>()); // groups split off

    private final List<Map<String, String>> terms; // of each rank, while they agree
    // the rank whose message, or whose taking of one, each rank waits for; ANYONE if for none
    private final int[] awaited;
    private final boolean[] here; // ranks that wait in the barrier
    private int arrived; // their number
    private int opener; // the first of them
    private String operation; // what it called
    private long generation; // barriers completed, ever

    private int copying; // ranks that read or write their peers' memory just now
    private LocalFailure failure;

    LocalExchange(int worldSize, Deadline deadline, String name) {
        this.worldSize = worldSize;
        this.deadline = deadline;
        this.name = name;
        int pairs = Math.multiplyExact(worldSize, worldSize);
        message = new Transfers[Math.multiplyExact(pairs, DEPTH)];
        ready = new long[pairs * DEPTH];
        copied = new long[pairs * DEPTH];
        sent = new long[pairs];
        taken = new long[pairs];
        called = new Collective[worldSize];
        color = new int[worldSize];
        key = new int[worldSize];
        gift = new LocalTransport[worldSize];
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

    Deadline deadline() {
        return deadline;
    }

    /** Returns what the failures of a group of some of these ranks begin with. */
    String partName(String part) {
        return part.isEmpty() ? name : name + part + ": ";
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

    /** Puts what {@code batch} sends to {@code to} into their mailbox, which has room: see {@link #DEPTH}. */
    synchronized void put(int from, int to, Transfers batch, long readyEvent) {
        check();
        int pair = from * worldSize + to;
        int slot = pair * DEPTH + (int) (sent[pair] % DEPTH);
        message[slot] = batch;
        ready[slot] = readyEvent;
        sent[pair]++;
        notifyAll();
    }

    /**
     * Returns the batch that holds the oldest message from {@code from} to {@code to}, once there is one and if it
     * sends what {@code expected} receives. The copy out of it has then begun, and ends with {@link #take}.
     */
    synchronized Transfers peek(int from, int to, Transfers expected) {
        int pair = from * worldSize + to;
        long start = System.nanoTime();
        while (sent[pair] == taken[pair]) {
            pause(to, from, "receive", start);
        }
        check();
        Transfers batch = message[pair * DEPTH + (int) (taken[pair] % DEPTH)];
        String difference = Messages.difference(from, batch, to, expected);
        if (difference != null) {
            throw fail(to, difference, null);
        }
        copying++;
        return batch;
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

    /** Waits until the {@code number}-th message from {@code from} to {@code to} has been taken. */
    synchronized void drained(int from, int to, long number) {
        int pair = from * worldSize + to;
        long start = System.nanoTime();
        while (taken[pair] <= number) {
            pause(from, to, "send", start);
        }
        check();
    }

    /**
     * Waits until every rank has come here with the same operation; what they published before is then visible to all.
     */
    synchronized void barrier(int rank, String verb) {
        check();
        if (arrived == 0) {
            opener = rank;
            operation = verb;
        } else if (!operation.equals(verb)) {
            throw fail(rank, "calls " + verb + " while rank " + opener + " calls " + operation, null);
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
            pause(rank, ANYONE, verb, start);
        }
    }

    /**
     * Waits until every rank has come here with the same operation, and fails on all of them unless all bring the same
     * terms.
     */
    synchronized void agree(int rank, String verb, Map<String, String> own) {
        terms.set(rank, own);
        barrier(rank, verb);
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

    /** Publishes the collective that a rank calls, before the barrier after which its peers read it. */
    synchronized void call(int rank, Collective collective) {
        called[rank] = collective;
    }

    synchronized Collective called(int rank) {
        return called[rank];
    }

    /** Publishes what a rank gives to split. */
    synchronized void publish(int rank, int newColor, int newKey) {
        color[rank] = newColor;
        key[rank] = newKey;
    }

    synchronized int color(int rank) {
        return color[rank];
    }

    synchronized int key(int rank) {
        return key[rank];
    }

    /** Notes a group of some of these ranks, which will end when this one fails. */
    synchronized void adopt(LocalExchange part) {
        parts.add(part);
    }

    synchronized void give(int rank, LocalTransport transport) {
        gift[rank] = transport;
    }

    synchronized LocalTransport takeGift(int rank) {
        LocalTransport transport = gift[rank];
        gift[rank] = null;
        return transport;
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
        end(new LocalFailure(name, rank, what + place(rank), cause));
        return failure().toException();
    }

    private synchronized String place(int rank) {
        return phase[rank] == null ? "" : " (step " + step[rank] + " of " + phase[rank] + ")";
    }

    /**
     * Ends the group and those split off, unless it has failed before; returns once no rank touches another's memory.
     */
    void end(LocalFailure reason) {
        for (LocalExchange part : mark(reason)) {
            part.end(reason);
        }
        settle();
    }

    private synchronized Set<LocalExchange> mark(LocalFailure reason) {
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
    synchronized LocalFailure failure() {
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

    /**
     * Waits a while for {@code peer}, or for {@link #ANYONE}; throws when the group failed, the peer left or the
     * deadline passed.
     */
    @SuppressWarnings("WaitNotInLoop") // those who call wait in one
    private void pause(int rank, int peer, String verb, long start) {
        check();
        for (int other = 0; other < worldSize; other++) {
            if (gone[other] && awaits(peer, other)) {
                throw fail(rank, "waits in " + verb + ", but rank " + other + " has left the group", null);
            }
        }
        if (peer != ANYONE && here[peer]) { // which waits for this rank
            throw fail(rank, "waits in " + verb + " for rank " + peer + ", which calls " + operation, null);
        }
        long remaining = deadline.left(start);
        if (remaining <= 0) {
            throw fail(rank, deadline.missedIn(verb) + " for " + awaited(peer), null);
        }
        awaited[rank] = peer;
        try {
            wait(remaining / 1_000_000, (int) (remaining % 1_000_000));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw fail(rank, "was interrupted in " + verb, e);
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
