package org.flashring.comm.peer;

import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Stream;
import org.flashring.internal.CudaIpc;
import org.flashring.internal.Cudart;
import org.flashring.internal.Made;

/**
 * Words by which streams of the ranks of a group wait for each other. Each rank waits for words of its own device's
 * memory, which the others write and which only count up: so it can end its waits by itself when another one is dead.
 */
final class Signals implements AutoCloseable {
    /** What a word counts. */
    enum Word {
        /** Batches of a peer that may be read. */
        READY,
        /** Batches to a peer that it has read. */
        TAKEN,
        /** Meetings that a peer has come to. */
        MET
    }

    private static final int WORDS = Word.values().length;

    private final int rank;
    private final int worldSize;
    private final DeviceBuffer own; // [word][peer]
    private final long[] peers; // where the words of each other rank are mapped here
    private final int[][] raised = new int[WORDS][]; // [word][peer], as told to it
    private final int[][] awaited = new int[WORDS][];

    Signals(Device device, int rank, int worldSize) {
        this.rank = rank;
        this.worldSize = worldSize;
        peers = new long[worldSize];
        for (int word = 0; word < WORDS; word++) {
            raised[word] = new int[worldSize];
            awaited[word] = new int[worldSize];
        }
        try (Made made = new Made()) {
            own = made.add(DeviceBuffer.allocate(device, (long) WORDS * worldSize * Integer.BYTES));
            try (Stream filling = Stream.createUrgent(device)) { // not to queue behind streams that wait
                own.fill(0, filling.handle());
                Cudart.synchronizeStream(filling.handle());
            }
            made.keep();
        }
    }

    /** Returns where this rank's words are, for its peers. */
    long address() {
        return own.address();
    }

    long bytes() {
        return own.bytes();
    }

    /** Says where a peer's words are mapped here. */
    void connect(int peer, long address) {
        peers[peer] = address;
    }

    private long offset(Word word, int of) {
        return ((long) word.ordinal() * worldSize + of) * Integer.BYTES;
    }

    /** Counts one up at {@code peer} once the work of {@code stream} so far is done. */
    void raise(Word word, int peer, long stream) {
        CudaIpc.write(stream, peers[peer] + offset(word, rank), ++raised[word.ordinal()][peer]);
    }

    /** Makes later work of {@code stream} wait until {@code peer} has counted up as often as this has been called. */
    void await(Word word, int peer, long stream) {
        CudaIpc.await(stream, own.address() + offset(word, peer), ++awaited[word.ordinal()][peer]);
    }

    /**
     * Ends all waits by {@code stream}, in which nothing ever waits; those that peers, which may still write their
     * words, make anew are ended by the next call.
     */
    void release(long stream) {
        for (long word = 0; word < (long) WORDS * worldSize; word++) {
            CudaIpc.write(stream, own.address() + word * Integer.BYTES, Integer.MAX_VALUE);
        }
    }

    @Override
    public void close() {
        own.close();
    }
}
