package org.flashring.comm.nccl;

import org.bytedeco.cuda.nccl.ncclComm;
import org.flashring.comm.transport.Collective;
import org.flashring.internal.Nccl;

/** A collective: NCCL's own where all parts are equal, else a group of simpler operations. */
final class NcclCollective implements NcclCall {
    private final int rank;
    private final int worldSize;
    private Collective collective;

    NcclCollective(int rank, int worldSize) {
        this.rank = rank;
        this.worldSize = worldSize;
    }

    NcclCollective of(Collective newCollective) {
        collective = newCollective;
        return this;
    }

    @Override
    public void on(ncclComm comm, long stream) {
        Collective c = collective;
        switch (c.kind()) {
            case ALL_GATHER -> {
                if (c.even()) {
                    Nccl.allGather(c.send(), c.receive(), c.bytes(0), comm, stream);
                } else {
                    gatherParts(comm, stream);
                }
            }
            case ALL_TO_ALL -> toAll(c.send(), c.bytes(0), c.receive(), worldSize, comm, stream);
            case ALL_REDUCE -> Nccl.allReduce(c.send(), count(0), c.dtype().code(), comm, stream);
            case REDUCE_SCATTER -> {
                if (c.even()) {
                    Nccl.reduceScatter(
                            c.send(), c.receive(), count(0), c.dtype().code(), comm, stream);
                } else {
                    scatterParts(comm, stream);
                }
            }
        }
    }

    private long count(int part) {
        return collective.bytes(part) / collective.dtype().bytes();
    }

    /** Sends this rank's part to all, itself included, and receives theirs: pairs of ranks are connected already. */
    private void gatherParts(ncclComm comm, long stream) {
        long own = collective.bytes(rank);
        Nccl.groupStart();
        for (int peer = 0; peer < worldSize; peer++) {
            long target = collective.receive() + collective.offset(peer);
            boolean inPlace = peer == rank && collective.send() == target;
            if (own > 0 && !inPlace) {
                Nccl.send(collective.send(), own, peer, comm, stream);
            }
            if (collective.bytes(peer) > 0 && !inPlace) {
                Nccl.receive(target, collective.bytes(peer), peer, comm, stream);
            }
        }
        Nccl.groupEnd();
    }

    /** Sums each part at the rank that it belongs to. */
    private void scatterParts(ncclComm comm, long stream) {
        Nccl.groupStart();
        for (int owner = 0; owner < worldSize; owner++) {
            if (collective.bytes(owner) > 0) {
                Nccl.reduce(
                        collective.send() + collective.offset(owner),
                        collective.receive(),
                        count(owner),
                        collective.dtype().code(),
                        owner,
                        comm,
                        stream);
            }
        }
        Nccl.groupEnd();
    }

    /** Sends the r-th {@code bytes} at {@code send} to rank r and receives what it sends here. */
    static void toAll(long send, long bytes, long receive, int worldSize, ncclComm comm, long stream) {
        Nccl.groupStart();
        for (int peer = 0; peer < worldSize && bytes > 0; peer++) {
            Nccl.send(send + peer * bytes, bytes, peer, comm, stream);
            Nccl.receive(receive + peer * bytes, bytes, peer, comm, stream);
        }
        Nccl.groupEnd();
    }
}
