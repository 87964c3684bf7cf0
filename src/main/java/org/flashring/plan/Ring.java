package org.flashring.plan;

import java.util.List;
import java.util.function.IntFunction;
import java.util.stream.IntStream;
import org.flashring.Positions;
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
 */
public record Ring() implements Strategy {
    private static final int GRADS = 2; // the first slot of gradients

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
        return rank -> new OfRank(problem, rank, steps, sees[rank]).schedule(sources, largest);
    }

    @Override
    public String toString() {
        return "ring";
    }

    private record OfRank(Problem problem, int rank, int steps, boolean[] sees) {
        Schedule schedule(List<Positions> sources, long largest) {
            long heads = problem.shape().kvHeads();
            List<Slot> slots = steps == 1
                    ? List.of()
                    : List.of(
                            new Slot(Part.KEYS, largest),
                            new Slot(Part.KEYS, largest),
                            new Slot(Part.KEY_GRADS, largest),
                            new Slot(Part.KEY_GRADS, largest));
            long block = steps == 1 ? problem.keyElements(problem.keys().localLength(rank), heads) : largest;
            return new Schedule(
                    sources,
                    Schedule.steps(steps, this::forward),
                    Schedule.steps(steps, this::backward),
                    slots,
                    new Room(heads, block, 0, 0));
        }

        private Step forward(int step) {
            return new Step(keys(step), block(step, List.of()), computes(step), null);
        }

        private Step backward(int step) {
            Held grads = steps == 1 ? new Held(piece(Part.KEY_GRADS, rank), Schedule.OWN) : grads(source(step), step);
            return new Step(keys(step), block(step, List.of(grads)), computes(step), steps == 1 ? null : grads(step));
        }

        private Block block(int step, List<Held> grads) {
            Piece queries =
                    new Piece(Part.QUERIES, new Rows(rank, 0, problem.queries().localLength(rank)), heads());
            Held keys = new Held(piece(Part.KEYS, source(step)), step == 0 ? Schedule.OWN : step % 2);
            return new Block(source(step), heads(), List.of(new Held(queries, Schedule.OWN)), List.of(keys), grads);
        }

        /** Returns the exchange of the keys of {@code step} for those of the next one. */
        private Exchange keys(int step) {
            return step + 1 == steps
                    ? null
                    : exchange(
                            new Held(piece(Part.KEYS, source(step)), step % 2),
                            neighbour(1),
                            new Held(piece(Part.KEYS, source(step + 1)), (step + 1) % 2),
                            neighbour(-1));
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
            return new Held(piece(Part.KEY_GRADS, owner), GRADS + step % 2);
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
