package org.flashring.plan;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.IntFunction;
import java.util.function.LongConsumer;
import java.util.function.Predicate;
import org.flashring.Positions;
import org.flashring.plan.Schedule.Block;
import org.flashring.plan.Schedule.Exchange;
import org.flashring.plan.Schedule.Heads;
import org.flashring.plan.Schedule.Held;
import org.flashring.plan.Schedule.Message;
import org.flashring.plan.Schedule.Part;
import org.flashring.plan.Schedule.Piece;
import org.flashring.plan.Schedule.Rows;
import org.flashring.plan.Schedule.Run;
import org.flashring.plan.Schedule.Slot;
import org.flashring.plan.Schedule.Step;
import org.flashring.plan.Schedule.Use;

/**
 * Runs the schedules of all ranks symbolically, step by step, and throws {@link AssertionError} where one reads what it
 * does not hold, overwrites what is in use, or sends what nobody expects. What is computed is a set of triples: one
 * query, one key, one head.
 */
final class ScheduleSimulation {
    /** A visible (query, key) pair of one key head, by global positions. */
    record Triple(long query, long key, long head) {}

    private record Content(Piece piece, Set<Triple> triples) {}

    /** What one rank has: pieces in its slots, and which of them belong to exchanges under way. */
    private static final class Rank {
        final Map<Integer, Content> slots = new HashMap<>();
        final List<Integer> sending = new ArrayList<>(); // a slot as often as it is sent
        final Map<Integer, Piece> receiving = new HashMap<>();
        final Set<Triple> computed = new HashSet<>();
        final Set<Triple> outputs = new HashSet<>(); // at home
        final Set<Triple> keyGrads = new HashSet<>();
        final Set<Triple> queryGrads = new HashSet<>();
        final Set<Integer> arrived = new HashSet<>(); // slots whose gradients came from a peer

        void requireFree(int slot, String what) {
            require(
                    !sending.contains(slot) && !receiving.containsKey(slot),
                    what + " into slot " + slot + ", which is in an exchange");
        }

        Content read(Held held) {
            require(!receiving.containsKey(held.slot()), held + " is read before it has come");
            Content content = slots.get(held.slot());
            require(
                    content != null && content.piece().equals(held.piece()),
                    held + " is read, but there is " + content);
            return content;
        }
    }

    private record Sent(Content content, int from, int to) {}

    private record Sending(int rank, Integer slot) {}

    /** Messages that all ranks have posted together. */
    private record Posted(List<Sending> sends, List<Arrival> arrivals) {}

    private record Arrival(int rank, Held held, Set<Triple> triples) {}

    private final Problem problem;
    private final List<Schedule> schedules;
    private final boolean differentiates;
    private final List<Rank> ranks = new ArrayList<>();
    private final Deque<Posted> posted = new ArrayDeque<>(); // and not awaited

    private ScheduleSimulation(Problem problem, List<Schedule> schedules, boolean differentiates) {
        this.problem = problem;
        this.schedules = schedules;
        this.differentiates = differentiates;
        schedules.forEach(schedule -> ranks.add(new Rank()));
    }

    /** Runs forward and backward of all ranks. */
    static void run(Problem problem, List<Schedule> schedules) {
        if (schedules.get(0).heads() != null) {
            HeadExchangeSimulation.run(problem, schedules);
            return;
        }
        new ScheduleSimulation(problem, schedules, false)
                .pass(schedules.stream().map(Schedule::forward).toList());
        new ScheduleSimulation(problem, schedules, true)
                .pass(schedules.stream().map(Schedule::backward).toList());
    }

    private void pass(List<List<Step>> steps) {
        int count = steps.get(0).size();
        for (int i = 0; i < count; i++) {
            for (int rank = 0; rank < ranks.size(); rank++) {
                require(steps.get(rank).size() == count, "rank " + rank + " has another number of steps");
                ready(rank, steps.get(rank).get(i));
            }
            int step = i;
            post(rank -> steps.get(rank).get(step).before());
            boolean ahead = post(rank -> steps.get(rank).get(step).ahead());
            for (int rank = 0; rank < ranks.size(); rank++) {
                compute(rank, steps.get(rank).get(i));
            }
            awaitAllBut(ahead ? 1 : 0);
            for (int rank = 0; rank < ranks.size(); rank++) {
                results(rank, steps.get(rank).get(i), last(steps.get(rank), i));
            }
            post(rank -> steps.get(rank).get(step).after());
        }
        awaitAllBut(0);
        for (int rank = 0; rank < ranks.size(); rank++) {
            requireComplete(rank);
        }
    }

    private static Predicate<Heads> last(List<Step> steps, int i) {
        return heads -> steps.subList(i + 1, steps.size()).stream()
                .noneMatch(step -> step.computes() && step.block().heads().equals(heads));
    }

    /** Keys in several places are copied together; own pieces that are sent are packed. */
    private void ready(int rank, Step step) {
        if (step.block() != null && step.block().keys().size() > 1) {
            step.block().keys().forEach(held -> requireHeld(rank, held));
        }
        pack(rank, step.before());
        pack(rank, step.ahead());
    }

    private void pack(int rank, Exchange exchange) {
        if (exchange != null) {
            exchange.sends().stream()
                    .map(Message::held)
                    .filter(held -> held.piece().rows().owner() == rank)
                    .filter(held -> !isIn(rank, held))
                    .forEach(held -> {
                        ranks.get(rank).requireFree(held.slot(), held.piece() + " is packed");
                        put(rank, held, Set.of());
                    });
        }
    }

    private boolean isIn(int rank, Held held) {
        Content content = ranks.get(rank).slots.get(held.slot());
        return content != null && content.piece().equals(held.piece());
    }

    private void requireHeld(int rank, Held held) {
        if (held.slot() == Schedule.OWN) {
            require(held.piece().rows().owner() == rank, held + " is not rank " + rank + "'s own");
        } else {
            ranks.get(rank).read(held);
        }
    }

    private void put(int rank, Held held, Set<Triple> triples) {
        Slot slot = schedules.get(rank).slots().get(held.slot());
        require(
                slot.part() == held.piece().part() && slot.use() != (differentiates ? Use.FORWARD : Use.BACKWARD),
                held + " does not belong into " + slot);
        long elements = problem.keyElements(
                held.piece().rows().count(), held.piece().heads().count());
        require(elements <= slot.elements(), held + " has " + elements + " elements, too many for " + slot);
        ranks.get(rank).slots.put(held.slot(), new Content(held.piece(), triples));
        ranks.get(rank).arrived.remove(held.slot());
    }

    /** Returns whether the ranks post anything. */
    private boolean post(IntFunction<Exchange> exchanges) {
        boolean any = exchanges.apply(0) != null;
        List<Sent> sent = new ArrayList<>();
        List<Sending> sends = new ArrayList<>();
        List<Arrival> arrivals = new ArrayList<>();
        for (int rank = 0; rank < ranks.size(); rank++) {
            Exchange exchange = exchanges.apply(rank);
            require(any == (exchange != null), "rank " + rank + " posts where others do not, or does not");
            Rank at = ranks.get(rank);
            for (Message message : any ? exchange.sends() : List.<Message>of()) {
                sent.add(new Sent(at.read(message.held()), rank, message.peer()));
                at.sending.add(message.held().slot());
                sends.add(new Sending(rank, message.held().slot()));
            }
            for (Message message : any ? exchange.receives() : List.<Message>of()) {
                int slot = message.held().slot();
                at.requireFree(slot, message.held().piece() + " is received");
                at.receiving.put(slot, message.held().piece());
            }
        }
        for (int rank = 0; rank < ranks.size(); rank++) {
            for (Message message : any ? exchanges.apply(rank).receives() : List.<Message>of()) {
                int to = rank;
                Sent match = sent.stream()
                        .filter(each -> each.to() == to && each.from() == message.peer())
                        .findFirst()
                        .orElseThrow(
                                () -> new AssertionError(message + " is awaited by rank " + to + ", but not sent"));
                require(
                        match.content().piece().equals(message.held().piece()),
                        message + " is awaited by rank " + rank + ", but sent is " + match);
                sent.remove(match);
                arrivals.add(new Arrival(rank, message.held(), match.content().triples()));
            }
        }
        require(sent.isEmpty(), sent + " are sent, but not received");
        if (any) {
            posted.add(new Posted(sends, arrivals));
        }
        return any;
    }

    /** Completes what was posted, but for the last {@code count}. */
    private void awaitAllBut(int count) {
        while (posted.size() > count) {
            complete(posted.remove());
        }
    }

    private void complete(Posted exchange) {
        exchange.sends().forEach(sending -> ranks.get(sending.rank()).sending.remove(sending.slot()));
        for (Arrival arrival : exchange.arrivals()) {
            Rank at = ranks.get(arrival.rank());
            Piece piece = arrival.held().piece();
            at.receiving.remove(arrival.held().slot());
            put(arrival.rank(), arrival.held(), arrival.triples());
            at.arrived.add(arrival.held().slot());
            if (piece.rows().owner() == arrival.rank()) {
                require(piece.part() == Part.KEY_GRADS, "rank " + arrival.rank() + " gets its own " + piece);
                add(at.keyGrads, arrival.triples());
            }
        }
    }

    private void compute(int rank, Step step) {
        Block block = step.block();
        if (block == null) {
            require(!step.computes(), "there is nothing to compute");
            return;
        }
        block.queries().forEach(held -> requireHeld(rank, held));
        if (block.keys().size() == 1) {
            requireHeld(rank, block.keys().get(0));
        }
        Set<Triple> triples = triples(block);
        require(step.computes() || triples.isEmpty(), "rank " + rank + " leaves out " + triples);
        if (step.computes()) {
            add(ranks.get(rank).computed, triples);
            requireInPlace(rank, block);
        }
    }

    /** Gradients that are computed in their place have it to themselves from the beginning. */
    private void requireInPlace(int rank, Block block) {
        if (schedules.get(rank).room().inPlace()) {
            require(block.results().size() <= 1, block + " has several results, but no place of its own");
            block.results().stream()
                    .map(Held::slot)
                    .filter(slot -> slot != Schedule.OWN)
                    .forEach(slot -> ranks.get(rank).requireFree(slot, block + " is computed"));
        }
    }

    /** Returns what is visible of a block. */
    private Set<Triple> triples(Block block) {
        Set<Triple> triples = new HashSet<>();
        for (Held queries : block.queries()) {
            for (Held keys : block.keys()) {
                require(
                        queries.piece().heads().equals(block.heads())
                                && keys.piece().heads().equals(block.heads()),
                        block + " mixes heads");
                forEach(
                        queries.piece().rows(),
                        problem.queries()::positions,
                        q -> forEach(keys.piece().rows(), problem.keys()::positions, k -> {
                            for (long head = block.heads().from();
                                    problem.mask().lo(q) <= k
                                            && k < problem.mask().hi(q)
                                            && head < block.heads().to();
                                    head++) {
                                triples.add(new Triple(q, k, head));
                            }
                        }));
            }
        }
        return triples;
    }

    private static void forEach(Rows rows, IntFunction<Positions> positions, LongConsumer each) {
        for (Run run : rows.runs()) {
            for (long row = run.from(); row < run.to(); row++) {
                each.accept(positions.apply(rows.owner()).position(row));
            }
        }
    }

    /** Takes the results of a block to their places; those of own queries stay where they are. */
    private void results(int rank, Step step, Predicate<Heads> last) {
        if (!step.computes()) {
            return;
        }
        Block block = step.block();
        Rank at = ranks.get(rank);
        Set<Triple> ofBlock = triples(block);
        for (Held held : block.results()) {
            Piece piece = held.piece();
            require(piece.part() == Part.KEY_GRADS, held + " is a result");
            Set<Triple> triples = of(ofBlock, piece);
            if (held.slot() == Schedule.OWN) {
                require(piece.rows().owner() == rank, held + " is not rank " + rank + "'s own");
                add(at.keyGrads, triples);
            } else {
                at.requireFree(held.slot(), piece + " is written");
                at.arrived.stream()
                        .filter(slot -> at.slots.get(slot).piece().equals(piece))
                        .findFirst()
                        .ifPresent(slot -> {
                            add(triples, at.slots.get(slot).triples());
                            at.arrived.remove(slot);
                        });
                put(rank, held, triples);
            }
        }
        for (Held queries : block.queries()) {
            if (queries.slot() == Schedule.OWN && last.test(block.heads())) {
                add(differentiates ? at.queryGrads : at.outputs, of(at.computed, queries.piece()));
            }
        }
    }

    private Set<Triple> of(Set<Triple> triples, Piece piece) {
        Set<Long> positions = new HashSet<>();
        boolean ofKeys = piece.part() == Part.KEYS || piece.part() == Part.KEY_GRADS;
        forEach(piece.rows(), ofKeys ? problem.keys()::positions : problem.queries()::positions, positions::add);
        Set<Triple> found = new HashSet<>();
        for (Triple triple : triples) {
            if (positions.contains(ofKeys ? triple.key() : triple.query())
                    && triple.head() >= piece.heads().from()
                    && triple.head() < piece.heads().to()) {
                found.add(triple);
            }
        }
        return found;
    }

    private static void add(Set<Triple> all, Set<Triple> more) {
        for (Triple triple : more) {
            require(all.add(triple), triple + " is counted twice");
        }
    }

    private void requireComplete(int rank) {
        Heads heads = new Heads(0, problem.shape().kvHeads());
        Set<Triple> everything = new HashSet<>();
        for (int owner = 0; owner < ranks.size(); owner++) {
            for (int other = 0; other < ranks.size(); other++) {
                Piece queries = new Piece(
                        Part.QUERIES, new Rows(owner, 0, problem.queries().localLength(owner)), heads);
                Piece keys =
                        new Piece(Part.KEYS, new Rows(other, 0, problem.keys().localLength(other)), heads);
                everything.addAll(triples(
                        new Block(0, heads, List.of(new Held(queries, 0)), List.of(new Held(keys, 0)), List.of())));
            }
        }
        Rank at = ranks.get(rank);
        Set<Triple> ofQueries = of(
                everything,
                new Piece(Part.QUERIES, new Rows(rank, 0, problem.queries().localLength(rank)), heads));
        Set<Triple> ofKeys = of(
                everything,
                new Piece(Part.KEYS, new Rows(rank, 0, problem.keys().localLength(rank)), heads));
        require(
                (differentiates ? at.queryGrads : at.outputs).equals(ofQueries),
                "rank " + rank + " does not get all of its queries' results");
        require(
                !differentiates || at.keyGrads.equals(ofKeys),
                "rank " + rank + " does not get all of its keys' gradients");
    }

    private static void require(boolean condition, String otherwise) {
        if (!condition) {
            throw new AssertionError(otherwise);
        }
    }
}
