package org.flashring.comm;

import java.util.Arrays;
import java.util.Map;
import java.util.stream.IntStream;
import org.flashring.internal.Checks;

/**
 * A world cut into groups of given sizes, of ranks that follow one another: a long document gets a wide group and short
 * ones narrow ones, for one batch, and the next batch is cut another way. {@link Divisions} keeps their communicators.
 *
 * <pre>
 *   sizes   4, 2, 1, 1
 *   rank    0 1 2 3 | 4 5 | 6 | 7
 * </pre>
 */
public final class Division {
    private final int[] firsts; // rank of each group's first; the last is the number of ranks

    private Division(int[] firsts) {
        this.firsts = firsts;
    }

    /**
     * Returns the division into groups of these sizes.
     *
     * @throws IllegalArgumentException if there is none, one is below 1, or their sum is no int
     */
    public static Division of(int... sizes) {
        Checks.atLeast("sizes.length", Checks.notNull("sizes", sizes).length, 1);
        int[] firsts = new int[sizes.length + 1];
        for (int i = 0; i < sizes.length; i++) {
            long end = firsts[i] + Checks.atLeast("sizes[" + i + "]", sizes[i], 1);
            firsts[i + 1] = (int) Checks.between("sum of sizes", end, 1, Integer.MAX_VALUE);
        }
        return new Division(firsts);
    }

    /** Returns the number of ranks. */
    public int worldSize() {
        return firsts[groups()];
    }

    /** Returns the number of groups. */
    public int groups() {
        return firsts.length - 1;
    }

    /** Returns the number of ranks in a group. */
    public int size(int group) {
        Checks.between("group", group, 0, groups() - 1L);
        return firsts[group + 1] - firsts[group];
    }

    /** Returns the ranks of a group, ascending. */
    public int[] members(int group) {
        int size = size(group);
        return IntStream.range(firsts[group], firsts[group] + size).toArray();
    }

    /** Returns the group that {@code rank} is in. */
    public int groupOf(int rank) {
        Checks.between("rank", rank, 0, worldSize() - 1L);
        int found = Arrays.binarySearch(firsts, rank);
        return found >= 0 ? found : -found - 2;
    }

    /**
     * Returns this rank's communicator in its group. Collective over {@code world}; on ranks that give other sizes it
     * is one {@link CommunicationException} that says which. Failures of the group begin with the ranks in it. The
     * caller closes it.
     *
     * @throws IllegalArgumentException unless {@code world} has as many ranks as the sizes make
     */
    public Communicator split(Communicator world) {
        Checks.notNull("world", world);
        Checks.equal("world.worldSize", world.worldSize(), worldSize(), "the sum of the sizes " + this);
        world.agree(Map.of("sizes of groups", toString()));
        int group = groupOf(world.rank());
        return world.split("group of " + Mesh.ranks(members(group)), group, world.rank());
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Division that && Arrays.equals(firsts, that.firsts);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(firsts);
    }

    /** Returns the sizes. */
    @Override
    public String toString() {
        return Arrays.toString(IntStream.range(0, groups()).map(this::size).toArray());
    }
}
