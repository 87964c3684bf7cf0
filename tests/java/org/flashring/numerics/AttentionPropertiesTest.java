package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.PropertyDefaults;
import net.jqwik.api.ShrinkingMode;
import net.jqwik.api.constraints.IntRange;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Positions;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;
import org.flashring.support.Kernels;
import org.flashring.support.MaskRule;
import org.flashring.support.Oracle;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.flashring.support.StepRun;

/** What must hold of attention whatever the numbers. */
@PropertyDefaults(shrinking = ShrinkingMode.OFF) // a seed has no simpler one
class AttentionPropertiesTest {
    private static final double BOUND = 1e-12;

    private static Problem problem(long seed, DType dtype) {
        Random random = new Random(seed);
        int[][] heads = {{1, 1}, {4, 2}, {3, 1}};
        int[] pick = heads[random.nextInt(heads.length)];
        AttentionShape shape = new AttentionShape(
                1 + random.nextInt(2), pick[0], pick[1], 1 + random.nextInt(40), 1 + random.nextInt(40), dtype);
        int queries = 1 + random.nextInt(50);
        int keys = 1 + random.nextInt(50);
        MaskRule[] masks = {
            MaskRule.FULL,
            MaskRule.CAUSAL,
            MaskRule.FULL.window(random.nextInt(9), random.nextInt(9)),
            MaskRule.CAUSAL.documents(0, random.nextInt(9), 9 + random.nextInt(9), 18 + random.nextInt(20)),
            MaskRule.CAUSAL.prefix(random.nextInt(keys))
        };
        return new Problem(shape, queries, keys, masks[random.nextInt(masks.length)], Double.NaN, seed);
    }

    /** Deals the keys at random to {@code count} blocks, some perhaps empty, and shuffles the blocks. */
    private static List<Positions> blocks(int keys, int count, Random random) {
        List<List<Positions.Range>> dealt = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            dealt.add(new ArrayList<>());
        }
        int block = random.nextInt(count);
        for (int key = 0; key < keys; key++) {
            block = random.nextInt(3) == 0 ? random.nextInt(count) : block;
            dealt.get(block).add(new Positions.Range(key, 1, 1));
        }
        Collections.shuffle(dealt, random);
        return dealt.stream().map(Positions::of).toList();
    }

    @Property(tries = 150)
    void resumingOverAnySplitIsTheWhole(@ForAll long seed, @ForAll @IntRange(min = 1, max = 6) int count) {
        Problem problem = problem(seed, DType.FLOAT64);
        Result whole = Oracle.float64(problem);
        List<Positions> blocks = blocks(problem.keyLength(), count, new Random(seed));
        for (Kernel kernel : Kernels.available(DType.FLOAT64)) {
            StepRun.run(problem, blocks, kernel)
                    .requireWithin(BOUND, whole, problem + " in blocks " + blocks + " with " + kernel);
        }
    }

    @Property(tries = 60)
    void queriesAndKeysMayBeLaidOutApart(
            @ForAll long seed,
            @ForAll Layout.Policy queryPolicy,
            @ForAll Layout.Policy keyPolicy,
            @ForAll @IntRange(min = 1, max = 5) int world) {
        Problem problem = problem(seed, DType.FLOAT64);
        Result exact = Oracle.float64(problem);
        long heads = 1L + Math.floorMod(seed, 3);
        Ring ring = Math.floorMod(seed, 4) == 3 ? new Ring(heads) : new Ring(seed % 2 == 0);
        List<Strategy> strategies = new ArrayList<>(List.of(ring, new Gather(heads), new Halo()));
        if (problem.shape().queryHeads() >= world) {
            strategies.add(new Ulysses());
        }
        if (problem.shape().queryHeads() >= 2 && world == 4) {
            strategies.add(new Ulysses(2, strategies.get(Math.floorMod(seed, 3))));
        }
        for (Strategy strategy : strategies) {
            RingRun run = new RingRun(
                    problem,
                    Layout.of(queryPolicy, problem.queryLength(), world),
                    Layout.of(keyPolicy, problem.keyLength(), world),
                    strategy,
                    AttentionOptions.defaults(),
                    Placement.DENSE,
                    DType.FLOAT64);
            run.run().requireWithin(BOUND, exact, problem + ", " + run.queries() + ", " + run.keys() + ", " + strategy);
        }
    }

    @Property(tries = 40)
    void orderOfKeysMeansNothingUnderAFullMask(
            @ForAll long seed, @ForAll Layout.Policy policy, @ForAll @IntRange(min = 1, max = 4) int world) {
        AttentionShape shape = new AttentionShape(1, 2, 1, 9, 5, DType.FLOAT64);
        Problem problem = Problem.of(shape, 29, MaskRule.FULL, seed);
        List<Integer> order = new ArrayList<>(IntStream.range(0, 29).boxed().toList());
        Collections.shuffle(order, new Random(seed));
        Problem.Inputs inputs = problem.inputs();
        RingRun run = RingRun.of(problem, Layout.of(policy, 29, world));
        Result plain = run.run();
        Result permuted = run.run(new Problem.Inputs(
                inputs.q(), permute(inputs.k(), order, 9), permute(inputs.v(), order, 5), inputs.dout()));
        Result expected = new Result(
                plain.out(), plain.lse(), plain.dq(), permute(plain.dk(), order, 9), permute(plain.dv(), order, 5));
        permuted.requireWithin(BOUND, expected, "keys in order " + order);
    }

    private static double[] permute(double[] rows, List<Integer> order, int width) {
        double[] permuted = new double[rows.length];
        for (int i = 0; i < order.size(); i++) {
            System.arraycopy(rows, order.get(i) * width, permuted, i * width, width);
        }
        return permuted;
    }

    @Property(tries = 25)
    void placementInMemoryChangesNoBit(
            @ForAll long seed, @ForAll DType dtype, @ForAll @IntRange(min = 1, max = 3) int world) {
        Problem given = problem(seed, dtype);
        Problem problem = Problem.of(given.shape(), given.queryLength(), given.mask(), seed);
        for (Kernel kernel : Kernels.available(dtype)) {
            RingRun run = RingRun.of(problem, Layout.zigzag(problem.queryLength(), world))
                    .with(AttentionOptions.defaults().withKernel(kernel))
                    .with(dtype);
            Result dense = run.run();
            for (Placement placement : Placement.values()) {
                run.with(placement).run().requireSameBits(dense, problem + " with " + kernel + ", " + placement);
            }
        }
    }

    @Property(tries = 40)
    void whoSeesNothingGetsZeros(
            @ForAll long seed, @ForAll DType dtype, @ForAll @IntRange(min = 1, max = 4) int world) {
        Random random = new Random(seed);
        int end = random.nextInt(40);
        MaskRule mask =
                (random.nextBoolean() ? MaskRule.CAUSAL : MaskRule.FULL).documents(0, random.nextInt(end + 1), end);
        AttentionShape shape = new AttentionShape(1, 2, 1, 17, 11, dtype);
        Problem problem = Problem.of(shape, 40, mask, seed);
        for (Kernel kernel : Kernels.available(dtype)) {
            Result result = RingRun.of(problem, Layout.zigzag(40, world))
                    .with(AttentionOptions.defaults().withKernel(kernel))
                    .run();
            assertTail(result.out(), end * 2 * 11, 0);
            assertTail(result.lse(), end * 2, Double.NEGATIVE_INFINITY);
            assertTail(result.dq(), end * 2 * 17, 0);
            assertTail(result.dk(), end * 17, 0);
            assertTail(result.dv(), end * 11, 0);
        }
    }

    private static void assertTail(double[] values, int from, double expected) {
        for (int i = 0; i < values.length; i++) {
            if (i < from) {
                assertThat(values[i]).isFinite();
            } else {
                assertThat(values[i]).isEqualTo(expected);
            }
        }
    }
}
