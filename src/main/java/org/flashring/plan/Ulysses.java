package org.flashring.plan;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntFunction;
import java.util.stream.IntStream;
import org.flashring.AttentionShape;
import org.flashring.Layout;
import org.flashring.internal.Checks;
import org.flashring.plan.HeadExchange.Share;
import org.flashring.plan.Schedule.Exchange;
import org.flashring.plan.Schedule.Message;
import org.flashring.plan.Schedule.Step;

/**
 * Each rank computes some heads of everybody's rows: an all-to-all brings them, another takes the results back (Jacobs
 * et al. 2023, DeepSpeed Ulysses). Key heads fewer than ranks go to several of them, with a part each of the query
 * heads that use them; heads that do not divide are dealt in whole groups, some ranks getting one more.
 *
 * <p>With fewer {@code ranks} than there are, they do so in groups, and {@code inner} brings the keys of the other
 * groups to each (2-D: Fang and Zhao 2024, USP). Ranks that follow each other make a group, those of one host say;
 * where a layout is striped, every so many-th rank, so that a group's rows are striped too.
 *
 * @param ranks ranks of a group; more than there are is all of them
 * @param inner how keys come from the other groups; not another Ulysses
 */
public record Ulysses(int ranks, Strategy inner) implements Strategy {
    private static final Exchange NOTHING = new Exchange(List.of(), List.of());

    /** @throws IllegalArgumentException unless ranks ≥ 1 and inner is another strategy */
    public Ulysses {
        Checks.atLeast("ranks", ranks, 1);
        if (Checks.notNull("inner", inner) instanceof Ulysses) {
            throw Checks.broken("inner", inner, "be a strategy that leaves heads where they are");
        }
    }

    /** Makes that of all ranks. */
    public Ulysses() {
        this(Integer.MAX_VALUE, new Ring());
    }

    /**
     * Alone in its group a rank does what it does by the inner strategy.
     *
     * @throws IllegalArgumentException unless groups divide the ranks and have no more than there are query heads
     */
    @Override
    public IntFunction<Schedule> schedules(Problem problem) {
        int size = Math.min(ranks, problem.worldSize());
        if (size == 1) {
            return inner.schedules(problem);
        }
        long queryHeads = problem.shape().queryHeads();
        if (problem.worldSize() % size != 0) {
            throw Checks.broken(
                    "ranks of ulysses", size, "divide the " + problem.worldSize() + " ranks that there are");
        }
        if (queryHeads < size) {
            throw Checks.broken(
                    "ranks of ulysses",
                    size,
                    "be at most the " + queryHeads + " query heads; a ring between groups of fewer ranks (2-D) serves"
                            + " more");
        }
        return new OfWorld(problem, inner, Groups.of(problem, size), shares(problem.shape(), size)).schedules();
    }

    /** Returns the heads of each of {@code size} ranks: whole groups, or else parts of one group. */
    static List<Share> shares(AttentionShape shape, int size) {
        long group = shape.queryHeads() / shape.kvHeads();
        List<Share> shares = new ArrayList<>();
        if (shape.kvHeads() >= size) {
            for (int i = 0; i < size; i++) {
                long first = cut(shape.kvHeads(), i, size);
                long count = cut(shape.kvHeads(), i + 1, size) - first;
                shares.add(new Share(first * group, count * group, first, count));
            }
            return shares;
        }
        for (long head = 0; head < shape.kvHeads(); head++) {
            long parts = cut(size, head + 1, shape.kvHeads()) - cut(size, head, shape.kvHeads());
            for (long i = 0; i < parts; i++) {
                long first = cut(group, i, parts);
                shares.add(new Share(head * group + first, cut(group, i + 1, parts) - first, head, 1));
            }
        }
        return shares;
    }

    /** Returns where piece {@code index} of {@code pieces} nearly equal ones starts; longer pieces come first. */
    private static long cut(long length, long index, long pieces) {
        return length / pieces * index + Math.min(index, length % pieces);
    }

    @Override
    public String toString() {
        return ranks == Integer.MAX_VALUE ? "ulysses" : "ulysses of " + ranks + " ranks, " + inner + " between groups";
    }

    /** Which ranks make a group. */
    private record Groups(int count, int size, boolean apart) {
        static Groups of(Problem problem, int size) {
            boolean striped = problem.queries().policy() == Layout.Policy.STRIPED
                    || problem.keys().policy() == Layout.Policy.STRIPED;
            return new Groups(problem.worldSize() / size, size, striped);
        }

        int rank(int group, int member) {
            return apart ? member * count + group : group * size + member;
        }

        int group(int rank) {
            return apart ? rank % count : rank / size;
        }

        int member(int rank) {
            return apart ? rank / count : rank % size;
        }

        List<Integer> members(int group) {
            return IntStream.range(0, size)
                    .mapToObj(member -> rank(group, member))
                    .toList();
        }

        Layout layout(Layout of) {
            return of.grouped(IntStream.range(0, count).mapToObj(this::members).toList());
        }
    }

    private record OfWorld(Problem problem, Strategy inner, Groups groups, List<Share> shares) {
        IntFunction<Schedule> schedules() {
            Layout queries = groups.layout(problem.queries());
            Layout keys = problem.keys() == problem.queries() ? queries : groups.layout(problem.keys());
            List<Problem> parts = shares.stream()
                    .map(share -> new Problem(
                            shape(share),
                            queries,
                            keys,
                            problem.mask(),
                            problem.score().ofHeads(share.firstQuery(), share.queryHeads())))
                    .toList();
            Map<AttentionShape, IntFunction<Schedule>> known = new HashMap<>();
            parts.forEach(part -> known.computeIfAbsent(part.shape(), shape -> inner.schedules(part)));
            Schedule longest = known.values().stream()
                    .map(schedules -> schedules.apply(0))
                    .reduce((a, b) -> b.backward().size() > a.backward().size() ? b : a)
                    .orElseThrow();
            return rank -> {
                Problem part = parts.get(groups.member(rank));
                return of(rank, part, known.get(part.shape()).apply(groups.group(rank)), longest);
            };
        }

        private AttentionShape shape(Share share) {
            AttentionShape all = problem.shape();
            return new AttentionShape(
                    all.batch(), share.queryHeads(), share.keyHeads(), all.headDim(), all.valueDim(), all.dtype());
        }

        private Schedule of(int rank, Problem part, Schedule steps, Schedule longest) {
            int group = groups.group(rank);
            int member = groups.member(rank);
            return new Schedule(
                    steps.sources(),
                    among(member, steps.forward(), longest.forward()),
                    among(member, steps.backward(), longest.backward()),
                    steps.slots(),
                    steps.room(),
                    new HeadExchange(problem, part, group, groups.members(group), member, shares));
        }

        /**
         * Returns the steps with ranks for groups. A member with fewer heads than others may be done before them: it
         * goes on to post when they do.
         */
        private List<Step> among(int member, List<Step> steps, List<Step> longest) {
            return Schedule.steps(longest.size(), i -> {
                Step step = i < steps.size() ? steps.get(i) : new Step(null, null, false, null);
                Step others = longest.get(i);
                return new Step(
                        among(member, step.before(), others.before()),
                        among(member, step.ahead(), others.ahead()),
                        step.block(),
                        step.computes(),
                        among(member, step.after(), others.after()));
            });
        }

        private Exchange among(int member, Exchange exchange, Exchange others) {
            if (exchange == null) {
                return others == null ? null : NOTHING;
            }
            return new Exchange(among(member, exchange.sends()), among(member, exchange.receives()));
        }

        private List<Message> among(int member, List<Message> messages) {
            return messages.stream()
                    .map(message -> new Message(message.held(), groups.rank(message.peer(), member)))
                    .toList();
        }
    }
}
