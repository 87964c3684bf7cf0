package org.flashring.plan;

import java.util.ArrayList;
import java.util.List;
import java.util.function.IntFunction;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.plan.Schedule.Block;
import org.flashring.plan.Schedule.Exchange;
import org.flashring.plan.Schedule.Heads;
import org.flashring.plan.Schedule.Held;
import org.flashring.plan.Schedule.Message;
import org.flashring.plan.Schedule.Part;
import org.flashring.plan.Schedule.Piece;
import org.flashring.plan.Schedule.Room;
import org.flashring.plan.Schedule.Rows;
import org.flashring.plan.Schedule.Slot;
import org.flashring.plan.Schedule.Step;

/** Schedules written by hand, of strategies that there are and of others that records must hold as well. */
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

    private static Schedule schedule(Problem problem, List<Step> forward, List<Step> backward, List<Part> slots) {
        long largest = problem.keyElements(
                problem.keys().maxLocalLength(), problem.shape().kvHeads());
        return new Schedule(
                IntStream.range(0, problem.worldSize())
                        .mapToObj(problem.keys()::positions)
                        .toList(),
                forward,
                backward,
                slots.stream().map(part -> new Slot(part, largest)).toList(),
                new Room(problem.shape().kvHeads(), largest, 0, 0));
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

    /** Ulysses: queries and keys of all rows come for a share of the heads; outputs and gradients go back. */
    static Schedule ulysses(Problem problem, int rank) {
        int world = problem.worldSize();
        long share = problem.shape().kvHeads() / world;
        Heads mine = share(share, rank);
        List<Part> slots = new ArrayList<>();
        Slots out = new Slots(world, slots);
        int[] others = IntStream.range(0, world).filter(peer -> peer != rank).toArray();
        Exchange spread = exchange(
                out.all(
                        others,
                        peer -> Stream.of(
                                out.held(problem, Part.QUERIES, rank, share(share, peer), true, peer),
                                out.held(problem, Part.KEYS, rank, share(share, peer), true, peer))),
                out.all(
                        others,
                        peer -> Stream.of(
                                out.held(problem, Part.QUERIES, peer, mine, false, peer),
                                out.held(problem, Part.KEYS, peer, mine, false, peer))));
        List<Held> queries = out.everybody(problem, Part.QUERIES, rank, mine);
        List<Held> keys = out.everybody(problem, Part.KEYS, rank, mine);
        List<Held> outputs = out.results(problem, Part.OUTPUT, others, mine);
        List<Held> grads = new ArrayList<>(out.results(problem, Part.QUERY_GRADS, others, mine));
        grads.addAll(out.results(problem, Part.KEY_GRADS, others, mine));
        Exchange outputsBack = out.back(problem, rank, others, share, outputs);
        Exchange gradsBack = out.back(problem, rank, others, share, List.copyOf(grads));
        grads.add(held(Part.KEY_GRADS, rank, 0, problem.keys().localLength(rank), mine, OWN));
        Step first = new Step(spread, null, false, null);
        return schedule(
                problem,
                List.of(first, new Step(null, new Block(0, mine, queries, keys, outputs), true, outputsBack)),
                List.of(first, new Step(null, new Block(0, mine, queries, keys, grads), true, gradsBack)),
                slots);
    }

    private static Heads share(long share, int of) {
        return new Heads(of * share, (of + 1) * share);
    }

    /** A slot for each part, direction and peer, numbered as they are first asked for. */
    private static final class Slots {
        private final int world;
        private final List<Part> parts;
        private final List<String> names = new ArrayList<>();

        Slots(int world, List<Part> parts) {
            this.world = world;
            this.parts = parts;
        }

        Held held(Problem problem, Part part, int owner, Heads heads, boolean out, int peer) {
            String name = part + " " + out + " " + peer;
            if (!names.contains(name)) {
                names.add(name);
                parts.add(part);
            }
            long rows = (part == Part.KEYS || part == Part.KEY_GRADS ? problem.keys() : problem.queries())
                    .localLength(owner);
            return HandWritten.held(part, owner, 0, rows, heads, names.indexOf(name));
        }

        List<Held> everybody(Problem problem, Part part, int rank, Heads heads) {
            return IntStream.range(0, world)
                    .mapToObj(owner -> {
                        Held held = held(problem, part, owner, heads, false, owner);
                        return owner == rank ? new Held(held.piece(), OWN) : held;
                    })
                    .toList();
        }

        List<Held> results(Problem problem, Part part, int[] peers, Heads heads) {
            return IntStream.of(peers)
                    .mapToObj(peer -> held(problem, part, peer, heads, true, peer))
                    .toList();
        }

        List<Message> all(int[] peers, IntFunction<Stream<Held>> held) {
            return IntStream.of(peers)
                    .boxed()
                    .flatMap(peer -> held.apply(peer).map(each -> with(peer, each)))
                    .toList();
        }

        /** Results go to their owners, and those of this rank's rows come from whoever has the heads. */
        Exchange back(Problem problem, int rank, int[] peers, long share, List<Held> results) {
            List<Message> receives = all(peers, peer -> results.stream()
                    .filter(held -> held.piece().rows().owner() == peer)
                    .map(held ->
                            held(problem, held.piece().part(), rank, HandWritten.share(share, peer), false, peer)));
            return exchange(
                    results.stream()
                            .map(held -> with(held.piece().rows().owner(), held))
                            .toList(),
                    receives);
        }
    }

    /**
     * Four ranks: two halves of the heads within pairs (0, 1) and (2, 3), a ring between 0 and 2 and between 1 and 3.
     */
    static Schedule twoByTwo(Problem problem, int rank) {
        int mate = rank ^ 1;
        int across = rank ^ 2;
        int acrossMate = mate ^ 2;
        long half = problem.shape().kvHeads() / 2;
        Heads mine = share(half, rank % 2);
        Heads mates = share(half, mate % 2);
        List<Part> slots = List.of(
                Part.QUERIES,
                Part.QUERIES,
                Part.KEYS,
                Part.KEYS,
                Part.KEYS,
                Part.KEYS,
                Part.KEYS,
                Part.OUTPUT,
                Part.OUTPUT,
                Part.QUERY_GRADS,
                Part.QUERY_GRADS,
                Part.KEY_GRADS,
                Part.KEY_GRADS,
                Part.KEY_GRADS,
                Part.KEY_GRADS,
                Part.KEY_GRADS);
        Whole whole = new Whole(problem);
        Held matesQueries = whole.held(Part.QUERIES, mate, mine, 1);
        Held matesKeys = whole.held(Part.KEYS, mate, mine, 3);
        Step pair = new Step(
                exchange(
                        List.of(
                                with(mate, whole.held(Part.QUERIES, rank, mates, 0)),
                                with(mate, whole.held(Part.KEYS, rank, mates, 2))),
                        List.of(with(mate, matesQueries), with(mate, matesKeys))),
                null,
                false,
                null);
        Held acrossKeys = whole.held(Part.KEYS, across, mine, 5);
        Held acrossMatesKeys = whole.held(Part.KEYS, acrossMate, mine, 6);
        Exchange around = exchange(
                List.of(with(across, whole.held(Part.KEYS, rank, mine, 4)), with(across, matesKeys)),
                List.of(with(across, acrossKeys), with(across, acrossMatesKeys)));
        List<Held> queries = List.of(whole.held(Part.QUERIES, rank, mine, OWN), matesQueries);
        List<Held> near = List.of(whole.held(Part.KEYS, rank, mine, OWN), matesKeys);
        List<Held> far = List.of(acrossKeys, acrossMatesKeys);
        Held output = whole.held(Part.OUTPUT, mate, mine, 7);
        List<Step> forward = List.of(
                pair,
                new Step(around, new Block(0, mine, queries, near, List.of()), true, null),
                new Step(
                        null,
                        new Block(0, mine, queries, far, List.of(output)),
                        true,
                        exchange(
                                List.of(with(mate, output)),
                                List.of(with(mate, whole.held(Part.OUTPUT, rank, mates, 8))))));
        Held ownGrads = whole.held(Part.KEY_GRADS, rank, mine, 11);
        Held matesGrads = whole.held(Part.KEY_GRADS, mate, mine, 12);
        Held acrossGrads = whole.held(Part.KEY_GRADS, across, mine, 13);
        Held acrossMatesGrads = whole.held(Part.KEY_GRADS, acrossMate, mine, 14);
        Held queryGrads = whole.held(Part.QUERY_GRADS, mate, mine, 9);
        List<Step> backward = List.of(
                pair,
                new Step(
                        around,
                        new Block(0, mine, queries, near, List.of(ownGrads, matesGrads)),
                        true,
                        exchange(
                                List.of(with(across, ownGrads), with(across, matesGrads)),
                                List.of(with(across, acrossGrads), with(across, acrossMatesGrads)))),
                new Step(
                        null,
                        new Block(0, mine, queries, far, List.of(acrossGrads, acrossMatesGrads, queryGrads)),
                        true,
                        exchange(
                                List.of(
                                        with(across, acrossGrads),
                                        with(across, acrossMatesGrads),
                                        with(mate, queryGrads)),
                                List.of(
                                        with(across, ownGrads),
                                        with(across, matesGrads),
                                        with(mate, whole.held(Part.QUERY_GRADS, rank, mates, 10))))),
                new Step(
                        null,
                        null,
                        false,
                        exchange(
                                List.of(with(mate, matesGrads)),
                                List.of(with(mate, whole.held(Part.KEY_GRADS, rank, mates, 15))))));
        return schedule(problem, forward, backward, slots);
    }

    /** Whole shards. */
    private record Whole(Problem problem) {
        Held held(Part part, int owner, Heads heads, int slot) {
            return HandWritten.held(part, owner, 0, problem.keys().localLength(owner), heads, slot);
        }
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
