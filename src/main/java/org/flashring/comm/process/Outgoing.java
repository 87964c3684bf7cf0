package org.flashring.comm.process;

import org.flashring.comm.Transfers;

/** What of the batches goes to one peer. */
final class Outgoing extends Traffic {
    Outgoing(Batches batches, int peer, Lane lane) {
        super(batches, peer, lane);
    }

    @Override
    int next(Transfers batch, int start) {
        return batch.nextTo(peer, start);
    }

    @Override
    int end(Transfers batch) {
        return batch.sends();
    }

    /** Returns whether something waits for room. */
    boolean isWaiting() {
        return skip() || !lane.isFlushed();
    }

    @Override
    boolean step() {
        if (!skip()) {
            return false;
        }
        if (message() < 0) {
            begin(upcoming());
            header.set(ticket(), batch().sendBytes(message()), ordinal(), count(), "");
        }
        boolean any = !header.isWhole() && header.put(lane);
        if (!header.isWhole()) {
            return any;
        }
        long left = batch().sendBytes(message()) - moved();
        long more = left == 0 ? 0 : lane.put(batch().sendAddress(message()) + moved(), left);
        return move(more, left) || any || more > 0;
    }
}
