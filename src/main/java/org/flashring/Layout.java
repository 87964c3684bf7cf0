package org.flashring;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.flashring.internal.Checks;
import org.flashring.internal.Terms;

/**
 * Which rank holds which token of a sequence: a pure function of lengths, world size and policy. Every length works:
 * primes, fewer tokens than ranks (some shards are then empty), documents of one token. Nothing is padded or rounded.
 *
 * <pre>
 *  16 tokens, 2 ranks     contiguous  0000000011111111
 *                         zigzag      0000111111110000     equal causal work on every rank
 *                         striped     0101010101010101     the same, token by token
 * </pre>
 *
 * Other layouts are given by the {@linkplain #of(List) positions} of each rank.
 */
public final class Layout {
    /** How tokens are dealt to ranks. */
    public enum Policy {
        /** Rank r holds the r-th of N equal pieces. */
        CONTIGUOUS,
        /**
         * Each document is cut into 2N pieces and rank r holds pieces r and 2N-1-r, turned on by one rank per document.
         */
        ZIGZAG,
        /** Rank r holds the positions p with p mod N = r (Brandon et al. 2023, striped attention). */
        STRIPED;

        /** Returns the policy's name in lower case, as the command line writes it. */
        @Override
        public String toString() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    private final Policy policy;
    private final long start;
    private final long length;
    private final List<Positions> shards;
    // offsets of the documents that were balanced one by one; null where that made no difference
    private final long[] documents;

    private Layout(Policy policy, long start, long length, List<Positions> shards, long[] documents) {
        this.policy = policy;
        this.start = start;
        this.length = length;
        this.shards = List.copyOf(shards);
        this.documents = documents;
    }

    /** Returns the contiguous layout of {@code length} tokens over {@code worldSize} ranks. */
    public static Layout contiguous(long length, int worldSize) {
        return of(Policy.CONTIGUOUS, length, worldSize);
    }

    /** Returns the zigzag (head-tail) layout of {@code length} tokens over {@code worldSize} ranks. */
    public static Layout zigzag(long length, int worldSize) {
        return of(Policy.ZIGZAG, length, worldSize);
    }

    /** Returns the striped layout of {@code length} tokens over {@code worldSize} ranks. */
    public static Layout striped(long length, int worldSize) {
        return of(Policy.STRIPED, length, worldSize);
    }

    /**
     * Returns the layout of one sequence of {@code length} tokens.
     *
     * @throws IllegalArgumentException unless length ≥ 0 and worldSize ≥ 1
     */
    public static Layout of(Policy policy, long length, int worldSize) {
        Checks.atLeast("length", length, 0);
        return of(policy, new long[] {0, length}, worldSize);
    }

    /**
     * Returns the layout of packed documents, document i being tokens [cuSeqlens[i], cuSeqlens[i + 1]). Zigzag balances
     * each document by itself; the other policies deal the packed sequence as a whole.
     *
     * @throws IllegalArgumentException unless cuSeqlens starts at 0 and never decreases, and worldSize ≥ 1
     */
    public static Layout of(Policy policy, long[] cuSeqlens, int worldSize) {
        Checks.notNull("policy", policy);
        Mask.checkCuSeqlens("cuSeqlens", cuSeqlens);
        Checks.atLeast("worldSize", worldSize, 1);
        long length = cuSeqlens[cuSeqlens.length - 1];
        List<Positions> shards = new ArrayList<>(worldSize);
        for (int rank = 0; rank < worldSize; rank++) {
            shards.add(
                    switch (policy) {
                        case CONTIGUOUS -> piece(0, length, rank, worldSize);
                        case ZIGZAG -> zigzag(cuSeqlens, rank, worldSize);
                        case STRIPED -> striped(length, rank, worldSize);
                    });
        }
        return new Layout(
                policy, 0, length, shards, policy == Policy.ZIGZAG && cuSeqlens.length > 2 ? cuSeqlens.clone() : null);
    }

    private static Positions piece(long start, long length, int index, int pieces) {
        long from = cut(length, index, pieces);
        return Positions.contiguous(start + from, cut(length, index + 1, pieces) - from);
    }

    /** Returns where piece {@code index} of {@code pieces} nearly equal ones starts; longer pieces come first. */
    private static long cut(long length, int index, int pieces) {
        return length / pieces * index + Math.min(index, length % pieces);
    }

    private static Positions zigzag(long[] cuSeqlens, int rank, int worldSize) {
        int pieces = Math.multiplyExact(2, worldSize);
        List<Positions.Range> ranges = new ArrayList<>();
        for (int document = 0; document + 1 < cuSeqlens.length; document++) {
            long start = cuSeqlens[document];
            long length = cuSeqlens[document + 1] - start;
            int turned = Math.floorMod(rank - document, worldSize); // short documents would else all fall to rank 0
            ranges.addAll(piece(start, length, turned, pieces).ranges());
            ranges.addAll(piece(start, length, pieces - 1 - turned, pieces).ranges());
        }
        return Positions.of(ranges);
    }

    private static Positions striped(long length, int rank, int worldSize) {
        if (rank >= length) {
            return Positions.contiguous(0, 0);
        }
        return Positions.of(List.of(new Positions.Range(rank, (length - rank - 1) / worldSize + 1, worldSize)));
    }

    /**
     * Returns the layout in which rank r holds {@code positions.get(r)}: that of another framework, say. The ranks
     * together hold each position from the first to the last once. O(ranges) memory; O(tokens) time where strides are
     * above 1.
     *
     * @throws IllegalArgumentException unless there is a rank, and every position between the first and the last is on
     *     one rank
     */
    public static Layout of(List<Positions> positions) {
        Checks.notNull("positions", positions);
        Checks.atLeast("positions.size", positions.size(), 1);
        for (int rank = 0; rank < positions.size(); rank++) {
            Checks.notNull("positions[" + rank + "]", positions.get(rank));
        }
        Positions whole = PositionSweep.together(positions);
        long start = whole.length() == 0 ? 0 : whole.position(0);
        return new Layout(null, start, whole.length(), positions, null);
    }

    /**
     * Returns this layout moved to begin at global position {@code position}: new tokens that follow a cache of keys,
     * say.
     *
     * @throws IllegalArgumentException if {@code position} is negative or a moved position overflows
     */
    public Layout startingAt(long position) {
        Checks.atLeast("position", position, 0);
        Checks.sum("end", position, length);
        return new Layout(
                policy,
                position,
                length,
                shards.stream().map(shard -> shard.movedBy(position - start)).toList(),
                documents);
    }

    /** Puts what says which rank holds which position into {@code terms}. */
    public void describe(String name, Map<String, String> terms) {
        terms.put(name, toString());
        if (documents != null) {
            terms.put(name + ": cuSeqlens", Terms.list(documents));
        }
        for (int rank = 0; policy == null && rank < worldSize(); rank++) {
            terms.put(
                    name + ": positions of rank " + rank,
                    Terms.list(shards.get(rank).table()));
        }
    }

    /** Returns the policy, or null where positions were given. */
    public Policy policy() {
        return policy;
    }

    /** Returns the global position of the first token; 0 unless moved. */
    public long start() {
        return start;
    }

    /** Returns the number of tokens over all ranks. */
    public long length() {
        return length;
    }

    /** Returns the number of ranks. */
    public int worldSize() {
        return shards.size();
    }

    /**
     * Returns the positions that {@code rank} holds.
     *
     * @throws IllegalArgumentException unless 0 ≤ rank &lt; worldSize()
     */
    public Positions positions(int rank) {
        Checks.between("rank", rank, 0, worldSize() - 1L);
        return shards.get(rank);
    }

    /** Returns the number of tokens that {@code rank} holds. */
    public long localLength(int rank) {
        return positions(rank).length();
    }

    /** Returns the largest number of tokens that any rank holds. */
    public long maxLocalLength() {
        return shards.stream().mapToLong(Positions::length).max().orElse(0);
    }

    /**
     * Returns the rank that holds global position {@code position}.
     *
     * @throws IllegalArgumentException unless start() ≤ position &lt; start() + length()
     */
    public int rankOf(long position) {
        Checks.between("position", position, start, start + length - 1);
        int rank = 0;
        while (!shards.get(rank).contains(position)) {
            rank++;
        }
        return rank;
    }

    /** Returns the local index of global position {@code position} on the rank that holds it. */
    public long localIndexOf(long position) {
        return shards.get(rankOf(position)).lowerBound(position);
    }

    /** Returns whether the ranks of the other layout hold the same positions. */
    @Override
    public boolean equals(Object other) {
        return other instanceof Layout that
                && start == that.start
                && length == that.length
                && shards.equals(that.shards);
    }

    @Override
    public int hashCode() {
        return shards.hashCode();
    }

    @Override
    public String toString() {
        return (policy == null ? "own positions of" : policy) + " " + length + " tokens "
                + (start == 0 ? "" : "from " + start + " on ") + "over " + worldSize()
                + (worldSize() == 1 ? " rank" : " ranks");
    }
}
