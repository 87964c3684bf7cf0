package org.flashring.launch;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.net.InetAddress;
import java.net.SocketTimeoutException;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Lock;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Consumer;
import org.flashring.comm.CommunicationException;
import org.flashring.internal.Assembly;
import org.flashring.internal.Checks;

/**
 * The links of a process to the others of its run, through rank 0: first to exchange a few bytes, then to learn at once
 * that one of them has failed or died.
 */
public final class Session implements AutoCloseable {
    /** How what is said of a rank ends if its process does. */
    public static final String GONE = "is gone: its process ended or the connection broke";

    private static final long PARTING_MILLIS = 5_000; // whoever reads nothing is not waited for longer

    private final int rank;
    private final int worldSize;
    private final Frames[] links; // by rank: all on rank 0, else that to rank 0 alone
    private final boolean[] left; // peers that said goodbye; guarded by this object
    private final long deadlineMillis;
    private final Assembly assembly = new Assembly(); // on rank 0, for all
    // Shared while answers are on their way, so that rank 0, which may have its own first, does not close before the
    // others have theirs.
    private final ReadWriteLock answering = new ReentrantReadWriteLock();
    // of rank 0, by group and plan
    private final Map<String, CompletableFuture<String>> asked = new ConcurrentHashMap<>();
    private volatile String broken; // why there will be no more agreements; null while there may be
    private Consumer<String> listener;
    private boolean closed;

    Session(int rank, int worldSize, Frames[] links, Duration deadline) {
        this.rank = rank;
        this.worldSize = worldSize;
        this.links = links;
        this.deadlineMillis = deadline.toMillis();
        this.left = new boolean[worldSize];
    }

    /** Returns this rank. */
    public int rank() {
        return rank;
    }

    /** Returns the number of ranks. */
    public int worldSize() {
        return worldSize;
    }

    /** Returns the address of this process's end of a link, by which others may reach it; null if it is alone. */
    public InetAddress address() {
        for (Frames link : links) {
            if (link != null) {
                return link.local();
            }
        }
        return null;
    }

    /** Returns the address at which this process has reached rank 0; null on rank 0. */
    public InetAddress master() {
        return rank == 0 ? null : links[0].remote();
    }

    /**
     * Returns what every rank gave, in rank order. Collective; before {@link #listen} alone.
     *
     * @throws CommunicationException if a rank has gone or does not answer within the deadline
     */
    public byte[][] exchange(byte[] own) {
        byte[][] all = new byte[worldSize][];
        requireOpen();
        all[rank] = Checks.notNull("own", own).clone();
        try {
            if (rank == 0) {
                for (int peer = 1; peer < worldSize; peer++) {
                    all[peer] = receive(peer).payload();
                }
                for (int peer = 1; peer < worldSize; peer++) {
                    for (byte[] part : all) {
                        links[peer].send(Frames.DATA, out -> out.write(part));
                    }
                }
            } else {
                links[0].send(Frames.DATA, out -> out.write(own));
                for (int peer = 0; peer < worldSize; peer++) {
                    all[peer] = receive(0).payload();
                }
            }
        } catch (IOException e) {
            throw new CommunicationException(
                    "rank " + rank + " lost the others at the rendezvous: " + e.getMessage(), e);
        }
        return all;
    }

    private Frames.Frame receive(int peer) throws IOException {
        try {
            return links[peer].receive(Frames.DATA, deadlineMillis);
        } catch (EOFException e) {
            throw new IOException("rank " + peer + " has gone", e);
        } catch (SocketTimeoutException e) {
            throw new IOException("rank " + peer + " does not answer within " + deadlineMillis + " ms", e);
        }
    }

    /**
     * Calls {@code failed}, on another thread and perhaps more than once, when a rank says that it failed or its
     * process is gone.
     */
    public void listen(Consumer<String> failed) {
        requireOpen();
        listener = Checks.notNull("failed", failed);
        for (int peer = 0; peer < worldSize; peer++) {
            if (links[peer] != null) {
                int from = peer;
                Thread thread = new Thread(() -> hear(from), "flashring link to rank " + peer);
                thread.setDaemon(true);
                thread.start();
            }
        }
    }

    private void hear(int peer) {
        try {
            while (true) {
                Frames.Frame frame = links[peer].receive(0);
                switch (frame.kind()) {
                    case Frames.GOODBYE -> {
                        goodbye(peer);
                        return;
                    }
                    case Frames.FAILURE -> failed(frame.in().readUTF(), peer);
                    case Frames.TERMS -> {
                        Assembly.Guest guest = readGuest(frame.in());
                        assemble(() -> assembly.bring(guest, verdict -> answer(peer, guest, verdict)));
                    }
                    case Frames.AGREED -> {
                        DataInputStream in = frame.in();
                        CompletableFuture<String> verdict = asked.remove(in.readUTF());
                        if (verdict != null) {
                            verdict.complete(in.readUTF());
                        }
                    }
                    case Frames.LEAVE -> {
                        Assembly.Guest guest = readGuest(frame.in());
                        assemble(() -> assembly.leave(guest.group(), guest.rank(), guest.size()));
                    }
                    default -> throw new IOException("a message of kind " + frame.kind());
                }
            }
        } catch (IOException e) {
            if (!isClosed()) {
                failed("rank " + peer + " " + GONE, peer);
            }
        } catch (RuntimeException
                | Error e) { // memory or stack may have run out: without this thread nobody hears of the peer
            failed("rank " + rank + " hears rank " + peer + " no more: " + e, peer);
            throw e;
        }
    }

    private void assemble(Runnable answers) {
        Lock lock = answering.readLock();
        lock.lock();
        try {
            answers.run();
        } finally {
            lock.unlock();
        }
    }

    private void goodbye(int peer) {
        synchronized (this) {
            left[peer] = true;
        }
        if (rank == 0) {
            assemble(() -> assembly.leave("", peer, worldSize));
        } else {
            giveUp("rank " + peer + " has left the group");
        }
    }

    private void failed(String what, int peer) {
        pass(what, peer);
        giveUp(what);
        listener.accept(what);
    }

    /** Ends the wait for agreements that will not come, now and later. */
    @SuppressWarnings("ModifyCollectionInEnhancedForLoop") // of a concurrent map
    private void giveUp(String what) {
        broken = what;
        for (String question : asked.keySet()) {
            CompletableFuture<String> verdict = asked.remove(question);
            if (verdict != null) {
                verdict.completeExceptionally(new CommunicationException(what));
            }
        }
    }

    /**
     * Returns a future of what is wrong with the terms that the ranks of a group bring for its n-th plan, empty if
     * nothing is, once all of the group have brought theirs to rank 0 of this session. It fails with a
     * {@link CommunicationException} if a rank is gone. After {@link #listen}.
     *
     * @param group the group's name, the same on all its ranks and no other's; empty for that of all ranks
     * @param plan n
     * @param member this process's rank in the group
     * @param size of the group
     * @param terms names and values that must be the same on all ranks
     */
    public CompletableFuture<String> agree(String group, long plan, int member, int size, Map<String, String> terms) {
        requireOpen();
        Assembly.Guest guest = new Assembly.Guest(group, plan, member, size, terms);
        CompletableFuture<String> verdict = new CompletableFuture<>();
        asked.put(question(guest), verdict);
        if (rank == 0) {
            assemble(() -> assembly.bring(guest, problem -> {
                asked.remove(question(guest));
                verdict.complete(problem);
            }));
        } else {
            try {
                links[0].send(Frames.TERMS, out -> write(guest, out));
            } catch (IOException e) {
                giveUp("rank " + rank + " cannot send its terms to rank 0: " + e.getMessage());
            }
        }
        String known = broken;
        if (known != null) {
            giveUp(known);
        }
        return verdict;
    }

    /**
     * Says that this process's rank {@code member} of {@code size} has left a group, so that those who wait there for
     * its terms, or will, are answered at once. Of the group of all ranks {@link #close} says it.
     */
    public void leave(String group, int member, int size) {
        if (group.isEmpty() || isClosed()) {
            return;
        }
        if (rank == 0) {
            assemble(() -> assembly.leave(group, member, size));
            return;
        }
        try {
            links[0].send(Frames.LEAVE, out -> write(new Assembly.Guest(group, 0, member, size, Map.of()), out));
        } catch (IOException e) {
            // gone: its own link tells of that
        }
    }

    /**
     * Returns which agreement, on rank 0, is overdue for more than {@code nanos}, and for whom, in words; null if none
     * is.
     */
    public String overdue(long nanos) {
        return assembly.overdue(nanos);
    }

    private void answer(int peer, Assembly.Guest guest, String verdict) {
        try {
            links[peer].send(Frames.AGREED, out -> {
                out.writeUTF(question(guest));
                out.writeUTF(verdict);
            });
        } catch (IOException e) {
            // gone: its own link tells of that
        }
    }

    private static String question(Assembly.Guest guest) {
        return guest.plan() + " of " + guest.group();
    }

    private static void write(Assembly.Guest guest, DataOutputStream out) throws IOException {
        out.writeUTF(guest.group());
        out.writeLong(guest.plan());
        out.writeInt(guest.rank());
        out.writeInt(guest.size());
        Hello.writeTerms(out, guest.terms());
    }

    private Assembly.Guest readGuest(DataInputStream in) throws IOException {
        Assembly.Guest guest =
                new Assembly.Guest(in.readUTF(), in.readLong(), in.readInt(), in.readInt(), Hello.readTerms(in));
        if (guest.size() < 1 || guest.size() > worldSize || guest.rank() < 0 || guest.rank() >= guest.size()) {
            throw new IOException("rank " + guest.rank() + " of " + guest.size());
        }
        return guest;
    }

    private void requireOpen() {
        if (isClosed()) {
            throw new IllegalStateException("the session of rank " + rank + " is closed");
        }
    }

    private synchronized boolean isClosed() {
        return closed;
    }

    /** Tells all other ranks that {@code what} happened; after close there is nobody to tell. */
    public void fail(String what) {
        pass(what, rank);
    }

    private void pass(String what, int except) {
        for (int peer = 0; peer < worldSize; peer++) {
            if (links[peer] != null && peer != except && !hasLeft(peer)) {
                try {
                    links[peer].send(Frames.FAILURE, out -> out.writeUTF(what));
                } catch (IOException e) {
                    // gone as well: its own link tells of that
                }
            }
        }
    }

    private synchronized boolean hasLeft(int peer) {
        return left[peer];
    }

    /** Leaves without alarm. Closing twice is harmless. */
    @Override
    public void close() {
        synchronized (this) {
            if (closed) {
                return;
            }
            closed = true;
        }
        awaitAnswers();
        giveUp("the session of rank " + rank + " was closed");
        for (Frames link : links) {
            if (link != null) {
                try {
                    link.send(Frames.GOODBYE, out -> {});
                } catch (IOException e) {
                    // gone before us
                }
                link.close();
            }
        }
    }

    private void awaitAnswers() {
        Lock lock = answering.writeLock();
        try {
            if (lock.tryLock(PARTING_MILLIS, TimeUnit.MILLISECONDS)) {
                lock.unlock();
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
