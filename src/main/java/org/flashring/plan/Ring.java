package org.flashring.plan;

import java.util.Collections;
import java.util.List;
import java.util.function.IntFunction;
import java.util.stream.IntStream;
import java.util.stream.Stream;
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
 * Keys and values go round the ring of ranks (Liu et al. 2023, Ring Attention), in backward with their gradients behind
 * them. In step s, rank r holds the keys of rank (r - s) mod N. The ring ends after the last step in which any rank
 * sees anything; with a window that is early, and the gradients' way home is still one hop. Two slots for keys and two
 * for gradients, whatever N.
 *
 * <p>{@linkplain #ahead() A step ahead}, each rank sends its own keys to all others in turn, so that no exchange waits
 * for another one: that of step s + 2 is posted before step s is computed, and has the time of two steps. It moves the
 * same bytes and computes the same bits, in four slots for keys; gradients go as before. It pays where an exchange
 * takes as long as a step and is not hidden behind one.
 *
 * <p>With fewer {@code heads} at a time than there are, key heads go round in groups in backward, one group after the
 * other, and own keys are met first in the first group, last in the others. The gradients' way home is then hidden too,
 * which matters where rings are short, gradients of own keys stay at home, and exchanges need room for a group's heads
 * alone, three times for keys and four for gradients. It takes as many launches as there are groups for one. A rank's
 * dK and dV are its own plus the sum of the others' in the order of the ring, begun by the rank behind. Forward carries
 * all heads at once: it has nothing to bring home, and large launches are faster.
 *
 * @param ahead whether keys come a step ahead
 * @param heads key heads that go round at once in backward; all by default. With any other number, those that there are
 *     may be fewer
 */
public record Ring(boolean ahead, long heads) implements Strategy {
    /** Slots that keys of other ranks take in turn, a step ahead: one computed, one awaited, one under way. */
    private static final int TURNS = 3;

    private static final long ALL = Long.MAX_VALUE;

    /** @throws IllegalArgumentException unless heads ≥ 1, and all where keys come a step ahead */
    public Ring {
        Checks.atLeast("heads", heads, 1);
        if (ahead && heads != ALL) {
            throw Checks.broken("heads", heads, "be left out where keys come a step ahead");
        }
    }

    /** Makes the one whose keys go from rank to rank. */
    public Ring() {
        this(false);
    }

    /** Makes the one of all heads at once. */
    public Ring(boolean ahead) {
        this(ahead, ALL);
    }

    /** Makes the one whose keys go from rank to rank, in backward {@code heads} key heads at a time. */
    public Ring(long heads) {
        this(false, heads);
    }

    @Override
    public IntFunction<Schedule> schedules(Problem problem) {
        int world = problem.worldSize();
        boolean[][] sees = new boolean[world][world]; // [rank][step]
        int last = 0;
        for (int rank = 0; rank < world; rank++) {
            for (int step = 0; step < world; step++) {
                sees[rank][step] = problem.anyVisible(rank, Math.floorMod(rank - step, world));
                last = sees[rank][step] ? Math.max(last, step) : last;
            }
        }
        List<Positions> sources =
                IntStream.range(0, world).mapToObj(problem.keys()::positions).toList();
        int steps = last + 1;
        long largest = problem.keyElements(
                problem.keys().maxLocalLength(), problem.shape().kvHeads());
        IntFunction<Schedule> whole =
                rank -> new OfRank(problem, rank, steps, sees[rank], ahead).schedule(sources, largest);
        return heads == ALL || steps == 1
                ? whole
                : rank -> new HeadRing(whole.apply(rank), problem, rank, steps, sees, heads).schedule();
    }

    @Override
    public String toString() {
        String carried = heads == ALL ? "ring" : "ring of " + heads + (heads == 1 ? " head" : " heads");
        return carried + (ahead ? ", a step ahead" : "");
    }

    private record OfRank(Problem problem, int rank, int steps, boolean[] sees, boolean ahead) {
        Schedule schedule(List<Positions> sources, long largest) {
            long heads = problem.shape().kvHeads();
            List<Slot> slots = steps == 1
                    ? List.of()
                    : Stream.concat(
                                    Collections.nCopies(keySlots(), new Slot(Part.KEYS, largest)).stream(),
                                    Stream.of(new Slot(Part.KEY_GRADS, largest), new Slot(Part.KEY_GRADS, largest)))
                            .toList();
            long block = steps == 1 ? problem.keyElements(problem.keys().localLength(rank), heads) : largest;
            return new Schedule(
                    sources,
                    Schedule.steps(steps, this::forward),
                    Schedule.steps(steps, this::backward),
                    slots,
                    new Room(heads, block, 0, 0, false));
        }

        private Step forward(int step) {
            return new Step(keys(step), keysAhead(step), block(step, List.of()), computes(step), null);
        }

        private Step backward(int step) {
            Held grads = steps == 1 ? new Held(piece(Part.KEY_GRADS, rank), Schedule.OWN) : grads(source(step), step);
            return new Step(
                    keys(step),
                    keysAhead(step),
                    block(step, List.of(grads)),
                    computes(step),
                    steps == 1 ? null : grads(step));
        }

        private Block block(int step, List<Held> grads) {
            Piece queries =
                    new Piece(Part.QUERIES, new Rows(rank, 0, problem.queries().localLength(rank)), heads());
            Held keys = new Held(piece(Part.KEYS, source(step)), step == 0 ? Schedule.OWN : keySlot(step));
            return new Block(source(step), heads(), List.of(new Held(queries, Schedule.OWN)), List.of(keys), grads);
        }

        /** Returns the exchange that {@code step} posts and awaits: of the keys of the next one. */
        private Exchange keys(int step) {
            if (step + 1 == steps || (ahead && step > 0)) {
                return null;
            }
            return exchange(
                    new Held(piece(Part.KEYS, source(step)), keySlot(step)),
                    neighbour(1),
                    new Held(piece(Part.KEYS, source(step + 1)), keySlot(step + 1)),
                    neighbour(-1));
        }

        /** Returns the exchange that {@code step} posts and the next one awaits: own keys for those of two steps on. */
        private Exchange keysAhead(int step) {
            int of = step + 2;
            return !ahead || of >= steps
                    ? null
                    : exchange(
                            new Held(piece(Part.KEYS, rank), keySlot(0)),
                            neighbour(of),
                            new Held(piece(Part.KEYS, source(of)), keySlot(of)),
                            source(of));
        }

        private int keySlots() {
            return ahead ? 1 + Math.min(TURNS, steps - 1) : 2;
        }

        /** Returns the slot of the keys of {@code step}; own ones, which are sent, are in the first. */
        private int keySlot(int step) {
            if (!ahead) {
                return step % 2;
            }
            return step == 0 ? 0 : 1 + (step - 1) % TURNS;
        }

        /** Returns the exchange of the gradients of {@code step}: to the next rank, or home after the last step. */
        private Exchange grads(int step) {
            boolean home = step + 1 == steps;
            return exchange(
                    grads(source(step), step),
                    home ? source(step) : neighbour(1),
                    grads(home ? rank : source(step + 1), step + 1),
                    home ? neighbour(step) : neighbour(-1));
        }

        private static Exchange exchange(Held sent, int to, Held received, int from) {
            return new Exchange(List.of(new Message(sent, to)), List.of(new Message(received, from)));
        }

        private Held grads(int owner, int step) {
            return new Held(piece(Part.KEY_GRADS, owner), keySlots() + step % 2);
        }

        private Piece piece(Part part, int owner) {
            return new Piece(part, new Rows(owner, 0, problem.keys().localLength(owner)), heads());
        }

        private Heads heads() {
            return new Heads(0, problem.shape().kvHeads());
        }

        private boolean computes(int step) {
            return step == 0 || sees[step];
        }

        private int source(int step) {
            return neighbour(-step);
        }

        private int neighbour(int distance) {
            return Math.floorMod(rank + distance, problem.worldSize());
        }
    }
}
