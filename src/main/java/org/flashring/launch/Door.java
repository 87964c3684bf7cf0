package org.flashring.launch;

import java.io.EOFException;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/**
 * Where rank 0 lets the processes of its run in. Each who knocks has a thread and two seconds, so that nobody who says
 * nothing holds up the others; strangers are turned away, noted and reported.
 */
final class Door implements AutoCloseable {
    /** How long a process has to introduce itself. */
    static final int INTRODUCTION_MILLIS = 2_000;

    private static final System.Logger LOG = System.getLogger(Door.class.getName());
    private static final long RETRY_NANOS = 100_000_000;
    private static final int MOST_AT_ONCE = 64;
    private static final int MOST_NOTED = 8; // the rest are counted alone

    /** A process of the run. */
    record Guest(Hello hello, Frames link) {}

    private final ServerSocket server = new ServerSocket();
    private final Secret secret;
    private final Thread listener;
    private final BlockingQueue<Guest> guests = new LinkedBlockingQueue<>();
    private final Semaphore places = new Semaphore(MOST_AT_ONCE);
    private final Set<Frames> strangers = new HashSet<>(); // who has not introduced itself yet; guarded by this object
    private final List<String> turnedAway = new ArrayList<>(); // guarded by this object
    private int turnedAwayCount;
    private boolean closed;

    /** Opens the door at {@code address} for a run of {@code world} processes. */
    Door(InetSocketAddress address, int world, Secret secret) throws IOException {
        this.secret = secret;
        try {
            server.setReuseAddress(true);
            server.bind(address, world + MOST_AT_ONCE);
        } catch (IOException e) {
            server.close();
            throw e;
        }
        listener = start(this::listen, "flashring rendezvous");
    }

    private static Thread start(Runnable body, String name) {
        Thread thread = new Thread(body, name);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private void listen() {
        while (!server.isClosed()) {
            places.acquireUninterruptibly();
            Socket socket = null;
            try {
                socket = server.accept();
                Socket guest = socket;
                start(() -> introduce(guest), "flashring rendezvous guest");
            } catch (IOException | OutOfMemoryError e) {
                places.release();
                close(socket);
                if (!server.isClosed()) { // descriptors or threads may have run out, and may come back
                    LOG.log(System.Logger.Level.WARNING, "rank 0 cannot let a process in: {0}", e.getMessage());
                    LockSupport.parkNanos(RETRY_NANOS);
                }
            }
        }
    }

    private void introduce(Socket socket) {
        boolean seated = false;
        try {
            seated = welcome(new Frames(socket));
        } catch (IOException e) {
            // gone before it was greeted
        } finally {
            if (!seated) { // whatever happened here, even to the memory, the other end learns of it
                close(socket);
            }
            places.release();
        }
    }

    /** Returns whether the process at the other end is let in. */
    private boolean welcome(Frames link) {
        if (!enter(link)) {
            return false;
        }
        try {
            Handshake.admit(link, secret, INTRODUCTION_MILLIS);
            return seat(new Guest(
                    Hello.read(link.receive(Frames.HELLO, INTRODUCTION_MILLIS).in()), link));
        } catch (IOException e) {
            turnAway(link, e);
            return false;
        } catch (RuntimeException | Error e) {
            turnAway(link, new IOException(e.toString(), e));
            throw e;
        }
    }

    private static void close(Socket socket) {
        try {
            if (socket != null) {
                socket.close();
            }
        } catch (IOException e) {
            // nothing is left to be lost
        }
    }

    private synchronized boolean enter(Frames link) {
        return !closed && strangers.add(link);
    }

    private synchronized boolean seat(Guest guest) {
        strangers.remove(guest.link());
        return !closed && guests.add(guest);
    }

    private void turnAway(Frames link, IOException why) {
        String reason = why instanceof SocketTimeoutException
                ? "it said nothing"
                : why instanceof EOFException ? "it went without a word" : why.getMessage();
        synchronized (this) {
            strangers.remove(link);
            if (closed) {
                return; // it is the door that was shut on it
            }
            if (turnedAwayCount++ >= MOST_NOTED) {
                return;
            }
            turnedAway.add("one at " + link.peer() + ": " + reason);
        }
        LOG.log(System.Logger.Level.WARNING, "rank 0 turned a process at {0} away: {1}", link.peer(), reason);
    }

    /** Returns who was turned away and why, in words; empty if nobody was. */
    synchronized String turnedAway() {
        return turnedAwayCount == 0
                ? ""
                : turnedAwayCount + (turnedAwayCount == 1 ? " process was" : " processes were")
                        + " turned away ("
                        + String.join("; ", turnedAway) + ")";
    }

    /** Returns the next process that has come; null if none has after {@code millis}. */
    Guest next(long millis) throws IOException {
        try {
            return guests.poll(millis, TimeUnit.MILLISECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", e);
        }
    }

    /** Shuts the door: those who have not been seen by {@link #next} are dropped. */
    @Override
    public void close() {
        List<Frames> dropped;
        synchronized (this) {
            closed = true;
            dropped = new ArrayList<>(strangers);
            guests.forEach(guest -> dropped.add(guest.link()));
        }
        try {
            server.close();
        } catch (IOException e) {
            // nothing is left to be lost
        }
        dropped.forEach(Frames::close);
        try {
            listener.join(INTRODUCTION_MILLIS); // while it is inside accept, the port stays taken
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
