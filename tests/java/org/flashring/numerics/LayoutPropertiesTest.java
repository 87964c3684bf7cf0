package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.Combinators;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;
import net.jqwik.api.constraints.IntRange;
import net.jqwik.api.constraints.LongRange;
import org.flashring.Layout;
import org.flashring.Positions;

/** A layout deals every token to one rank, says which, and takes it back; positions count as brute force does. */
class LayoutPropertiesTest {
    /**
     * Groups hold what their ranks hold, whichever ranks they are of; groups of a striped layout cost no more ranges.
     */
    @Property(tries = 300)
    void groupsHoldWhatTheirRanksHold(
            @ForAll Layout.Policy policy,
            @ForAll @IntRange(max = 90) int length,
            @ForAll @IntRange(min = 1, max = 4) int groups,
            @ForAll @IntRange(min = 1, max = 3) int size,
            @ForAll boolean apart) {
        Layout layout = Layout.of(policy, length, groups * size).startingAt(7);
        List<List<Integer>> members = IntStream.range(0, groups)
                .mapToObj(group -> IntStream.range(0, size)
                        .mapToObj(member -> apart ? member * groups + group : group * size + member)
                        .toList())
                .toList();
        Layout grouped = layout.grouped(members);
        assertThat(grouped.length()).isEqualTo(length);
        for (int group = 0; group < groups; group++) {
            List<Long> expected = members.get(group).stream()
                    .flatMap(rank -> all(layout.positions(rank)).stream())
                    .sorted()
                    .toList();
            assertThat(all(grouped.positions(group))).isEqualTo(expected);
            if (apart && policy == Layout.Policy.STRIPED && length > 0) {
                assertThat(grouped.positions(group).ranges()).hasSizeLessThanOrEqualTo(1);
            }
        }
    }

    private static List<Long> all(Positions positions) {
        return LongStream.range(0, positions.length())
                .map(positions::position)
                .boxed()
                .toList();
    }

    @Provide
    Arbitrary<long[]> documents() {
        return Arbitraries.integers()
                .between(0, 40)
                .list()
                .ofMinSize(1)
                .ofMaxSize(6)
                .map(lengths -> {
                    long[] offsets = new long[lengths.size() + 1];
                    for (int i = 0; i < lengths.size(); i++) {
                        offsets[i + 1] = offsets[i] + lengths.get(i);
                    }
                    return offsets;
                });
    }

    @Provide
    Arbitrary<Positions> positions() {
        Arbitrary<long[]> range = Combinators.combine(
                        Arbitraries.longs().between(0, 9),
                        Arbitraries.longs().between(1, 7),
                        Arbitraries.longs().between(1, 5))
                .as((gap, length, stride) -> new long[] {gap, length, stride});
        return range.list().ofMaxSize(6).map(list -> {
            List<Positions.Range> ranges = new ArrayList<>();
            long next = 0;
            for (long[] r : list) {
                ranges.add(new Positions.Range(next + r[0], r[1], r[2]));
                next = ranges.get(ranges.size() - 1).last() + 1;
            }
            return Positions.of(ranges);
        });
    }

    @Property
    void everyTokenHasOnePlace(
            @ForAll Layout.Policy policy,
            @ForAll("documents") long[] documents,
            @ForAll @IntRange(min = 1, max = 17) int world) {
        Layout layout = Layout.of(policy, documents, world);
        long length = documents[documents.length - 1];
        assertThat(layout.length()).isEqualTo(length);
        boolean[] seen = new boolean[(int) length];
        for (int rank = 0; rank < world; rank++) {
            Positions positions = layout.positions(rank);
            assertThat(layout.localLength(rank))
                    .isEqualTo(positions.length())
                    .isLessThanOrEqualTo(layout.maxLocalLength());
            long previous = -1;
            for (long local = 0; local < positions.length(); local++) {
                long position = positions.position(local);
                assertThat(position).isGreaterThan(previous).isLessThan(length);
                assertThat(seen[(int) position])
                        .as("position %d on two ranks", position)
                        .isFalse();
                seen[(int) position] = true;
                assertThat(layout.rankOf(position)).isEqualTo(rank);
                assertThat(layout.localIndexOf(position)).isEqualTo(local);
                previous = position;
            }
        }
        assertThat(seen).doesNotContain(false);
    }

    @Property
    void aMovedLayoutDealsTheSameTokensFurtherOn(
            @ForAll Layout.Policy policy,
            @ForAll("documents") long[] documents,
            @ForAll @IntRange(min = 1, max = 9) int world,
            @ForAll @LongRange(max = 1L << 40) long start) {
        Layout layout = Layout.of(policy, documents, world);
        Layout moved = layout.startingAt(7).startingAt(start);
        assertThat(moved.start()).isEqualTo(start);
        for (long position = 0; position < layout.length(); position++) {
            assertThat(moved.rankOf(start + position)).isEqualTo(layout.rankOf(position));
            assertThat(moved.localIndexOf(start + position)).isEqualTo(layout.localIndexOf(position));
        }
    }

    @Property
    void shardsAreEqualWhereTheyCanBe(
            @ForAll Layout.Policy policy,
            @ForAll @LongRange(max = 1L << 40) long length,
            @ForAll @IntRange(min = 1, max = 17) int world) {
        Layout layout = Layout.of(policy, length, world);
        long least = Long.MAX_VALUE;
        for (int rank = 0; rank < world; rank++) {
            least = Math.min(least, layout.localLength(rank));
        }
        assertThat(layout.maxLocalLength() - least).isLessThanOrEqualTo(policy == Layout.Policy.ZIGZAG ? 2 : 1);
    }

    @Property
    void positionsCountAsBruteForceDoes(@ForAll("positions") Positions positions) {
        List<Long> all = new ArrayList<>();
        for (Positions.Range range : positions.ranges()) {
            for (long i = 0; i < range.length(); i++) {
                all.add(range.start() + i * range.stride());
            }
        }
        assertThat(positions.length()).isEqualTo(all.size());
        for (int i = 0; i < all.size(); i++) {
            assertThat(positions.position(i)).isEqualTo(all.get(i));
        }
        long end = all.isEmpty() ? 3 : all.get(all.size() - 1) + 3;
        for (long bound = 0; bound <= end; bound++) {
            long limit = bound;
            assertThat(positions.lowerBound(bound))
                    .as("lowerBound(%d) of %s", bound, positions)
                    .isEqualTo(all.stream().filter(p -> p < limit).count());
            assertThat(positions.contains(bound)).isEqualTo(all.contains(bound));
        }
    }
}
