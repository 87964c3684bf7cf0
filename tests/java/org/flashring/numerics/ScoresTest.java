package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Score;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.kernel.Capability;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Plan;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;
import org.flashring.support.MaskRule;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.RankTensors;
import org.flashring.support.Result;
import org.flashring.support.ScoreOracle;
import org.flashring.support.TestTensor;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/**
 * Softcap, sinks and ALiBi against PyTorch's autograd in float64: out, lse, dq, dk, dv and dsinks over types, kernels,
 * masks, layouts, strategies and worlds.
 */
class ScoresTest {
    private static final int CASES = 1000;
    private static final int[] WORLDS = {1, 2, 3, 4, 8};
    private static final int[][] HEADS = {{1, 1}, {3, 3}, {4, 2}, {6, 2}, {4, 1}, {6, 1}, {8, 4}};
    private static final int[] DIMS = {1, 5, 8, 16, 17, 33, 64, 264, 512};

    /**
     * One case.
     *
     * @param sinks of each query head, empty without them
     */
    private record Case(
            int number,
            Problem problem,
            Layout layout,
            Strategy strategy,
            Score score,
            double[] sinks,
            Kernel kernel,
            boolean narrowWire) {
        static Case of(int number) {
            Random random = new Random(number);
            int world = WORLDS[number % WORLDS.length];
            int length = 1 + random.nextInt(60);
            DType dtype = DType.values()[number / 2 % DType.values().length];
            int[] heads = HEADS[random.nextInt(HEADS.length)];
            int dim = DIMS[random.nextInt(DIMS.length)];
            int valueDim = random.nextInt(4) == 0 ? DIMS[random.nextInt(DIMS.length)] : dim;
            AttentionShape shape = new AttentionShape(1 + random.nextInt(2), heads[0], heads[1], dim, valueDim, dtype);
            Problem problem = Problem.of(shape, length, mask(random, length), number);
            Layout.Policy[] policies = Layout.Policy.values();
            Layout layout = Layout.of(policies[random.nextInt(policies.length)], length, world);
            List<Strategy> strategies = strategies(world, heads[0]);
            int features = 1 + number % 7;
            double[] slopes = (features & 1) == 0
                    ? new double[0]
                    : random.doubles(heads[0], -7, 0)
                            .map(Math::exp)
                            .map(x -> (float) x)
                            .toArray();
            Score score = Score.standard().withAlibi(slopes);
            score = (features & 2) == 0 ? score : score.withSinks();
            score = (features & 4) == 0 ? score : score.withSoftcap(Math.exp(4 * random.nextDouble() - 1));
            double[] sinks = !score.sinks()
                    ? new double[0]
                    : random.doubles(heads[0], -3, 5)
                            .map(x -> random.nextInt(6) == 0 ? Double.NEGATIVE_INFINITY : (float) x)
                            .toArray();
            List<Kernel> kernels = kernels(shape, score);
            return new Case(
                    number,
                    problem,
                    layout,
                    strategies.get(number / WORLDS.length % strategies.size()),
                    score,
                    sinks,
                    kernels.get(random.nextInt(kernels.size())),
                    random.nextInt(3) == 0);
        }

        private static MaskRule mask(Random random, int length) {
            long[] documents = random.longs(5, 0, length + 1L).sorted().toArray();
            documents[0] = 0;
            return switch (random.nextInt(7)) {
                case 0 -> MaskRule.FULL;
                case 1 -> MaskRule.CAUSAL.window(random.nextInt(length), 0);
                case 2 -> MaskRule.FULL.window(random.nextInt(length), random.nextInt(length));
                case 3 -> MaskRule.CAUSAL.documents(documents);
                case 4 -> MaskRule.CAUSAL.prefix(length / 3);
                case 5 -> MaskRule.FULL.documents(documents).window(length / 3, 1);
                default -> MaskRule.CAUSAL;
            };
        }

        private static List<Strategy> strategies(int world, int queryHeads) {
            List<Strategy> all = new ArrayList<>(List.of(new Ring(), new Gather(1), new Halo(), new Gather(3)));
            all.add(new Ring(true));
            all.add(new Ring(1));
            if (world > 1 && queryHeads >= world) {
                all.add(new Ulysses());
            }
            if (world % 2 == 0 && world > 2 && queryHeads > 1) {
                all.add(new Ulysses(2, new Ring()));
                all.add(new Ulysses(2, new Ring(true)));
                all.add(new Ulysses(2, new Gather(2)));
                all.add(new Ulysses(2, new Halo()));
            }
            return all;
        }

        private static List<Kernel> kernels(AttentionShape shape, Score score) {
            return Capability.all().stream()
                    .filter(row -> row.available() && !row.cuda() && row.backward())
                    .filter(row -> row.dtype() == shape.dtype() && row.serves(score))
                    .filter(row -> Math.max(shape.headDim(), shape.valueDim()) <= row.maxHeadDim())
                    .map(Capability::kernel)
                    .toList();
        }

        Plan plan() {
            AttentionOptions options = AttentionOptions.defaults().withKernel(kernel);
            options = narrowWire ? options.withWireDType(problem.shape().dtype()) : options;
            return Plan.of(
                    new org.flashring.plan.Problem(
                            problem.shape(), layout, layout, problem.mask().mask(), score),
                    strategy,
                    options);
        }

        @Override
        public String toString() {
            return "case " + number + ": " + problem.shape() + ", " + layout + ", " + problem.mask() + ", " + strategy
                    + ", " + score + ", " + kernel + (narrowWire ? ", narrow wire" : "");
        }
    }

    /** Every 41st case; with those of the profile "full" all of them. */
    @TestFactory
    Stream<DynamicTest> agreesWithAutograd() {
        return tests(number -> number % 41 == 0);
    }

    @Tag("full")
    @TestFactory
    Stream<DynamicTest> agreesInTheOtherCasesToo() {
        return tests(number -> number % 41 != 0);
    }

    private static Stream<DynamicTest> tests(IntPredicate taken) {
        return IntStream.range(0, CASES)
                .filter(taken)
                .mapToObj(Case::of)
                .map(each -> DynamicTest.dynamicTest(each.toString(), () -> check(each)));
    }

    private static void check(Case each) {
        ScoreOracle expected = ScoreOracle.of(each.problem(), each.score(), each.sinks());
        Result actual = Result.none(each.problem());
        double[] dsinks = new double[each.sinks().length];
        Plan plan = each.plan();
        LocalGroup.run(plan.worldSize(), communicator -> {
            double[] own = rank(each, plan, communicator, actual);
            synchronized (dsinks) { // as an all-reduce would
                Arrays.setAll(dsinks, head -> dsinks[head] + own[head]);
            }
            return null;
        });
        double bound =
                switch (each.problem().shape().dtype()) {
                    case FLOAT64 -> 1e-12;
                    case FLOAT32 -> 1e-5;
                    case FLOAT16 -> 1e-2;
                    case BFLOAT16 -> 5e-2;
                };
        actual.differences(expected.result()).forEach((name, difference) -> assertThat(difference.error())
                .as("%s is off by %s; %s", name, difference, each)
                .isLessThanOrEqualTo(bound * Math.max(1, expected.result().largest(name))));
        double terms = Math.sqrt(each.problem().queryElements(1)); // what each delta is off adds up
        for (int head = 0; head < dsinks.length; head++) {
            assertThat(Math.abs(dsinks[head] - expected.dsinks()[head]))
                    .as("dsinks[%d] is %s, not %s; %s", head, dsinks[head], expected.dsinks()[head], each)
                    .isLessThanOrEqualTo(bound * terms);
        }
    }

    /** Returns this rank's part of dsinks. */
    private static double[] rank(Case each, Plan plan, Communicator communicator, Result result) {
        AttentionShape shape = each.problem().shape();
        DType wide = shape.dtype().accumulator();
        var positions = each.layout().positions(communicator.rank());
        RankTensors t = new RankTensors(shape, positions, positions, Placement.DENSE, wide);
        t.scatter(each.problem().inputs());
        TestTensor sinks = TestTensor.dense(wide, 1, 1, shape.queryHeads(), 1);
        TestTensor dsinks = TestTensor.dense(wide, 1, 1, shape.queryHeads(), 1);
        for (int head = 0; head < each.sinks().length; head++) {
            sinks.put(0, 0, head, 0, each.sinks()[head]);
        }
        boolean given = each.score().sinks();
        Forward forward = new Forward(
                t.q.tensor(),
                t.k.tensor(),
                t.v.tensor(),
                t.out.tensor(),
                t.lse.tensor(),
                given ? sinks.tensor() : null);
        try (ShardedAttention attention = new ShardedAttention(plan, communicator)) {
            attention.forward(forward, 0);
            attention.backward(
                    new Backward(
                            forward,
                            t.dout.tensor(),
                            t.dq.tensor(),
                            t.dk.tensor(),
                            t.dv.tensor(),
                            given ? dsinks.tensor() : null),
                    0);
        }
        t.requireFencesWhole();
        t.gather(result);
        return IntStream.range(0, each.sinks().length)
                .mapToDouble(head -> dsinks.get(0, 0, head, 0))
                .toArray();
    }

    /** What the operands must fit, ranks compare before their first call. */
    @Test
    void termsTellWhetherThereAreSinks() {
        Case each = Case.of(1);
        assertThat(each.score().sinks()).isTrue();
        assertThat(each.plan().terms()).containsEntry("sinks", "true").containsEntry("softcap", "0.0");
        assertThat(Case.of(0).plan().terms()).containsEntry("sinks", "false").containsKey("alibiSlopes");
    }

    /** A sign that changes no number must change neither what ranks compare nor the slope of the head beside it. */
    @Test
    void negativeZeroIsZero() {
        Score zero = Score.standard().withAlibi(0.0, 0.5);
        assertThat(Score.standard().withAlibi(-0.0, 0.5).withSoftcap(-0.0)).isEqualTo(zero);
    }

    @Test
    void casesCoverWhatTheyShould() {
        List<Case> all = IntStream.range(0, CASES).mapToObj(Case::of).toList();
        assertThat(all.stream().map(each -> each.strategy().toString()).distinct())
                .hasSizeGreaterThanOrEqualTo(8);
        for (DType dtype : DType.values()) {
            for (int world : WORLDS) {
                for (int features = 1; features < 8; features++) {
                    int wanted = features;
                    assertThat(all.stream()
                                    .filter(each -> each.problem().shape().dtype() == dtype
                                            && each.layout().worldSize() == world
                                            && each.number() % 7 + 1 == wanted))
                            .as("%s over %d ranks with scores %d", dtype, world, features)
                            .isNotEmpty();
                }
            }
        }
    }
}
