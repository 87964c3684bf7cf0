package org.flashring.comm;

import java.util.Arrays;
import org.flashring.internal.Checks;

/**
 * Messages that are posted together, as one batch: of any sizes, to and from any ranks, several to the same one and to
 * this rank itself too. A batch is filled once and posted as often as wanted, or cleared and filled anew; neither makes
 * objects once it has been as long. {@link Communicator#post(Transfers)} takes a copy.
 *
 * <pre>{@code
 * Transfers batch = new Transfers();
 * for (int peer = 0; peer < communicator.worldSize(); peer++) {
 *     batch.send(outgoing[peer], sizes[peer], peer).receive(incoming[peer], sizesHere[peer], peer);
 * }
 * long ticket = communicator.post(batch);
 * compute();
 * communicator.await(ticket);
 * }</pre>
 *
 * <p>What a rank sends to another in its n-th batch meets what that one receives from it in its n-th batch, message by
 * message in the order in which they were added: as many, and each of the size expected.
 */
public final class Transfers {
    private static final class Messages {
        private long[] address = new long[1];
        private long[] bytes = new long[1];
        private int[] peer = new int[1];
        private int count;

        void room(int messages) {
            if (messages > peer.length) {
                int length = Math.max(messages, 2 * peer.length);
                address = Arrays.copyOf(address, length);
                bytes = Arrays.copyOf(bytes, length);
                peer = Arrays.copyOf(peer, length);
            }
        }

        void add(long newAddress, long newBytes, int newPeer) {
            room(count + 1);
            address[count] = newAddress;
            bytes[count] = newBytes;
            peer[count] = newPeer;
            count++;
        }

        void set(Messages other) {
            room(other.count);
            System.arraycopy(other.address, 0, address, 0, other.count);
            System.arraycopy(other.bytes, 0, bytes, 0, other.count);
            System.arraycopy(other.peer, 0, peer, 0, other.count);
            count = other.count;
        }

        int next(int wanted, int start) {
            int i = start;
            while (i < count && peer[i] != wanted) {
                i++;
            }
            return Math.min(i, count);
        }

        void apart(String own, long ownAddress, long ownBytes, String name) {
            for (int i = 0; i < count; i++) {
                Checks.apart(own, ownAddress, ownBytes, name, address[i], bytes[i]);
            }
        }
    }

    private final Messages sends = new Messages();
    private final Messages receives = new Messages();

    /** Makes an empty batch. */
    public Transfers() {}

    /** Removes all messages. Returns this. */
    public Transfers clear() {
        sends.count = 0;
        receives.count = 0;
        return this;
    }

    /** Makes this batch equal to another. Returns this. */
    public Transfers set(Transfers other) {
        sends.set(other.sends);
        receives.set(other.receives);
        return this;
    }

    /**
     * Adds a message to rank {@code to}: {@code sendBytes} at {@code send}, on the device of the communicator. Zero
     * bytes are allowed. Returns this.
     *
     * @throws IllegalArgumentException if it overlaps what the batch receives, or is no memory, or there can be no such
     *     rank
     */
    public Transfers send(long send, long sendBytes, int to) {
        Checks.atLeast("to", to, 0);
        Checks.address("send", send, Checks.atLeast("sendBytes", sendBytes, 0), 1);
        receives.apart("send", send, sendBytes, "receive");
        sends.add(send, sendBytes, to);
        return this;
    }

    /** Adds a message from rank {@code from}, which no other message of the batch may overlap, as send does. */
    public Transfers receive(long receive, long receiveBytes, int from) {
        Checks.atLeast("from", from, 0);
        Checks.address("receive", receive, Checks.atLeast("receiveBytes", receiveBytes, 0), 1);
        sends.apart("receive", receive, receiveBytes, "send");
        receives.apart("receive", receive, receiveBytes, "receive");
        receives.add(receive, receiveBytes, from);
        return this;
    }

    /** Returns the number of messages sent. */
    public int sends() {
        return sends.count;
    }

    /** Returns where the {@code i}-th message sent lies. */
    public long sendAddress(int i) {
        return sends.address[i];
    }

    /** Returns the bytes of the {@code i}-th message sent. */
    public long sendBytes(int i) {
        return sends.bytes[i];
    }

    /** Returns the rank that the {@code i}-th message sent goes to. */
    public int to(int i) {
        return sends.peer[i];
    }

    /**
     * Returns the first message sent to {@code rank}, from the {@code start}-th on; {@link #sends} if there is none.
     */
    public int nextTo(int rank, int start) {
        return sends.next(rank, start);
    }

    /** Returns the number of messages received. */
    public int receives() {
        return receives.count;
    }

    /** Returns where the {@code i}-th message received is put. */
    public long receiveAddress(int i) {
        return receives.address[i];
    }

    /** Returns the bytes of the {@code i}-th message received. */
    public long receiveBytes(int i) {
        return receives.bytes[i];
    }

    /** Returns the rank that the {@code i}-th message received comes from. */
    public int from(int i) {
        return receives.peer[i];
    }

    /**
     * Returns the first message received from {@code rank}, from the {@code start}-th on; {@link #receives} if there is
     * none.
     */
    public int nextFrom(int rank, int start) {
        return receives.next(rank, start);
    }
}
