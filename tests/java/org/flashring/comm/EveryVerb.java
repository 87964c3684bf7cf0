package org.flashring.comm;

import org.flashring.DType;

/** Every verb that moves data, once. */
public final class EveryVerb {
    private EveryVerb() {}

    /**
     * Calls them.
     *
     * @param memory 4096 bytes
     * @param batch to be filled anew
     * @param parts as many as ranks, 24 in all
     */
    public static void call(Communicator c, long memory, Transfers batch, long[] parts) {
        int world = c.worldSize();
        long target = memory + 2048;
        batch.clear();
        for (int peer = 0; peer < world; peer++) {
            batch.send(memory, 8, peer).send(memory + 8, 16, peer);
            batch.receive(target + 24L * peer, 8, peer).receive(target + 24L * peer + 8, 16, peer);
        }
        long ticket = c.post(batch);
        c.post(memory, 8, (c.rank() + 1) % world, target + 512, 8, (c.rank() + world - 1) % world);
        c.await(ticket);
        c.await();
        c.allGather(memory, 8, target);
        c.allGather(memory, parts, target);
        c.allToAll(memory, 8, target);
        c.allReduce(memory, 4, DType.FLOAT32);
        c.reduceScatter(memory, 4, DType.FLOAT32, target);
        c.reduceScatter(memory, parts, DType.BFLOAT16, target);
        c.barrier();
    }
}
