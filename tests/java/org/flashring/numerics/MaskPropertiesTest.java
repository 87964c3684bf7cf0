package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Arrays;
import java.util.List;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.Combinators;
import net.jqwik.api.EdgeCasesMode;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.PropertyDefaults;
import net.jqwik.api.Provide;
import net.jqwik.api.constraints.IntRange;
import net.jqwik.api.constraints.Size;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.plan.Plan;
import org.flashring.support.MaskRule;

/** The interval of every query is the set of keys that the pairwise rule lets it see, and plans count those pairs. */
@PropertyDefaults(edgeCases = EdgeCasesMode.NONE) // the ranges are small: random rules hit their ends
class MaskPropertiesTest {
    private static final int TOKENS = 48;

    @Provide
    static Arbitrary<MaskRule> rules() {
        Arbitrary<Long> bound = Arbitraries.longs().between(-1, 12);
        Arbitrary<long[]> lengths = Arbitraries.longs()
                .between(0, 14)
                .array(long[].class)
                .ofMinSize(1)
                .ofMaxSize(6);
        Arbitrary<long[]> prefixes =
                Arbitraries.longs().between(0, 20).array(long[].class).ofSize(6);
        return Combinators.combine(bound, bound, lengths.injectNull(0.4), prefixes.injectNull(0.5))
                .as(MaskPropertiesTest::rule);
    }

    private static MaskRule rule(long left, long right, long[] documentLengths, long[] prefixes) {
        MaskRule rule = MaskRule.FULL.window(left, right);
        int documents = 1;
        if (documentLengths != null) {
            documents = documentLengths.length;
            long[] offsets = new long[documents + 1];
            for (int i = 0; i < documents; i++) {
                offsets[i + 1] = offsets[i] + documentLengths[i];
            }
            rule = rule.documents(offsets);
        }
        return prefixes == null ? rule : rule.prefix(Arrays.copyOf(prefixes, documents));
    }

    @Property
    void intervalsAreTheRule(@ForAll("rules") MaskRule rule) {
        Mask mask = rule.mask();
        for (long q = 0; q < TOKENS; q++) {
            for (long k = 0; k < TOKENS + 24; k++) {
                assertThat(mask.lo(q) <= k && k < mask.hi(q))
                        .as("query %d sees key %d under %s", q, k, rule)
                        .isEqualTo(rule.sees(q, k));
            }
        }
    }

    @Property
    void endsNeverDecrease(@ForAll("rules") MaskRule rule) {
        Mask mask = rule.mask();
        for (long q = 1; q < TOKENS + 40; q++) {
            assertThat(mask.lo(q)).as("lo(%d) under %s", q, rule).isGreaterThanOrEqualTo(mask.lo(q - 1));
            assertThat(mask.hi(q)).as("hi(%d) under %s", q, rule).isGreaterThanOrEqualTo(mask.hi(q - 1));
        }
    }

    @Property(tries = 200)
    void tokensOfAPaddedRowSeeEachOtherAndPaddingSeesPadding(
            @ForAll @IntRange(min = 1, max = 6) int rowLength,
            @ForAll @Size(min = 1, max = 4) List<@IntRange(max = 6) Integer> filled,
            @ForAll boolean causal) {
        long[] lengths =
                filled.stream().mapToLong(length -> Math.min(length, rowLength)).toArray();
        Mask mask = (causal ? Mask.causal() : Mask.full()).paddedRows(rowLength, lengths);
        int tokens = rowLength * lengths.length;
        for (int q = 0; q < tokens; q++) {
            int row = q / rowLength;
            boolean padding = q % rowLength >= lengths[row];
            for (int k = 0; k < tokens + rowLength; k++) {
                boolean sees = k / rowLength == row && (k % rowLength >= lengths[row]) == padding;
                assertThat(mask.lo(q) <= k && k < mask.hi(q))
                        .as("query %d sees key %d in rows of %d, %s", q, k, rowLength, Arrays.toString(lengths))
                        .isEqualTo(sees && (!causal || k <= q));
            }
        }
    }

    @Property(tries = 300)
    void plansCountThePairsThatAreSeen(
            @ForAll("rules") MaskRule rule,
            @ForAll Layout.Policy policy,
            @ForAll @IntRange(max = 30) int queries,
            @ForAll @IntRange(max = 30) int keys,
            @ForAll @IntRange(min = 1, max = 8) int world) {
        Layout queryLayout = Layout.of(policy, queries, world);
        Layout keyLayout = Layout.of(policy, keys, world);
        Plan plan = Plan.of(
                AttentionShape.of(1, 1, 1, 8, DType.FLOAT32),
                queryLayout,
                keyLayout,
                rule.mask(),
                AttentionOptions.defaults());
        long[][] pairs = new long[world][world]; // [rank of the query][rank of the key]
        for (int q = 0; q < queries; q++) {
            for (int k = 0; k < keys; k++) {
                pairs[queryLayout.rankOf(q)][keyLayout.rankOf(k)] += rule.sees(q, k) ? 1 : 0;
            }
        }
        boolean lastStepIsNeeded = plan.steps() == 1;
        for (int rank = 0; rank < world; rank++) {
            for (int step = 0; step < world; step++) {
                long expected = pairs[rank][Math.floorMod(rank - step, world)];
                assertThat(expected == 0 || step < plan.steps())
                        .as("step %d of rank %d is left out", step, rank)
                        .isTrue();
                if (step >= plan.steps()) {
                    continue;
                }
                assertThat(plan.source(rank, step)).isEqualTo(Math.floorMod(rank - step, world));
                assertThat(plan.visiblePairs(rank, step)).isEqualTo(expected);
                assertThat(plan.computes(rank, step)).isEqualTo(expected > 0 || step == 0);
                lastStepIsNeeded |= step == plan.steps() - 1 && expected > 0;
            }
        }
        assertThat(lastStepIsNeeded).isTrue();
    }
}
