package org.flashring.comm;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.StringJoiner;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.flashring.internal.Checks;

/**
 * How the ranks of a world form a grid: data x context x tensor x pipeline parallelism, or any other named axes. Pure
 * arithmetic, the same on every rank, but for {@link #split}, which makes a rank's communicator in one of its groups.
 *
 * <pre>{@code
 * Mesh mesh = Mesh.of("dp=2,cp=2x2");                      // cp in two levels: 2 hosts, say, of 2 GPUs
 * Communicator cp = mesh.split(world, "cp");               // shares each sequence
 * Communicator gradients = mesh.split(world, "dp x cp");   // shares the parameters
 *
 *   rank    0  1  2  3  4  5  6  7
 *   dp      0  0  0  0  1  1  1  1       the first axis changes slowest
 *   cp      0  1  2  3  0  1  2  3
 *   outer   0  0  1  1  0  0  1  1
 *   inner   0  1  0  1  0  1  0  1
 * }</pre>
 *
 * <p>A group is named by an axis, by a level of the axis that has two, or by several joined by {@code " x "}: all ranks
 * whose other coordinates are the same, in the order of their ranks.
 */
public final class Mesh {
    /** Axes that every mesh has, of one rank where they are not given. */
    private static final List<String> STANDARD = List.of("pp", "dp", "cp", "tp");

    private static final List<String> LEVELS = List.of("outer", "inner");
    private static final Pattern AXIS = Pattern.compile("([a-z][a-z0-9_]*)=([0-9]{1,9})(?:x([0-9]{1,9}))?");
    private static final int MOST_NAMED = 8; // ranks of a group in messages

    /** An axis, its levels if it has two, the slower one first. */
    private record Axis(String name, List<Integer> levels) {
        int size() {
            return levels.stream().reduce(1, Math::multiplyExact);
        }

        @Override
        public String toString() {
            return name + "="
                    + String.join("x", levels.stream().map(String::valueOf).toList());
        }
    }

    /** What coordinates are of: an axis or one of its two levels. */
    private record Digit(String axis, String level, int size) {}

    /**
     * A nearly equal part of some things.
     *
     * @param first number of the first one
     * @param count how many; 0 where there are fewer things than parts
     */
    public record Part(long first, long count) {}

    private final List<Axis> axes; // the slowest first
    private final List<Digit> digits = new ArrayList<>(); // the slowest first
    private final int worldSize;

    private Mesh(List<Axis> axes) {
        this.axes = List.copyOf(axes);
        long ranks = 1;
        Set<String> names = new LinkedHashSet<>();
        for (Axis axis : allAxes()) {
            boolean twoLevels = axis.levels().size() > 1;
            for (int i = 0; i < axis.levels().size(); i++) {
                digits.add(new Digit(
                        axis.name(),
                        twoLevels ? LEVELS.get(i) : axis.name(),
                        axis.levels().get(i)));
                ranks = Checks.between(
                        "ranks of the mesh", ranks * axis.levels().get(i), 1, Integer.MAX_VALUE);
            }
            requireNew(names, axis.name());
            if (twoLevels) {
                LEVELS.forEach(level -> requireNew(names, level));
            }
        }
        worldSize = (int) ranks;
    }

    private void requireNew(Set<String> names, String name) {
        if (!names.add(name)) {
            throw Checks.broken("axes", this, "give each name once, " + name + " too");
        }
    }

    /** Returns the axes with those of one rank that every mesh has. */
    private List<Axis> allAxes() {
        List<Axis> all = new ArrayList<>();
        for (String name : STANDARD) {
            if (axes.stream().noneMatch(axis -> axis.name().equals(name))) {
                all.add(new Axis(name, List.of(1)));
            }
        }
        all.addAll(axes);
        return all;
    }

    /**
     * Returns the mesh of axes such as {@code "pp=2,dp=4,cp=2,tp=2"}, the one whose coordinate changes slowest from
     * rank to rank first. One axis may have two levels, {@code "cp=2x4"}: then {@code outer} and {@code inner} name
     * groups, too. Of pp, dp, cp and tp those that are not given have one rank.
     *
     * @throws IllegalArgumentException if {@code axes} is null or not of that form, a size is 0, a name is given twice,
     *     or there are more than 2^31 - 1 ranks
     */
    public static Mesh of(String axes) {
        List<Axis> read = new ArrayList<>();
        for (String part : Checks.notNull("axes", axes).split(",", -1)) {
            Matcher axis = AXIS.matcher(part.strip());
            if (!axis.matches() || axis.group(1).equals("x")) {
                throw Checks.broken(
                        "axes", "\"" + axes + "\"", "be names and sizes such as dp=2,cp=4, the slowest axis first");
            }
            List<Integer> levels = new ArrayList<>();
            for (int i = 2; i <= 3 && axis.group(i) != null; i++) {
                levels.add((int) Checks.atLeast(axis.group(1), Integer.parseInt(axis.group(i)), 1));
            }
            read.add(new Axis(axis.group(1), levels));
        }
        return new Mesh(read);
    }

    /**
     * Returns the mesh in which tensor-parallel ranks are neighbours, then context-, data- and pipeline-parallel ones:
     * {@code "pp=…,dp=…,cp=…,tp=…"}.
     *
     * @throws IllegalArgumentException as {@link #of(String)}
     */
    public static Mesh of(int dp, int cp, int tp, int pp) {
        Checks.atLeast("dp", dp, 1);
        Checks.atLeast("cp", cp, 1);
        Checks.atLeast("tp", tp, 1);
        Checks.atLeast("pp", pp, 1);
        return new Mesh(List.of(
                new Axis("pp", List.of(pp)),
                new Axis("dp", List.of(dp)),
                new Axis("cp", List.of(cp)),
                new Axis("tp", List.of(tp))));
    }

    /**
     * Returns the mesh of the same axes in another order, written as Megatron does: {@code "tp-cp-ep-dp-pp"}, the axis
     * whose coordinate changes fastest first. Axes of one rank may be left out.
     *
     * @throws IllegalArgumentException if a name is no axis, is given twice, or an axis of several ranks is left out
     */
    public Mesh fastestFirst(String order) {
        List<Axis> ordered = new ArrayList<>();
        for (String name : Checks.notNull("order", order).split("-", -1)) {
            Axis axis = allAxes().stream()
                    .filter(each -> each.name().equals(name))
                    .findFirst()
                    .orElseThrow(() -> Checks.broken("order", "\"" + order + "\"", "name axes of " + this));
            ordered.add(0, axis);
        }
        for (Axis axis : axes) {
            if (!ordered.contains(axis)) {
                if (axis.size() > 1) {
                    throw Checks.broken("order", "\"" + order + "\"", "name " + axis + ", too");
                }
                ordered.add(0, axis);
            }
        }
        return new Mesh(ordered);
    }

    /** Returns the number of ranks. */
    public int worldSize() {
        return worldSize;
    }

    /** Returns the number of replicas of the model, each of which has a part of the batch: the size of {@code dp}. */
    public int dataParallelSize() {
        return size("dp");
    }

    /**
     * Returns the tokens that one optimizer step learns from: of all replicas, whatever shares a sequence.
     *
     * @param rows sequences of each replica's micro-batch
     * @param length tokens of each sequence, over all its ranks
     * @param accumulation micro-batches per step
     * @throws IllegalArgumentException if one of them is negative, or the product overflows
     */
    public long tokensPerStep(long rows, long length, long accumulation) {
        long micro = Checks.product("tokens", Checks.atLeast("rows", rows, 0), Checks.atLeast("length", length, 0));
        long replica = Checks.product("tokens", micro, Checks.atLeast("accumulation", accumulation, 0));
        return Checks.product("tokens", replica, dataParallelSize());
    }

    /**
     * Returns the number of ranks in a group of this name.
     *
     * @throws IllegalArgumentException if {@code group} is made of anything but axes and levels of this mesh
     */
    public int size(String group) {
        boolean[] inside = select(group);
        int size = 1;
        for (int i = 0; i < inside.length; i++) {
            size *= inside[i] ? digits.get(i).size() : 1;
        }
        return size;
    }

    /**
     * Returns where {@code rank} stands in its group of this name, from 0 on: its coordinate, for one axis, and its
     * rank in the communicator of {@link #split}.
     *
     * @throws IllegalArgumentException as {@link #size}, or unless 0 ≤ rank &lt; worldSize()
     */
    public int coordinate(String group, int rank) {
        return number(select(group), requireRank(rank), true);
    }

    /** Returns the coordinate of {@code rank} on each axis that was given, the slowest first. */
    public Map<String, Integer> coordinates(int rank) {
        requireRank(rank);
        Map<String, Integer> coordinates = new LinkedHashMap<>();
        axes.forEach(axis -> coordinates.put(axis.name(), coordinate(axis.name(), rank)));
        return coordinates;
    }

    /**
     * Returns the rank of these coordinates, one for each axis; those that are left out are 0.
     *
     * @throws IllegalArgumentException if there is no such axis, or it has no such coordinate
     */
    public int rank(Map<String, Integer> coordinates) {
        Checks.notNull("coordinates", coordinates).forEach((name, value) -> {
            if (allAxes().stream().noneMatch(axis -> axis.name().equals(name))) {
                throw Checks.broken("coordinates", coordinates, "name axes of " + this);
            }
            Checks.between(name, value, 0, size(name) - 1L);
        });
        int rank = 0;
        for (Axis axis : allAxes()) {
            rank = rank * axis.size() + coordinates.getOrDefault(axis.name(), 0);
        }
        return rank;
    }

    /**
     * Returns the ranks of the group of this name that {@code rank} is in, ascending.
     *
     * @throws IllegalArgumentException as {@link #coordinate}
     */
    public int[] members(String group, int rank) {
        boolean[] inside = select(group);
        int own = number(inside, requireRank(rank), false);
        int[] members = new int[size(group)];
        int found = 0;
        for (int other = 0; other < worldSize; other++) {
            if (number(inside, other, false) == own) {
                members[found++] = other;
            }
        }
        return members;
    }

    /** Returns the members of every group of this name, by the first of them. */
    public List<int[]> groups(String group) {
        List<int[]> groups = new ArrayList<>();
        for (int rank = 0; rank < worldSize; rank++) {
            if (coordinate(group, rank) == 0) {
                groups.add(members(group, rank));
            }
        }
        return groups;
    }

    /**
     * Returns the part of {@code count} things, such as the rows of a batch along {@code "dp"}, that falls to
     * {@code rank} by its place in its group: one behind the other, nearly equal, the longer ones first.
     *
     * @throws IllegalArgumentException as {@link #coordinate}, or if {@code count} is negative
     */
    public Part part(String group, int rank, long count) {
        int parts = size(group);
        int own = coordinate(group, rank);
        Checks.atLeast("count", count, 0);
        long first = count / parts * own + Math.min(own, count % parts);
        return new Part(first, count / parts + (own < count % parts ? 1 : 0));
    }

    /**
     * Returns this rank's communicator in its group of this name, whose ranks are {@link #coordinate}. Collective over
     * {@code world}; on ranks that give another mesh or group it is one {@link CommunicationException} that says which.
     * Failures of the group begin with its name and the ranks of the world in it. The caller closes it.
     *
     * @throws IllegalArgumentException as {@link #size}, or unless {@code world} has as many ranks as the mesh
     */
    public Communicator split(Communicator world, String group) {
        Checks.notNull("world", world);
        Checks.equal("world.worldSize", world.worldSize(), worldSize, "the ranks of the mesh " + this);
        String name = name(select(group));
        world.agree(Map.of("group", name + " of " + this));
        int[] members = members(group, world.rank());
        return world.split(name + " (" + ranks(members) + ")", members[0], coordinate(group, world.rank()));
    }

    static String ranks(int[] members) {
        StringJoiner ranks = new StringJoiner(", ", members.length == 1 ? "rank " : "ranks ", "");
        for (int i = 0; i < members.length; i++) {
            if (i < MOST_NAMED - 1 || i == members.length - 1) {
                ranks.add(String.valueOf(members[i]));
            } else if (i == MOST_NAMED - 1) {
                ranks.add("…");
            }
        }
        return ranks.toString();
    }

    /** Returns which digits a group's ranks differ in. */
    private boolean[] select(String group) {
        boolean[] inside = new boolean[digits.size()];
        for (String name : Checks.notNull("group", group).split(" x ", -1)) {
            boolean known = false;
            for (int i = 0; i < inside.length; i++) {
                boolean named = digits.get(i).axis().equals(name)
                        || digits.get(i).level().equals(name);
                inside[i] |= named;
                known |= named;
            }
            if (!known) {
                Set<String> names = new LinkedHashSet<>();
                digits.forEach(digit -> names.add(digit.axis()));
                digits.forEach(digit -> names.add(digit.level()));
                throw Checks.broken(
                        "group",
                        "\"" + group + "\"",
                        "be one of " + String.join(", ", names) + ", or several joined by \" x \"");
            }
        }
        return inside;
    }

    /** Returns the one name of a group, however it was written: "cp x dp" may be "dp x cp". */
    private String name(boolean[] inside) {
        StringJoiner name = new StringJoiner(" x ");
        for (Axis axis : allAxes()) {
            List<String> levels = new ArrayList<>();
            for (int i = 0; i < inside.length; i++) {
                if (digits.get(i).axis().equals(axis.name()) && inside[i]) {
                    levels.add(digits.get(i).level());
                }
            }
            if (levels.size() == axis.levels().size()) {
                name.add(axis.name());
            } else {
                levels.forEach(name::add);
            }
        }
        return name.toString();
    }

    /** Returns the coordinates of {@code rank} inside a group, or outside of it, as one number. */
    private int number(boolean[] inside, int rank, boolean wanted) {
        int number = 0;
        int stride = worldSize;
        for (int i = 0; i < inside.length; i++) {
            stride /= digits.get(i).size();
            if (inside[i] == wanted) {
                number = number * digits.get(i).size()
                        + rank / stride % digits.get(i).size();
            }
        }
        return number;
    }

    private int requireRank(int rank) {
        return (int) Checks.between("rank", rank, 0, worldSize - 1L);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Mesh that && axes.equals(that.axes);
    }

    @Override
    public int hashCode() {
        return axes.hashCode();
    }

    /** Returns the axes as {@link #of(String)} takes them. */
    @Override
    public String toString() {
        return String.join(",", axes.stream().map(Axis::toString).toList());
    }
}
