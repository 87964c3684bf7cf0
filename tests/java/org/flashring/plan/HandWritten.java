package org.flashring.plan;

import java.util.ArrayList;
import java.util.List;
import org.flashring.AttentionShape;
import org.flashring.Layout;
import org.flashring.Positions;
import org.flashring.plan.HeadExchange.Share;
import org.flashring.plan.Schedule.Block;
import org.flashring.plan.Schedule.Exchange;
import org.flashring.plan.Schedule.Heads;
import org.flashring.plan.Schedule.Held;
import org.flashring.plan.Schedule.Message;
import org.flashring.plan.Schedule.Part;
import org.flashring.plan.Schedule.Piece;
import org.flashring.plan.Schedule.Room;
import org.flashring.plan.Schedule.Rows;
import org.flashring.plan.Schedule.Step;

/** Schedules written by hand, one of each strategy. */
final class HandWritten {
    static final int OWN = Schedule.OWN;

    private HandWritten() {}

    static Held held(Part part, int owner, long from, long to, Heads heads, int slot) {
        return new Held(new Piece(part, new Rows(owner, from, to), heads), slot);
    }

    static Exchange exchange(List<Message> sends, List<Message> receives) {
        return new Exchange(sends, receives);
    }

    static Message with(int peer, Held held) {
        return new Message(held, peer);
    }

    /** Rank {@code rank} of two in a ring, each with two rows of two heads. */
    static List<List<Step>> ringOfTwo(int rank) {
        int peer = 1 - rank;
        Heads all = new Heads(0, 2);
        List<Held> queries = List.of(held(Part.QUERIES, rank, 0, 2, all, OWN));
        Held ownKeys = held(Part.KEYS, rank, 0, 2, all, 0);
        Held peersKeys = held(Part.KEYS, peer, 0, 2, all, 1);
        Held ownGrads = held(Part.KEY_GRADS, rank, 0, 2, all, 2);
        Held peersGrads = held(Part.KEY_GRADS, peer, 0, 2, all, 3);
        Exchange keys = exchange(List.of(with(peer, ownKeys)), List.of(with(peer, peersKeys)));
        List<Held> own = List.of(held(Part.KEYS, rank, 0, 2, all, OWN));
        return List.of(
                List.of(
                        new Step(keys, new Block(rank, all, queries, own, List.of()), true, null),
                        new Step(null, new Block(peer, all, queries, List.of(peersKeys), List.of()), true, null)),
                List.of(
                        new Step(
                                keys,
                                new Block(rank, all, queries, own, List.of(ownGrads)),
                                true,
                                exchange(List.of(with(peer, ownGrads)), List.of(with(peer, peersGrads)))),
                        new Step(
                                null,
                                new Block(peer, all, queries, List.of(peersKeys), List.of(peersGrads)),
                                true,
                                exchange(List.of(with(peer, peersGrads)), List.of(with(peer, ownGrads))))));
    }

    /** Rank {@code rank} of two that gather one of two heads at a time, each with two rows. */
    static List<List<Step>> gatherOfTwo(int rank) {
        int peer = 1 - rank;
        List<Step> forward = new ArrayList<>();
        List<Step> backward = new ArrayList<>();
        for (int step = 0; step < 3; step++) {
            Heads next = new Heads(step, step + 1);
            Heads now = new Heads(step - 1, step);
            Exchange keys = step == 2
                    ? null
                    : exchange(
                            List.of(with(peer, held(Part.KEYS, rank, 0, 2, next, 0))),
                            List.of(with(peer, held(Part.KEYS, peer, 0, 2, next, 1))));
            Held own = held(Part.KEYS, rank, 0, 2, now, OWN);
            Held peers = held(Part.KEYS, peer, 0, 2, now, 1);
            List<Held> queries = List.of(held(Part.QUERIES, rank, 0, 2, now, OWN));
            List<Held> gathered = rank == 0 ? List.of(own, peers) : List.of(peers, own);
            Held ownGrads = held(Part.KEY_GRADS, rank, 0, 2, now, OWN);
            Held peersGrads = held(Part.KEY_GRADS, peer, 0, 2, now, 2);
            List<Held> grads = rank == 0 ? List.of(ownGrads, peersGrads) : List.of(peersGrads, ownGrads);
            forward.add(
                    new Step(keys, step == 0 ? null : new Block(0, now, queries, gathered, List.of()), step > 0, null));
            backward.add(
                    step == 0
                            ? forward.get(0)
                            : new Step(
                                    keys,
                                    new Block(0, now, queries, gathered, grads),
                                    true,
                                    exchange(
                                            List.of(with(peer, peersGrads)),
                                            List.of(with(peer, held(Part.KEY_GRADS, rank, 0, 2, now, 3))))));
        }
        return List.of(forward, backward);
    }

    /**
     * Rank {@code rank} of two that exchange heads: two rows each, two of four query heads and one of two key heads.
     */
    static Schedule ulyssesOfTwo(Problem problem, int rank) {
        AttentionShape half = new AttentionShape(1, 2, 1, 3, 3, problem.shape().dtype());
        Layout together = Layout.contiguous(4, 1);
        Problem part = new Problem(half, together, together, problem.mask(), problem.score());
        Heads one = new Heads(0, 1);
        List<Held> queries = List.of(held(Part.QUERIES, 0, 0, 4, one, OWN));
        List<Held> keys = List.of(held(Part.KEYS, 0, 0, 4, one, OWN));
        List<Held> grads = List.of(held(Part.KEY_GRADS, 0, 0, 4, one, OWN));
        return new Schedule(
                List.of(Positions.contiguous(0, 4)),
                List.of(new Step(null, new Block(0, one, queries, keys, List.of()), true, null)),
                List.of(new Step(null, new Block(0, one, queries, keys, grads), true, null)),
                List.of(),
                new Room(1, 4 * (3 + 3), 0, 0, false),
                new HeadExchange(
                        problem, part, 0, List.of(0, 1), rank, List.of(new Share(0, 2, 0, 1), new Share(2, 2, 1, 1))));
    }

    /**
     * Rank {@code rank} of some under a causal window that reaches {@code reach} rows into the shard before: its last
     * rows come, their gradients go back.
     */
    static List<List<Step>> halo(Problem problem, int rank, long reach) {
        int last = problem.worldSize() - 1;
        Heads all = new Heads(0, problem.shape().kvHeads());
        long rows = problem.keys().localLength(rank);
        List<Held> queries = List.of(held(Part.QUERIES, rank, 0, rows, all, OWN));
        List<Held> own = List.of(held(Part.KEYS, rank, 0, rows, all, OWN));
        List<Message> sends =
                rank == last ? List.of() : List.of(with(rank + 1, held(Part.KEYS, rank, rows - reach, rows, all, 0)));
        List<Message> receives = new ArrayList<>();
        List<Message> gradsSent = new ArrayList<>();
        Block halo = null;
        Block haloGrads = null;
        if (rank > 0) {
            long before = problem.keys().localLength(rank - 1);
            Held keys = held(Part.KEYS, rank - 1, before - reach, before, all, 2);
            Held grads = held(Part.KEY_GRADS, rank - 1, before - reach, before, all, 3);
            receives.add(with(rank - 1, keys));
            gradsSent.add(with(rank - 1, grads));
            halo = new Block(1, all, queries, List.of(keys), List.of());
            haloGrads = new Block(1, all, queries, List.of(keys), List.of(grads));
        }
        List<Message> gradsReceived = rank == last
                ? List.of()
                : List.of(with(rank + 1, held(Part.KEY_GRADS, rank, rows - reach, rows, all, 4)));
        List<Held> ownGrads = List.of(held(Part.KEY_GRADS, rank, 0, rows, all, OWN));
        return List.of(
                List.of(
                        new Step(exchange(sends, receives), new Block(0, all, queries, own, List.of()), true, null),
                        new Step(null, halo, rank > 0, null)),
                List.of(
                        new Step(exchange(sends, receives), new Block(0, all, queries, own, ownGrads), true, null),
                        new Step(null, haloGrads, rank > 0, exchange(gradsSent, gradsReceived))));
    }
}
