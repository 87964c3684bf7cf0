package org.flashring.plan;

import java.util.Collections;
import java.util.List;
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
import org.flashring.plan.Schedule.Use;

/**
 * What one rank does in backward of a {@link Ring} that carries some key heads at a time: the heads go round in groups,
 * one after the other. In a group, keys come from distance 1, 2, … before this rank, so that a step is a group and a
 * distance. Forward, where nothing has to come home, is that of the ring of all heads.
 *
 * <p>Own keys, distance 0, are met first in the first group and last in the others. So the first exchange is hidden
 * behind own keys of the first group, each group's way home behind what the next one or own keys of the last one take,
 * and nothing waits at the ends. Gradients of own keys stay at home; those that the others make of them begin with the
 * rank behind, are added to in the order of distances, and come home to be added to the own ones.
 */
final class HeadRing {
    /** Slots of each kind, of which a step uses one, the exchange beside it the two others. */
    private static final int TURNS = 3;

    private final Schedule whole; // of the ring of all heads
    private final List<Slot> forwardSlots;
    private final Problem problem;
    private final int rank;
    private final int distances;
    private final boolean[][] sees; // [rank][distance]
    private final long atOnce;
    private final int groups;
    private final int[] leftOut; // how many of the distances from 1 to this one are not computed

    HeadRing(Schedule whole, Problem problem, int rank, int distances, boolean[][] sees, long heads) {
        this.whole = whole;
        this.forwardSlots = whole.slots().stream()
                .filter(slot -> slot.part() == Part.KEYS)
                .map(slot -> new Slot(Part.KEYS, slot.elements(), Use.FORWARD))
                .toList();
        this.problem = problem;
        this.rank = rank;
        this.distances = distances;
        this.sees = sees;
        this.atOnce = Math.min(heads, problem.shape().kvHeads());
        this.groups = Math.toIntExact((problem.shape().kvHeads() + atOnce - 1) / atOnce);
        this.leftOut = new int[distances];
        for (int distance = 1; distance < distances; distance++) {
            leftOut[distance] = leftOut[distance - 1] + (sees[rank][distance] ? 0 : 1);
        }
    }

    Schedule schedule() {
        long largest = problem.keyElements(problem.keys().maxLocalLength(), atOnce);
        List<Slot> keys = Collections.nCopies(keySlots(), new Slot(Part.KEYS, largest, Use.BACKWARD));
        List<Slot> grads = Collections.nCopies(TURNS, new Slot(Part.KEY_GRADS, largest));
        return new Schedule(
                whole.sources(),
                whole.forward(),
                Schedule.steps(groups * distances, this::step),
                Stream.of(forwardSlots, keys, grads).flatMap(List::stream).toList(),
                new Room(
                        whole.room().forwardHeads(),
                        atOnce,
                        largest,
                        0,
                        problem.keyElements(problem.keys().localLength(rank), atOnce),
                        true));
    }

    private Step step(int step) {
        int group = group(step);
        int distance = distance(step);
        return new Step(
                keys(step + 1),
                block(group, distance),
                distance == 0 || sees[rank][distance],
                distance == 0 ? null : grads(group, distance));
    }

    private int group(int step) {
        return step / distances;
    }

    private int distance(int step) {
        int number = step % distances;
        return step < distances ? number : (number + 1) % distances;
    }

    private Block block(int group, int distance) {
        int source = neighbour(-distance);
        Piece queries =
                new Piece(Part.QUERIES, new Rows(rank, 0, problem.queries().localLength(rank)), heads(group));
        Held keys = new Held(piece(Part.KEYS, source, group), distance == 0 ? Schedule.OWN : keySlot(group, distance));
        Held grads = new Held(
                piece(Part.KEY_GRADS, source, group), distance == 0 ? Schedule.OWN : gradSlot(group, distance, 0));
        return new Block(source, heads(group), List.of(new Held(queries, Schedule.OWN)), List.of(keys), List.of(grads));
    }

    /** Returns the exchange of the keys that {@code step} meets, if it needs one. */
    private Exchange keys(int step) {
        if (step == groups * distances || distance(step) == 0) {
            return null;
        }
        int group = group(step);
        int distance = distance(step);
        Held sent = new Held(piece(Part.KEYS, neighbour(1 - distance), group), keySlot(group, distance - 1));
        Held received = new Held(piece(Part.KEYS, neighbour(-distance), group), keySlot(group, distance));
        return new Exchange(List.of(new Message(sent, neighbour(1))), List.of(new Message(received, neighbour(-1))));
    }

    /**
     * Returns the exchange of the gradients that are made at {@code distance}: to the next rank, or home from the last
     * one. Those that nobody has made yet are not sent.
     */
    private Exchange grads(int group, int distance) {
        boolean home = distance + 1 == distances;
        int source = neighbour(-distance);
        int owner = home ? rank : neighbour(-distance - 1); // of those that come
        Held sent = new Held(piece(Part.KEY_GRADS, source, group), gradSlot(group, distance, 0));
        Held received = new Held(piece(Part.KEY_GRADS, owner, group), gradSlot(group, distance, 2));
        return new Exchange(
                made(source, distance) ? List.of(new Message(sent, home ? source : neighbour(1))) : List.of(),
                made(owner, distance) ? List.of(new Message(received, neighbour(home ? distance : -1))) : List.of());
    }

    /** Returns whether any rank up to {@code distance} behind {@code owner} sees keys of it. */
    private boolean made(int owner, int distance) {
        for (int behind = 1; behind <= distance; behind++) {
            if (sees[Math.floorMod(owner + behind, problem.worldSize())][behind]) {
                return true;
            }
        }
        return false;
    }

    /** One group alone never holds own keys and others' beside those that come. */
    private int keySlots() {
        return groups == 1 ? 2 : TURNS;
    }

    /** Returns the slot of keys in the order in which they are sent and met; own ones, distance 0, are only sent. */
    private int keySlot(int group, int distance) {
        return (int) (((long) group * distances + distance) % keySlots()) + forwardSlots.size();
    }

    /**
     * Returns the slot whose gradients are sent after {@code distance}, or one of the others, {@code further}. The next
     * one further takes what is computed next, the one after that what comes meanwhile; where nothing is computed that
     * goes on from there.
     */
    private int gradSlot(int group, int distance, int further) {
        long sentBefore = (long) group * (distances - 1) + distance - 1;
        long passedOn = (long) group * leftOut[distances - 1] + leftOut[distance];
        return (int) ((sentBefore + passedOn + further) % TURNS) + forwardSlots.size() + keySlots();
    }

    private Piece piece(Part part, int owner, int group) {
        return new Piece(part, new Rows(owner, 0, problem.keys().localLength(owner)), heads(group));
    }

    private Heads heads(int group) {
        return new Heads(group * atOnce, Math.min(problem.shape().kvHeads(), (group + 1) * atOnce));
    }

    private int neighbour(int distance) {
        return Math.floorMod(rank + distance, problem.worldSize());
    }
}
