package org.flashring.comm.process;

import org.flashring.comm.Transfers;

/**
 * What of the batches comes from one peer. Headers are taken as they come, so that a message that nobody expects, or a
 * goodbye, is seen at once; what follows them when the batch that expects it has been posted.
 */
final class Incoming extends Traffic {
    private boolean left;

    Incoming(Batches batches, int peer, Lane lane) {
        super(batches, peer, lane);
        header.clear();
    }

    @Override
    int next(Transfers batch, int start) {
        return batch.nextFrom(peer, start);
    }

    @Override
    int end(Transfers batch) {
        return batch.receives();
    }

    /** Returns whether the peer has said goodbye. */
    boolean hasLeft() {
        return left;
    }

    @Override
    boolean step() {
        if (left) {
            return false;
        }
        boolean any = !header.isWhole() && header.take(lane);
        if (!header.isWhole()) {
            return any;
        }
        if (header.isGoodbye()) {
            left = true;
            return true;
        }
        if (message() < 0 && !begin()) {
            return any;
        }
        long wanted = batch().receiveBytes(message()) - moved();
        long more = wanted == 0 ? 0 : lane.take(batch().receiveAddress(message()) + moved(), wanted);
        boolean whole = move(more, wanted);
        if (whole) {
            header.clear();
        }
        return whole || any || more > 0;
    }

    /** Returns whether the message that has come is one that is expected by now. */
    private boolean begin() {
        if (!skip()) {
            if (header.tag() < ticket()) {
                batches.problem("expected no more messages from rank " + peer + ", which sends " + header.count());
            }
            return false;
        }
        String difference = difference();
        if (difference != null) {
            batches.problem(difference);
            return false;
        }
        begin(upcoming());
        return true;
    }

    /** Returns how what has come differs from what is expected, as what this rank did; null if it does not. */
    private String difference() {
        boolean same = header.tag() == ticket();
        long expected = batch().receiveBytes(upcoming());
        if (same && header.ordinal() == ordinal() && header.size() != expected) {
            return "expected " + expected + " bytes from rank " + peer + ", which sends " + header.size();
        }
        int count = count();
        return same && header.count() == count
                ? null
                : "expected " + (header.tag() < ticket() ? 0 : count) + " messages from rank " + peer + ", which sends "
                        + (header.tag() > ticket() ? 0 : header.count());
    }
}
