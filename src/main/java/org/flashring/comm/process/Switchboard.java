package org.flashring.comm.process;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.security.MessageDigest;
import java.util.List;
import java.util.function.BooleanSupplier;

/**
 * Where the members of a group that is being made connect, each two of them with a lane for each use. The higher rank
 * calls, with the token of the group, and the lower one offers memory to share where both may be on one host; if the
 * caller finds it, the lane goes through it, else through the connection.
 */
final class Switchboard implements AutoCloseable {
    /** What the lanes of a group are for. */
    enum Use {
        EXCHANGES,
        COLLECTIVES
    }

    /** How a member is reached, and whether it may be on this host. */
    record Member(List<InetAddress> addresses, int port, boolean mayShare) {}

    private static final int MAGIC = 0x464c524c; // "FLRL"
    private static final int GREETING_MILLIS = 5_000;
    private static final int CONNECT_MILLIS = 3_000;
    private static final long POLL_MILLIS = 20;

    private final ServerSocketChannel server;
    private Lane[][] lanes; // by use and rank; guarded by this object, as all that follows
    private int missing;
    private String problem;
    private Throwable cause;
    private boolean closed;

    private byte[] token;
    private int rank;
    private List<Member> members;
    private int capacity;

    /** Listens at a free port of {@code address}, or of all addresses if that is null. */
    Switchboard(InetAddress address) throws IOException {
        server = ServerSocketChannel.open();
        try {
            server.bind(address == null ? new InetSocketAddress(0) : new InetSocketAddress(address, 0), 1024);
        } catch (IOException e) {
            server.close();
            throw e;
        }
    }

    int port() throws IOException {
        return ((InetSocketAddress) server.getLocalAddress()).getPort();
    }

    /**
     * Returns the lanes to all members by use and rank, null to this one.
     *
     * @param groupToken what members show to be let in
     * @param ringBytes of a lane through shared memory, each way
     * @param failed whether the group has failed meanwhile
     * @param end of System.nanoTime, when it is given up
     * @throws IOException if there is no lane to a member; the message says to whom, or the group has failed
     */
    Lane[][] connect(byte[] groupToken, int own, List<Member> all, int ringBytes, BooleanSupplier failed, long end)
            throws IOException {
        token = groupToken;
        rank = own;
        members = all;
        capacity = ringBytes;
        lanes = new Lane[Use.values().length][all.size()];
        missing = Use.values().length * (all.size() - 1);
        if (own < all.size() - 1) {
            start(this::listen, "flashring switchboard");
        }
        for (int peer = 0; peer < own; peer++) {
            for (Use use : Use.values()) {
                call(peer, use, failed, end);
            }
        }
        synchronized (this) {
            while (missing > 0 && problem == null && !failed.getAsBoolean() && System.nanoTime() < end) {
                try {
                    wait(POLL_MILLIS);
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                    problem = "was interrupted";
                    cause = e;
                }
            }
            if (problem != null) {
                throw new IOException(problem, cause);
            }
            if (missing > 0) {
                throw new IOException("waits for the call of rank " + absent());
            }
            Lane[][] made = lanes;
            lanes = null; // they are the caller's now
            return made;
        }
    }

    private int absent() {
        int peer = rank + 1;
        while (lanes[0][peer] != null && lanes[1][peer] != null) {
            peer++;
        }
        return peer;
    }

    private static void start(Runnable body, String name) {
        Thread thread = new Thread(body, name);
        thread.setDaemon(true);
        thread.start();
    }

    private void listen() {
        while (true) {
            try {
                SocketChannel channel = server.accept();
                start(() -> answer(channel), "flashring switchboard guest");
            } catch (IOException e) {
                if (!server.isOpen()) {
                    return;
                }
                fail("cannot let a peer in: " + e.getMessage(), e);
                return;
            }
        }
    }

    private synchronized void fail(String what, Throwable why) {
        if (problem == null) {
            problem = what;
            cause = why;
            notifyAll();
        }
    }

    /** Plays the lower rank's part; who does not know the token is no member and not answered. */
    private void answer(SocketChannel channel) {
        Segment segment = null;
        boolean kept = false;
        try {
            channel.socket().setSoTimeout(GREETING_MILLIS);
            channel.socket().setTcpNoDelay(true);
            DataInputStream in = new DataInputStream(channel.socket().getInputStream());
            DataOutputStream out = new DataOutputStream(channel.socket().getOutputStream());
            if (in.readInt() != MAGIC || !MessageDigest.isEqual(in.readNBytes(token.length), token)) {
                return;
            }
            int peer = in.readInt();
            int use = in.readInt();
            if (peer <= rank || peer >= members.size() || use < 0 || use >= Use.values().length) {
                return;
            }
            segment = offer(peer, out);
            boolean shared = in.readBoolean();
            if (segment != null) {
                segment.delete();
            }
            kept = keep(peer, use, shared ? new SharedLane(segment, capacity, true, channel) : new SocketLane(channel));
            segment = shared ? null : segment;
        } catch (IOException e) {
            // the caller tries again or says what is wrong
        } finally {
            drop(segment);
            if (!kept) {
                close(channel);
            }
        }
    }

    /** Offers memory to a peer that may see it. Returns it, or null. */
    private Segment offer(int peer, DataOutputStream out) throws IOException {
        Segment segment = null;
        byte[] nonce = Card.newToken();
        if (members.get(peer).mayShare()) {
            try {
                segment = Segment.create(nonce, SharedLane.segmentBytes(capacity));
            } catch (IOException e) {
                fail(
                        "cannot share memory with rank " + peer + ": " + e.getMessage() + "; make room there or set "
                                + Medium.VARIABLE + " to " + Medium.SOCKETS + " on all ranks",
                        e);
                throw e;
            }
        }
        try {
            out.writeUTF(segment == null ? "" : segment.name());
            out.write(nonce);
            out.flush();
            return segment;
        } catch (IOException e) {
            drop(segment);
            throw e;
        }
    }

    private static void drop(Segment segment) {
        if (segment != null) {
            segment.close();
            try {
                segment.delete();
            } catch (IOException e) {
                // as good as it gets
            }
        }
    }

    private static void close(SocketChannel channel) {
        try {
            channel.close();
        } catch (IOException e) {
            // nothing is left to be lost
        }
    }

    /** Returns whether the lane is one that was waited for; if not it is closed. */
    private boolean keep(int peer, int use, Lane lane) {
        synchronized (this) {
            if (!closed && lanes != null && lanes[use][peer] == null) {
                lanes[use][peer] = lane;
                missing--;
                notifyAll();
                return true;
            }
        }
        lane.close();
        return false;
    }

    /** Plays the higher rank's part, at one address after the other. */
    private void call(int peer, Use use, BooleanSupplier failed, long end) throws IOException {
        Member member = members.get(peer);
        IOException last = new IOException("it has no address");
        while (!failed.getAsBoolean() && System.nanoTime() < end) {
            for (InetAddress address : member.addresses()) {
                SocketChannel channel = SocketChannel.open();
                try {
                    channel.socket().connect(new InetSocketAddress(address, member.port()), CONNECT_MILLIS);
                    keep(peer, use.ordinal(), greet(channel, use));
                    return;
                } catch (IOException e) {
                    close(channel);
                    last = e;
                }
            }
            pause();
        }
        throw new IOException(
                "cannot reach rank " + peer + " at " + member.addresses() + ", port " + member.port() + ": "
                        + last.getMessage(),
                last);
    }

    private static void pause() throws IOException {
        try {
            Thread.sleep(POLL_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", e);
        }
    }

    private Lane greet(SocketChannel channel, Use use) throws IOException {
        channel.socket().setSoTimeout(GREETING_MILLIS);
        channel.socket().setTcpNoDelay(true);
        DataInputStream in = new DataInputStream(channel.socket().getInputStream());
        DataOutputStream out = new DataOutputStream(channel.socket().getOutputStream());
        out.writeInt(MAGIC);
        out.write(token);
        out.writeInt(rank);
        out.writeInt(use.ordinal());
        String name = in.readUTF();
        byte[] nonce = in.readNBytes(Segment.NONCE);
        Segment segment = name.isEmpty() ? null : Segment.open(name, nonce, SharedLane.segmentBytes(capacity));
        out.writeBoolean(segment != null);
        return segment == null ? new SocketLane(channel) : new SharedLane(segment, capacity, false, channel);
    }

    /** Hangs up: lanes that nobody has taken are closed. */
    @Override
    public void close() {
        Lane[][] dropped;
        synchronized (this) {
            closed = true;
            dropped = lanes == null ? new Lane[0][] : lanes;
            lanes = null;
        }
        try {
            server.close();
        } catch (IOException e) {
            // nothing is left to be lost
        }
        for (Lane[] ofUse : dropped) {
            for (Lane lane : ofUse) {
                if (lane != null) {
                    lane.close();
                }
            }
        }
    }
}
