package org.flashring.launch;

import java.io.EOFException;
import java.io.IOException;
import java.net.SocketTimeoutException;
import java.time.Duration;
import java.util.function.Consumer;
import org.flashring.comm.CommunicationException;
import org.flashring.internal.Checks;

/**
 * The links of a process to the others of its run, through rank 0: first to exchange a few bytes, then to learn at once that one
 * of them has failed or died.
 */
public final class Session implements AutoCloseable {
    private final int rank;
    private final int worldSize;
    private final Frames[] links; // by rank: all on rank 0, else that to rank 0 alone
    private final boolean[] left; // peers that said goodbye; guarded by this object
    private final long deadlineMillis;
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
            throw new CommunicationException("rank " + rank + " lost the others at the rendezvous: " + e.getMessage(), e);
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

    /** Calls {@code failed}, on another thread and perhaps more than once, when a rank says that it failed or its process is gone. */
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
                if (frame.kind() == Frames.GOODBYE) {
                    synchronized (this) {
                        left[peer] = true;
                    }
                    return;
                }
                if (frame.kind() == Frames.FAILURE) {
                    String what = frame.in().readUTF();
                    pass(what, peer);
                    listener.accept(what);
                }
            }
        } catch (IOException e) {
            if (!isClosed()) {
                String what = "rank " + peer + " is gone: its process ended or the connection broke";
                pass(what, peer);
                listener.accept(what);
            }
        }
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
}
