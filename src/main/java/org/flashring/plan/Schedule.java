package org.flashring.plan;

import java.util.AbstractList;
import java.util.List;
import java.util.RandomAccess;
import java.util.function.IntFunction;
import org.flashring.Positions;

/**
 * What one rank does, in order: what it sends and receives, which block of keys meets which queries, and which slot of
 * its memory holds what. Pure: it knows rows and heads, no addresses, no element types.
 *
 * <p>Ranks, rows and heads are those of {@link #problem}, but for the peers of messages. A step goes so. Own keys that
 * it sends are copied into their slot, unless they are there; keys of a block that lie in several places are copied
 * together in order of their positions. {@code before} is posted, {@code ahead} behind it, the block is computed, and
 * everything posted so far but {@code ahead} is awaited. Gradients that have come for this rank's own keys are added to
 * those, or are all there are of them where {@link Room#home} is 0. The block's gradients, if it was computed, go to
 * their places, what has come for the same keys, there or into another slot, added to them. They are computed in their
 * place if that is one slot in no exchange, and the types allow. {@code after} is posted. After the last step
 * everything is awaited once more. All ranks have as many steps in a pass, with an exchange in the same ones.
 *
 * @param sources positions of keys that blocks have, by {@link Block#source}
 * @param forward steps of a forward pass
 * @param backward steps of a backward pass
 * @param slots what the slots have room for
 * @param room what the steps need beside slots
 * @param heads how rows of several ranks are there before the first step and leave after the last; null where each rank
 *     keeps its own
 */
public record Schedule(
        List<Positions> sources,
        List<Step> forward,
        List<Step> backward,
        List<Slot> slots,
        Room room,
        HeadExchange heads) {
    /** Makes that of ranks which keep their rows. */
    public Schedule(List<Positions> sources, List<Step> forward, List<Step> backward, List<Slot> slots, Room room) {
        this(sources, forward, backward, slots, room, null);
    }

    /** The slot that stands for the caller's own tensors. */
    public static final int OWN = -1;

    /** What a piece is of. Keys come with their values. */
    public enum Part {
        QUERIES,
        KEYS,
        KEY_GRADS
    }

    /** Local rows [{@code from}, {@code to}) of a rank. */
    public record Run(long from, long to) {
        /** Returns the number of rows. */
        public long count() {
            return to - from;
        }
    }

    /** Rows of rank {@code owner}: runs that ascend, none of them empty, which lie one behind the other in a slot. */
    public record Rows(int owner, List<Run> runs) {
        /** Makes the rows [{@code from}, {@code to}). */
        public Rows(int owner, long from, long to) {
            this(owner, from == to ? List.of() : List.of(new Run(from, to)));
        }

        /** Returns the number of rows. */
        public long count() {
            long count = 0;
            for (Run run : runs) {
                count += run.count();
            }
            return count;
        }
    }

    /** Key heads [{@code from}, {@code to}), and the query heads that use them. */
    public record Heads(long from, long to) {
        /** Returns the number of key heads. */
        public long count() {
            return to - from;
        }
    }

    /** Some rows of some heads. */
    public record Piece(Part part, Rows rows, Heads heads) {}

    /** A piece in a slot, or {@link #OWN}. */
    public record Held(Piece piece, int slot) {}

    /** A piece that is sent to, or received from, rank {@code peer}. */
    public record Message(Held held, int peer) {}

    /** Messages posted together. */
    public record Exchange(List<Message> sends, List<Message> receives) {}

    /**
     * Queries that meet keys.
     *
     * @param source which of the schedule's {@link #sources} the keys are
     * @param heads heads computed
     * @param queries where the queries lie
     * @param keys where the keys lie
     * @param results where gradients of the keys go in backward
     */
    public record Block(int source, Heads heads, List<Held> queries, List<Held> keys, List<Held> results) {}

    /**
     * One step.
     *
     * @param before posted before the block is computed; null for nothing
     * @param ahead posted behind that, awaited with what the next step awaits; null for nothing
     * @param block null for none
     * @param computes whether there is a block of which the mask leaves something, or that has to be computed all the
     *     same
     * @param after posted after the block's gradients have gone to their places; null for nothing
     */
    public record Step(Exchange before, Exchange ahead, Block block, boolean computes, Exchange after) {
        /** Makes one that posts nothing ahead. */
        public Step(Exchange before, Block block, boolean computes, Exchange after) {
            this(before, null, block, computes, after);
        }
    }

    /** Which passes use something. */
    public enum Use {
        FORWARD,
        BACKWARD,
        BOTH
    }

    /**
     * Memory that a piece of {@code part} with up to {@code elements} elements fits in, in the passes of {@code use}.
     */
    public record Slot(Part part, long elements, Use use) {
        /** Makes one of keys for both passes, or of their gradients. */
        public Slot(Part part, long elements) {
            this(part, elements, part == Part.KEY_GRADS ? Use.BACKWARD : Use.BOTH);
        }
    }

    /**
     * Sizes of what steps need beside slots.
     *
     * @param forwardHeads most key heads of a block in forward
     * @param backwardHeads most key heads of a block in backward
     * @param block most elements of keys and values of a block
     * @param ordered elements of keys and values of a block that lie in several places and are copied together; 0 if
     *     none are
     * @param home elements of own keys and values whose gradients come from several ranks; 0 if they come from one
     * @param inPlace whether every block's gradients are computed where they go, if they need not be rounded for it
     */
    public record Room(long forwardHeads, long backwardHeads, long block, long ordered, long home, boolean inPlace) {
        /** Makes that of steps with as many heads in both passes. */
        public Room(long heads, long block, long ordered, long home, boolean inPlace) {
            this(heads, heads, block, ordered, home, inPlace);
        }
    }

    /** Returns what the steps solve where the ranks solve {@code whole}. */
    public Problem problem(Problem whole) {
        return heads == null ? whole : heads.part();
    }

    /** Returns which of the ranks of {@link #problem} rank {@code rank} is. */
    public int rank(int rank) {
        return heads == null ? rank : heads.group();
    }

    /** Returns {@code count} steps, each made when it is looked at. */
    static List<Step> steps(int count, IntFunction<Step> step) {
        return lazily(count, step);
    }

    /** Returns {@code count} elements, each made when it is looked at. */
    static <T> List<T> lazily(int count, IntFunction<T> element) {
        return new Lazy<>(count, element);
    }

    /** Returns whether the block of step {@code i} carries on what an earlier one began: its heads are theirs. */
    public static boolean resumes(List<Step> steps, int i) {
        int before = i - 1;
        while (before >= 0 && !steps.get(before).computes()) {
            before--;
        }
        return before >= 0
                && steps.get(before).block().heads().equals(steps.get(i).block().heads());
    }

    /** Returns whether no later block carries on what that of step {@code i} leaves. */
    public static boolean finishes(List<Step> steps, int i) {
        int after = i + 1;
        while (after < steps.size() && !steps.get(after).computes()) {
            after++;
        }
        return after == steps.size()
                || !steps.get(after).block().heads().equals(steps.get(i).block().heads());
    }

    /**
     * Returns whether queries meet their keys in several blocks, so that what they have gathered is kept between steps.
     */
    public boolean resumes() {
        for (int i = forward.size() - 1; i > 0; i--) {
            if (forward.get(i).computes() && resumes(forward, i)) {
                return true;
            }
        }
        return false;
    }

    private static final class Lazy<T> extends AbstractList<T> implements RandomAccess {
        private final int count;
        private final IntFunction<T> element;

        Lazy(int count, IntFunction<T> element) {
            this.count = count;
            this.element = element;
        }

        @Override
        public T get(int i) {
            if (i < 0 || i >= count) {
                throw new IndexOutOfBoundsException("element " + i + " of " + count);
            }
            return element.apply(i);
        }

        @Override
        public int size() {
            return count;
        }
    }
}
