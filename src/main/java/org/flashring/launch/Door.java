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
            try {
                Socket socket = server.accept();
                start(() -> introduce(socket), "flashring rendezvous guest");
            } catch (IOException e) {
                places.release();
                if (!server.isClosed()) { // descriptors may have run out, and may come back
                    LOG.log(System.Logger.Level.WARNING, "rank 0 cannot let a process in: {0}", e.getMessage());
                    LockSupport.parkNanos(RETRY_NANOS);
                }
            }
        }
    }

    private void introduce(Socket socket) {
        try {
            Frames link = new Frames(socket);
            if (!enter(link)) {
                link.close();
                return;
            }
            try {
                Handshake.admit(link, secret, INTRODUCTION_MILLIS);
                seat(new Guest(Hello.read(link.receive(Frames.HELLO, INTRODUCTION_MILLIS).in()), link));
            } catch (IOException e) {
                link.close();
                turnAway(link, e);
            }
        } catch (IOException e) {
            // gone before it was greeted
        } finally {
            places.release();
        }
    }

    private synchronized boolean enter(Frames link) {
        return !closed && strangers.add(link);
    }

    private synchronized void seat(Guest guest) {
        strangers.remove(guest.link());
        if (closed) {
            guest.link().close();
        } else {
            guests.add(guest);
        }
    }

    private void turnAway(Frames link, IOException why) {
        String reason = why instanceof SocketTimeoutException ? "it said nothing" : why instanceof EOFException
                ? "it went without a word" : why.getMessage();
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
        return turnedAwayCount == 0 ? "" : turnedAwayCount + (turnedAwayCount == 1 ? " process was" : " processes were")
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
