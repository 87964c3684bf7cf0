package org.flashring.plan;

import java.util.ArrayList;
import java.util.List;
import java.util.function.IntFunction;
import java.util.function.IntUnaryOperator;
import java.util.stream.IntStream;
import org.flashring.Positions;
import org.flashring.internal.Checks;
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

/**
 * Each rank gathers the keys and values of all, some heads at a time, and computes those heads in one go; in backward
 * it sends every rank its share of their gradients, which that one adds up (all-gather and reduce-scatter; Llama 3,
 * Grattafiori et al. 2024). The next heads come while the last are computed. Memory is O(length · heads), against a
 * ring's O(length / N): fewer heads need less, more heads make larger launches.
 *
 * @param heads key heads gathered at once; more than there are is all of them
 */
public record Gather(long heads) implements Strategy {
    /** @throws IllegalArgumentException unless heads ≥ 1 */
    public Gather {
        Checks.atLeast("heads", heads, 1);
    }

    /** Alone there is nobody to gather from: a rank does what it does in a ring of one. */
    @Override
    public IntFunction<Schedule> schedules(Problem problem) {
        if (problem.worldSize() == 1) {
            return new Ring().schedules(problem);
        }
        List<Positions> sources = List.of(
                Positions.contiguous(problem.keys().start(), problem.keys().length()));
        long atOnce = Math.min(heads, problem.shape().kvHeads());
        return rank -> new OfRank(problem, rank, atOnce).schedule(sources);
    }

    @Override
    public String toString() {
        return "gather of " + heads + (heads == 1 ? " head" : " heads");
    }

    /** Slots: own keys, keys of each other rank, gradients for each of them, gradients from each of them. */
    private record OfRank(Problem problem, int rank, long atOnce) {
        Schedule schedule(List<Positions> sources) {
            long shard = elements(rank);
            List<Slot> slots = new ArrayList<>(List.of(new Slot(Part.KEYS, shard)));
            others().forEach(peer -> slots.add(new Slot(Part.KEYS, elements(peer))));
            others().forEach(peer -> slots.add(new Slot(Part.KEY_GRADS, elements(peer))));
            others().forEach(peer -> slots.add(new Slot(Part.KEY_GRADS, shard)));
            long all = problem.keyElements(problem.keys().length(), atOnce);
            int steps = groups() + 1;
            return new Schedule(
                    sources,
                    Schedule.steps(steps, this::forward),
                    Schedule.steps(steps, this::backward),
                    List.copyOf(slots),
                    new Room(atOnce, all, all, shard, false));
        }

        private Step forward(int step) {
            return new Step(keys(step), step == 0 ? null : block(step - 1, List.of()), step > 0, null);
        }

        private Step backward(int step) {
            if (step == 0) {
                return forward(step);
            }
            Heads heads = heads(step - 1);
            List<Held> grads = held(Part.KEY_GRADS, heads, owner -> owner == rank ? Schedule.OWN : forPeer(owner));
            return new Step(
                    keys(step),
                    block(step - 1, grads),
                    true,
                    exchange(grads::get, peer -> new Held(piece(Part.KEY_GRADS, rank, heads), fromPeer(peer))));
        }

        /** Returns the exchange of the keys of group {@code group}, if there is one. */
        private Exchange keys(int group) {
            if (group == groups()) {
                return null;
            }
            Heads heads = heads(group);
            Held own = new Held(piece(Part.KEYS, rank, heads), 0);
            return exchange(peer -> own, peer -> new Held(piece(Part.KEYS, peer, heads), ofPeer(peer)));
        }

        /** Returns the exchange of one message each way with every other rank. */
        private Exchange exchange(IntFunction<Held> sent, IntFunction<Held> received) {
            return new Exchange(
                    others().mapToObj(peer -> new Message(sent.apply(peer), peer))
                            .toList(),
                    others().mapToObj(peer -> new Message(received.apply(peer), peer))
                            .toList());
        }

        private Block block(int group, List<Held> grads) {
            Heads heads = heads(group);
            Piece queries =
                    new Piece(Part.QUERIES, new Rows(rank, 0, problem.queries().localLength(rank)), heads);
            return new Block(
                    0,
                    heads,
                    List.of(new Held(queries, Schedule.OWN)),
                    held(Part.KEYS, heads, owner -> owner == rank ? Schedule.OWN : ofPeer(owner)),
                    grads);
        }

        private List<Held> held(Part part, Heads heads, IntUnaryOperator slot) {
            return IntStream.range(0, problem.worldSize())
                    .mapToObj(owner -> new Held(piece(part, owner, heads), slot.applyAsInt(owner)))
                    .toList();
        }

        private Piece piece(Part part, int owner, Heads heads) {
            return new Piece(part, new Rows(owner, 0, problem.keys().localLength(owner)), heads);
        }

        private long elements(int owner) {
            return problem.keyElements(problem.keys().localLength(owner), atOnce);
        }

        private int groups() {
            return Math.toIntExact((problem.shape().kvHeads() + atOnce - 1) / atOnce);
        }

        private Heads heads(int group) {
            return new Heads(group * atOnce, Math.min(problem.shape().kvHeads(), (group + 1) * atOnce));
        }

        /** Returns the other ranks, those behind this one first, so that not all send to the same one at once. */
        private IntStream others() {
            return IntStream.range(1, problem.worldSize())
                    .map(distance -> Math.floorMod(rank + distance, problem.worldSize()));
        }

        private int ofPeer(int peer) {
            return Math.floorMod(peer - rank, problem.worldSize());
        }

        private int forPeer(int peer) {
            return problem.worldSize() - 1 + ofPeer(peer);
        }

        private int fromPeer(int peer) {
            return 2 * (problem.worldSize() - 1) + ofPeer(peer);
        }
    }
}
