package org.flashring.comm.peer;

import java.nio.ByteBuffer;
import org.flashring.comm.Transfers;
import org.flashring.internal.Native;

/** The letters of a batch under way: those that this rank writes of what it sends, and those of what it receives. */
final class Mail {
    private final Transfers host = new Transfers();
    private ByteBuffer letters = Exports.direct(4 * Letter.LENGTH);
    private long address = Native.address(letters);
    private long[] sources = new long[4];
    private int sends;

    /** Writes what {@code batch} sends and makes room for letters of what it receives. Returns the batch of letters. */
    Transfers write(Transfers batch, Exports exports) {
        sends = batch.sends();
        int bytes = Math.multiplyExact(sends + batch.receives(), Letter.LENGTH);
        if (bytes > letters.capacity()) {
            letters = Exports.direct(Math.max(bytes, 2 * letters.capacity()));
            address = Native.address(letters);
        }
        if (batch.receives() > sources.length) {
            sources = new long[Math.max(batch.receives(), 2 * sources.length)];
        }
        host.clear();
        for (int i = 0; i < sends; i++) {
            exports.describe(batch.sendAddress(i), batch.sendBytes(i), letters, i * Letter.LENGTH);
            host.send(address + (long) i * Letter.LENGTH, Letter.LENGTH, batch.to(i));
        }
        for (int i = 0; i < batch.receives(); i++) {
            host.receive(address + received(i), Letter.LENGTH, batch.from(i));
        }
        return host;
    }

    /** Returns the batch of letters. */
    Transfers host() {
        return host;
    }

    /** Returns where each message that {@code rank} receives lies here, those of others by way of {@code group}. */
    long[] sources(Transfers batch, int rank, PeerTransport group) {
        int send = -1;
        for (int i = 0; i < batch.receives(); i++) {
            int from = batch.from(i);
            if (from == rank) {
                send = batch.nextTo(rank, send + 1);
                sources[i] = batch.sendAddress(send);
            } else {
                sources[i] = group.address(from, letters, received(i));
            }
        }
        return sources;
    }

    /** Returns where the letter of the {@code i}-th message received is. */
    private int received(int i) {
        return (sends + i) * Letter.LENGTH;
    }

    /**
     * Returns how what peers send differs from what {@code batch} receives, as what this rank did; null if it does not.
     */
    String difference(Transfers batch) {
        for (int i = 0; i < batch.receives(); i++) {
            long sent = letters.getLong(received(i) + Letter.BYTES);
            if (sent != batch.receiveBytes(i)) {
                return "expected " + batch.receiveBytes(i) + " bytes from rank " + batch.from(i) + ", which sends "
                        + sent;
            }
        }
        return null;
    }
}
