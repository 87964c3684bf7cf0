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
 * Of each shard the keys that a rank sees, and no others, come straight to it from their owner; in backward their
 * gradients go straight back, and the owner adds them up in the order of the steps. Own keys come first, then those of
 * the rank before, of the one before that, and so on, each while the last are computed; distances at which nobody sees
 * anything are left out. So a window that is shorter than a contiguous shard takes two steps and moves its own length,
 * and any mask moves at most what a gather does, held like a ring's: a part at a time.
 */
public record Halo() implements Strategy {
    private static final int SENT = 0; // slots
    private static final int RECEIVED = 1; // and the one behind it, in turn
    private static final int GRADS_SENT = 3;
    private static final int GRADS_RECEIVED = 4;

    @Override
    public IntFunction<Schedule> schedules(Problem problem) {
        int world = problem.worldSize();
        SeenKeys seen = new SeenKeys(problem);
        boolean[] used = new boolean[world]; // by distance
        used[0] = true;
        long[] sent = new long[world]; // most rows of a message, by rank
        long[] received = new long[world];
        for (int rank = 0; rank < world; rank++) {
            for (int distance = 1; distance < world; distance++) {
                int owner = Math.floorMod(rank - distance, world);
                long rows = seen.count(rank, owner);
                used[distance] |= rows > 0;
                sent[owner] = Math.max(sent[owner], rows);
                received[rank] = Math.max(received[rank], rows);
            }
        }
        int[] distances =
                IntStream.range(0, world).filter(distance -> used[distance]).toArray();
        return rank -> new OfRank(problem, rank, seen, distances).schedule(sent[rank], received[rank]);
    }

    @Override
    public String toString() {
        return "halo";
    }

    /** In step s a rank meets keys of the rank that lies {@code distances[s]} before it. */
    private record OfRank(Problem problem, int rank, SeenKeys seen, int[] distances) {
        Schedule schedule(long sent, long received) {
            List<Positions> sources = Schedule.lazily(
                    steps(),
                    step -> step == 0
                            ? problem.keys().positions(rank)
                            : seen.positions(rank, neighbour(-distances[step])));
            long own = elements(problem.keys().localLength(rank));
            boolean alone = steps() == 1;
            return new Schedule(
                    sources,
                    Schedule.steps(steps(), this::forward),
                    Schedule.steps(steps(), this::backward),
                    alone ? List.of() : slots(elements(sent), elements(received)),
                    new Room(problem.shape().kvHeads(), alone ? own : elements(received), 0, alone ? 0 : own, false));
        }

        private List<Slot> slots(long sent, long received) {
            return List.of(
                    new Slot(Part.KEYS, sent),
                    new Slot(Part.KEYS, steps() > 2 ? received : 0),
                    new Slot(Part.KEYS, received),
                    new Slot(Part.KEY_GRADS, received),
                    new Slot(Part.KEY_GRADS, sent));
        }

        private Step forward(int step) {
            Block block = block(step, false);
            return new Step(keys(step + 1), block, block != null, null);
        }

        private Step backward(int step) {
            Block block = block(step, true);
            return new Step(keys(step + 1), block, block != null, step == 0 ? null : grads(step));
        }

        /** Returns what is computed in {@code step}: own keys, whatever is seen of them, or those that have come. */
        private Block block(int step, boolean differentiates) {
            Held keys;
            Held grads;
            if (step == 0) {
                Rows own = new Rows(rank, 0, problem.keys().localLength(rank));
                keys = held(Part.KEYS, own, Schedule.OWN);
                grads = held(Part.KEY_GRADS, own, Schedule.OWN);
            } else {
                Rows rows = seen.rows(rank, neighbour(-distances[step]));
                if (rows.count() == 0) {
                    return null;
                }
                keys = received(rows, step);
                grads = held(Part.KEY_GRADS, rows, GRADS_SENT);
            }
            Rows queries = new Rows(rank, 0, problem.queries().localLength(rank));
            return new Block(
                    step,
                    heads(),
                    List.of(held(Part.QUERIES, queries, Schedule.OWN)),
                    List.of(keys),
                    differentiates ? List.of(grads) : List.of());
        }

        /** Returns the exchange of the keys that {@code step} computes, if there is such a step. */
        private Exchange keys(int step) {
            if (step == steps()) {
                return null;
            }
            int from = neighbour(-distances[step]);
            int to = neighbour(distances[step]);
            return exchange(
                    held(Part.KEYS, seen.rows(to, rank), SENT), to, received(seen.rows(rank, from), step), from);
        }

        /** Returns the exchange of the gradients that {@code step} has computed, for those of own keys. */
        private Exchange grads(int step) {
            int home = neighbour(-distances[step]);
            int from = neighbour(distances[step]);
            return exchange(
                    held(Part.KEY_GRADS, seen.rows(rank, home), GRADS_SENT),
                    home,
                    held(Part.KEY_GRADS, seen.rows(from, rank), GRADS_RECEIVED),
                    from);
        }

        /** Returns the exchange of two messages; one without rows is none. */
        private static Exchange exchange(Held sent, int to, Held received, int from) {
            return new Exchange(message(sent, to), message(received, from));
        }

        private static List<Message> message(Held held, int peer) {
            return held.piece().rows().count() == 0 ? List.of() : List.of(new Message(held, peer));
        }

        private Held received(Rows rows, int step) {
            return held(Part.KEYS, rows, RECEIVED + step % 2);
        }

        private Held held(Part part, Rows rows, int slot) {
            return new Held(new Piece(part, rows, heads()), slot);
        }

        private Heads heads() {
            return new Heads(0, problem.shape().kvHeads());
        }

        private long elements(long rows) {
            return problem.keyElements(rows, problem.shape().kvHeads());
        }

        private int steps() {
            return distances.length;
        }

        private int neighbour(int distance) {
            return Math.floorMod(rank + distance, problem.worldSize());
        }
    }
}
