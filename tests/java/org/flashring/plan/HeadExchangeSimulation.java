package org.flashring.plan;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.flashring.Layout;
import org.flashring.Positions;
import org.flashring.plan.HeadExchange.Share;
import org.flashring.plan.Schedule.Exchange;
import org.flashring.plan.Schedule.Message;
import org.flashring.plan.Schedule.Step;

/**
 * Proves schedules of ranks that exchange heads: groups have all ranks, shares all heads, parts all rows; ranks of one
 * place post with each other alone, and what they then do is proven as any schedule is.
 */
final class HeadExchangeSimulation {
    private HeadExchangeSimulation() {}

    static void run(Problem problem, List<Schedule> schedules) {
        Map<List<Integer>, List<Integer>> groups =
                new TreeMap<>((a, b) -> a.toString().compareTo(b.toString()));
        Map<Integer, List<Integer>> places = new TreeMap<>();
        for (int rank = 0; rank < schedules.size(); rank++) {
            HeadExchange heads = schedules.get(rank).heads();
            groups.computeIfAbsent(heads.members(), members -> new ArrayList<>())
                    .add(rank);
            places.computeIfAbsent(heads.place(), place -> new ArrayList<>()).add(rank);
            assertThat(heads.members().get(heads.place())).isEqualTo(rank);
            assertThat(heads.shares()).isEqualTo(schedules.get(0).heads().shares());
            requireRows(problem.queries(), heads.part().queries(), heads);
            requireRows(problem.keys(), heads.part().keys(), heads);
        }
        groups.forEach((members, ranks) -> assertThat(new HashSet<>(members)).isEqualTo(new HashSet<>(ranks)));
        requireHeads(problem, schedules.get(0).heads().shares());
        requireSamePosts(schedules);
        places.values().forEach(ranks -> requireInner(ranks, schedules));
    }

    private static void requireRows(Layout whole, Layout part, HeadExchange heads) {
        List<Long> rows = heads.members().stream()
                .flatMap(rank -> positions(whole.positions(rank)).boxed())
                .sorted()
                .toList();
        assertThat(positions(part.positions(heads.group())).boxed().toList()).isEqualTo(rows);
    }

    private static LongStream positions(Positions positions) {
        return LongStream.range(0, positions.length()).map(positions::position);
    }

    /** Every query head is in one share, with the key head that it uses. */
    private static void requireHeads(Problem problem, List<Share> shares) {
        long group = problem.shape().queryHeads() / problem.shape().kvHeads();
        List<Long> queryHeads = new ArrayList<>();
        for (Share share : shares) {
            assertThat(share.queryHeads() % share.keyHeads()).as("%s", share).isZero();
            for (long head = 0; head < share.queryHeads(); head++) {
                queryHeads.add(share.firstQuery() + head);
                assertThat(share.firstKey() + head / (share.queryHeads() / share.keyHeads()))
                        .as("key head of query head %d of %s", head, share)
                        .isEqualTo((share.firstQuery() + head) / group);
            }
        }
        assertThat(queryHeads)
                .isEqualTo(LongStream.range(0, problem.shape().queryHeads())
                        .boxed()
                        .toList());
        long least = shares.stream().mapToLong(Share::queryHeads).min().orElseThrow();
        long most = shares.stream().mapToLong(Share::queryHeads).max().orElseThrow();
        assertThat(most - least).as("imbalance of %s", shares).isLessThanOrEqualTo(group);
    }

    private static void requireSamePosts(List<Schedule> schedules) {
        Set<List<Boolean>> posts = new HashSet<>();
        for (Schedule schedule : schedules) {
            List<Boolean> each = new ArrayList<>();
            for (List<Step> steps : List.of(schedule.forward(), schedule.backward())) {
                steps.forEach(step -> each.addAll(List.of(step.before() != null, step.after() != null)));
            }
            posts.add(each);
        }
        assertThat(posts).as("which steps post").hasSize(1);
    }

    /** Runs the schedules of {@code ranks}, who have one place in their groups, as those of a world of their own. */
    private static void requireInner(List<Integer> ranks, List<Schedule> schedules) {
        Schedule[] inner = new Schedule[ranks.size()];
        Map<Integer, Integer> numbers = new TreeMap<>();
        ranks.forEach(rank -> numbers.put(rank, schedules.get(rank).heads().group()));
        for (int rank : ranks) {
            Schedule schedule = schedules.get(rank);
            inner[numbers.get(rank)] = new Schedule(
                    schedule.sources(),
                    schedule.forward().stream()
                            .map(step -> inner(step, numbers))
                            .toList(),
                    schedule.backward().stream()
                            .map(step -> inner(step, numbers))
                            .toList(),
                    schedule.slots(),
                    schedule.room());
        }
        assertThat(numbers.values())
                .containsExactlyInAnyOrderElementsOf(
                        IntStream.range(0, ranks.size()).boxed().toList());
        ScheduleSimulation.run(schedules.get(ranks.get(0)).heads().part(), List.of(inner));
    }

    private static Step inner(Step step, Map<Integer, Integer> numbers) {
        return new Step(
                inner(step.before(), numbers),
                inner(step.ahead(), numbers),
                step.block(),
                step.computes(),
                inner(step.after(), numbers));
    }

    private static Exchange inner(Exchange exchange, Map<Integer, Integer> numbers) {
        return exchange == null
                ? null
                : new Exchange(inner(exchange.sends(), numbers), inner(exchange.receives(), numbers));
    }

    private static List<Message> inner(List<Message> messages, Map<Integer, Integer> numbers) {
        return messages.stream()
                .map(message -> new Message(message.held(), numbers.get(message.peer())))
                .toList();
    }
}
