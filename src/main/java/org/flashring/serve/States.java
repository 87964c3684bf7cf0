package org.flashring.serve;

import org.flashring.Tensor;
import org.flashring.comm.Communicator;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Made;
import org.flashring.kernel.StateMerge;

/**
 * What each rank finds over its own keys, gathered on all of them and merged in the order of ranks: every rank gets the
 * same bits.
 */
final class States implements AutoCloseable {
    private final Communicator ranks;
    private final StateMerge merge;
    private final OwnedMemory memory; // the states of all ranks, in their order

    States(CachePlan plan, Communicator ranks) {
        this.ranks = ranks;
        try (Made made = new Made()) {
            this.merge = made.add(new StateMerge(plan.shape(), ranks.worldSize(), ranks.device()));
            this.memory = made.add(
                    OwnedMemory.allocate(ranks.device(), ranks.worldSize() * plan.stateBytes(plan.tokensAtOnce())));
            made.keep();
        }
    }

    /** Returns the address of this rank's outputs of {@code tokens} tokens a row. */
    long outputs(long tokens) {
        return memory.address() + ranks.rank() * merge.stateBytes(tokens);
    }

    /** Returns the address of this rank's lse. */
    long sums(long tokens) {
        return outputs(tokens) + merge.outputBytes(tokens);
    }

    /** Has all that follows work in the order of a stream. */
    void stream(long stream) {
        ranks.stream(stream);
        merge.stream(stream);
    }

    /** Sets tokens of outputs, and of lse unless it is null, from {@code first} on. Collective. */
    void merge(int layer, long tokens, Tensor out, Tensor lse, long first) {
        ranks.at("states of layer", layer);
        try {
            ranks.allGather(outputs(tokens), merge.stateBytes(tokens), memory.address());
        } finally {
            ranks.at(null, 0);
        }
        merge.run(memory.address(), tokens, out, lse, first);
    }

    /** Ends the group: this rank will not come to what others wait for. */
    void abort(Throwable cause) {
        ranks.abort(cause);
    }

    @Override
    public void close() {
        merge.close();
        memory.close();
    }
}
