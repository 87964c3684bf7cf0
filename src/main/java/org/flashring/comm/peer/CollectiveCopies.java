package org.flashring.comm.peer;

import org.flashring.comm.transport.Collective;

/** What a rank copies and sums in the caller's stream, where all ranks' streams have met. */
final class CollectiveCopies {
    private final PeerQueue queue;
    private final int rank;
    private final int worldSize;
    private final long[] sources;
    private final long[] target = new long[1];

    CollectiveCopies(PeerQueue queue, int rank, int worldSize) {
        this.queue = queue;
        this.rank = rank;
        this.worldSize = worldSize;
        sources = new long[worldSize];
    }

    /** Does {@code collective}, {@code brought} being where what each rank brings lies here. */
    void run(Collective collective, long[] brought) {
        switch (collective.kind()) {
            case ALL_GATHER -> {
                for (int peer = 0; peer < worldSize; peer++) {
                    queue.copy(collective.receive() + collective.offset(peer), brought[peer], collective.bytes(peer));
                }
            }
            case ALL_TO_ALL -> {
                for (int peer = 0; peer < worldSize; peer++) {
                    queue.copy(
                            collective.receive() + collective.offset(peer),
                            brought[peer] + collective.offset(rank),
                            collective.bytes(peer));
                }
            }
            case ALL_REDUCE -> allReduce(collective, brought);
            case REDUCE_SCATTER -> {
                long bytes = collective.bytes(rank);
                sum(collective.offset(rank), collective.receive(), bytes, collective, brought);
            }
        }
    }

    /** Each rank sums its share of all ranks, and takes the others' sums from them. */
    private void allReduce(Collective collective, long[] brought) {
        int element = collective.dtype().bytes();
        long count = collective.bytes(0) / element;
        long own = first(count, rank) * element;
        sum(own, collective.send() + own, share(count, rank) * element, collective, brought);
        queue.meet(collective.operation());
        for (int i = 1; i < worldSize; i++) {
            int peer = (rank + i) % worldSize; // not all from one at a time
            long offset = first(count, peer) * element;
            queue.copy(collective.send() + offset, brought[peer] + offset, share(count, peer) * element);
        }
    }

    /** Returns the first of {@code count} elements that a rank sums. */
    private long first(long count, int of) {
        return Math.min(count, of * ((count + worldSize - 1) / worldSize));
    }

    private long share(long count, int of) {
        return first(count, of + 1) - first(count, of);
    }

    /** Sums {@code bytes} bytes that lie {@code offset} behind the beginning of what each rank brings. */
    private void sum(long offset, long to, long bytes, Collective collective, long[] brought) {
        for (int peer = 0; peer < worldSize; peer++) {
            sources[peer] = brought[peer] + offset;
        }
        target[0] = to;
        queue.sum(sources, target, bytes / collective.dtype().bytes(), collective.dtype());
    }
}
