package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import java.util.function.IntPredicate;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;
import org.flashring.support.Capped;
import org.flashring.support.Kernels;
import org.flashring.support.Oracle;
import org.flashring.support.Problem;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** Every strategy in float64 against PyTorch in float64: out, lse, dq, dk and dv of every case. */
class GridTest {
    private static final double BOUND = 1e-12;
    private static final List<GridCase> CASES = GridCase.all();

    private Problem solved;
    private Result solution;

    /** Two of seven cases by ring; with those of the profile "full" all of them. */
    @TestFactory
    Stream<DynamicTest> agreesWithPyTorch() {
        return ring(GridTest::sampled);
    }

    @Tag("full")
    @TestFactory
    Stream<DynamicTest> agreesInTheOtherCasesToo() {
        return ring(number -> !sampled(number));
    }

    private static boolean sampled(int number) {
        return number % 7 < 2;
    }

    private Stream<DynamicTest> ring(IntPredicate taken) {
        Integer only = Integer.getInteger("flashring.case");
        return CASES.stream()
                .filter(gridCase -> only == null ? taken.test(gridCase.number()) : gridCase.number() == only)
                .map(gridCase -> DynamicTest.dynamicTest(gridCase.toString(), () -> check(gridCase, new Ring())));
    }

    /** Every sixth case by gather; with those of the profile "full" all of them. */
    @TestFactory
    Stream<DynamicTest> gatherAgreesWithPyTorch() {
        return by("gather", GridTest::gather, number -> number % 6 == 0);
    }

    @Tag("full")
    @TestFactory
    Stream<DynamicTest> gatherAgreesInTheOtherCasesToo() {
        return by("gather", GridTest::gather, number -> number % 6 != 0);
    }

    /** Every 17th case by halo; with those of the profile "full" all of them. */
    @TestFactory
    Stream<DynamicTest> haloAgreesWithPyTorch() {
        return by("halo", gridCase -> new Halo(), number -> number % 17 == 0);
    }

    @Tag("full")
    @TestFactory
    Stream<DynamicTest> haloAgreesInTheOtherCasesToo() {
        return by("halo", gridCase -> new Halo(), number -> number % 17 != 0);
    }

    /** Every 31st case by a ring of some heads; with those of the profile "full" all of them. */
    @TestFactory
    Stream<DynamicTest> ringOfSomeHeadsAgreesWithPyTorch() {
        return by("ring of some heads", GridTest::ringOfSomeHeads, number -> number % 31 == 0);
    }

    @Tag("full")
    @TestFactory
    Stream<DynamicTest> ringOfSomeHeadsAgreesInTheOtherCasesToo() {
        return by("ring of some heads", GridTest::ringOfSomeHeads, number -> number % 31 != 0);
    }

    private Stream<DynamicTest> by(String name, Function<GridCase, Strategy> strategy, IntPredicate taken) {
        Integer only = Integer.getInteger("flashring.case");
        return CASES.stream()
                .filter(gridCase -> gridCase.layout().worldSize() > 1 && taken.test(gridCase.number()))
                .filter(gridCase -> only == null || gridCase.number() == only)
                .map(gridCase -> DynamicTest.dynamicTest(
                        name + ", " + gridCase, () -> check(gridCase, strategy.apply(gridCase))));
    }

    /** Returns gather of one to three heads at once, or of all. */
    private static Strategy gather(GridCase gridCase) {
        int turn = gridCase.number() % 4;
        return new Gather(turn == 3 ? Long.MAX_VALUE : 1 + turn);
    }

    /** Returns a ring of one to three heads at once. */
    private static Strategy ringOfSomeHeads(GridCase gridCase) {
        return new Ring(1 + gridCase.number() % 3);
    }

    /** Every 24th case by one of the ways to exchange heads in it; with those of the profile "full" by all of them. */
    @TestFactory
    Stream<DynamicTest> ulyssesAgreesWithPyTorch() {
        return exchanged(CASES.stream().filter(gridCase -> gridCase.number() % 24 == 1), true);
    }

    @Tag("full")
    @TestFactory
    Stream<DynamicTest> ulyssesAgreesInEveryWayAndCase() {
        return exchanged(CASES.stream(), false);
    }

    private Stream<DynamicTest> exchanged(Stream<GridCase> cases, boolean one) {
        Integer only = Integer.getInteger("flashring.case");
        return cases.filter(gridCase -> only == null || gridCase.number() == only)
                .flatMap(gridCase -> {
                    List<Strategy> ways = ulysses(gridCase);
                    int turn = ways.isEmpty() ? 0 : gridCase.number() / 24 % ways.size();
                    return (one && !ways.isEmpty() ? ways.subList(turn, turn + 1) : ways)
                            .stream()
                                    .map(strategy -> DynamicTest.dynamicTest(
                                            strategy + ", " + gridCase, () -> check(gridCase, strategy)));
                });
    }

    /** Returns Ulysses over all ranks and, where they divide, 2-D: none where there are fewer heads than ranks. */
    private static List<Strategy> ulysses(GridCase gridCase) {
        int world = gridCase.layout().worldSize();
        List<Strategy> ways = new ArrayList<>();
        for (int ranks = 2; ranks <= Math.min(world, gridCase.problem().shape().queryHeads()); ranks++) {
            if (ranks == world) {
                ways.add(new Ulysses());
            } else if (world % ranks == 0) {
                ways.add(new Ulysses(ranks, new Ring()));
                ways.add(new Ulysses(ranks, gather(gridCase)));
                ways.add(new Ulysses(ranks, new Halo()));
            }
        }
        return ways;
    }

    private void check(GridCase gridCase, Strategy strategy) {
        if (solved != gridCase.problem()) {
            solution = Oracle.float64(gridCase.problem());
            solved = gridCase.problem();
        }
        Result result;
        try {
            result = RingRun.of(gridCase.problem(), gridCase.layout())
                    .with(strategy)
                    .with(gridCase.placement())
                    .run();
        } catch (RuntimeException | AssertionError e) {
            throw new AssertionError(gridCase.replay(), e);
        }
        result.requireWithin(BOUND, solution, strategy + ", " + gridCase.replay());
    }

    /**
     * Every fifth case in the narrow types, which gather in buffers of their own and travel rounded; each with another
     * kernel. How exact these types are is measured elsewhere; here the bound is wide.
     */
    @Capped
    @TestFactory
    Stream<DynamicTest> narrowTypesAgreeRoughly() {
        Integer only = Integer.getInteger("flashring.case");
        return CASES.stream()
                .filter(gridCase -> only == null ? gridCase.number() % 5 == 0 : gridCase.number() == only)
                .map(gridCase -> DynamicTest.dynamicTest(gridCase.toString(), () -> checkNarrow(gridCase)));
    }

    private static void checkNarrow(GridCase gridCase) {
        int turn = gridCase.number() / 5;
        DType dtype = DType.values()[1 + turn % 3];
        List<Kernel> kernels = Kernels.available(dtype);
        checkNarrow(gridCase, dtype, kernels.get(turn / 3 % kernels.size()), turn % 2 != 0, strategy(gridCase, turn));
    }

    private static Strategy strategy(GridCase gridCase, int turn) {
        List<Strategy> ways = ulysses(gridCase);
        return switch (turn % 4) {
            case 1 -> new Halo();
            case 2 -> ways.isEmpty() ? new Ring() : ways.get(turn / 4 % ways.size());
            case 3 -> turn / 4 % 2 == 0 ? gather(gridCase) : ringOfSomeHeads(gridCase);
            default -> turn / 4 % 2 == 0 ? new Ring() : ringOfSomeHeads(gridCase);
        };
    }

    /** Every case in every narrow type with every kernel. */
    @Tag("full")
    @TestFactory
    Stream<DynamicTest> allNarrowTypesAgreeRoughlyWithAllKernels() {
        Integer only = Integer.getInteger("flashring.case");
        return CASES.stream()
                .filter(gridCase -> only == null || gridCase.number() == only)
                .map(gridCase -> DynamicTest.dynamicTest(gridCase.toString(), () -> checkAllNarrow(gridCase)));
    }

    private static void checkAllNarrow(GridCase gridCase) {
        for (DType dtype : List.of(DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16)) {
            for (Kernel kernel : Kernels.available(dtype)) {
                checkNarrow(gridCase, dtype, kernel, gridCase.number() % 2 != 0, new Ring());
                checkNarrow(
                        gridCase,
                        dtype,
                        kernel,
                        gridCase.number() % 2 == 0,
                        gridCase.number() / 2 % 2 == 0 ? gather(gridCase) : new Halo());
                checkNarrow(gridCase, dtype, kernel, gridCase.number() / 4 % 2 == 0, ringOfSomeHeads(gridCase));
                for (Strategy strategy : ulysses(gridCase)) {
                    checkNarrow(gridCase, dtype, kernel, gridCase.number() % 2 == 1, strategy);
                }
            }
        }
    }

    private static void checkNarrow(
            GridCase gridCase, DType dtype, Kernel kernel, boolean narrowWire, Strategy strategy) {
        AttentionOptions options = AttentionOptions.defaults().withKernel(kernel);
        options = narrowWire ? options.withWireDType(dtype) : options;
        Problem problem = gridCase.problem().in(dtype);
        Result exact = Oracle.float64(problem);
        double bound =
                switch (dtype) {
                    case FLOAT64 -> BOUND;
                    case FLOAT32 -> 1e-5;
                    case FLOAT16 -> 1e-2;
                    case BFLOAT16 -> 5e-2;
                };
        String replay = strategy + ", " + dtype + ", " + options + ", " + gridCase.replay();
        Result result;
        try {
            result = RingRun.of(problem, gridCase.layout())
                    .with(strategy)
                    .with(options)
                    .with(gridCase.placement())
                    .with(dtype)
                    .run();
        } catch (RuntimeException | AssertionError e) {
            throw new AssertionError(replay, e);
        }
        result.differences(exact).forEach((name, difference) -> assertThat(difference.error())
                .as("%s is off by %s; %s", name, difference, replay)
                .isLessThanOrEqualTo(bound * Math.max(1, exact.largest(name))));
    }

    @Test
    void sampledCasesCoverWhatTheyShould() {
        assertThat(CASES).hasSizeGreaterThanOrEqualTo(1500);
        for (int world : GridCase.WORLDS) {
            for (Layout.Policy policy : Layout.Policy.values()) {
                assertThat(count(c ->
                                c.layout().worldSize() == world && c.layout().policy() == policy))
                        .isGreaterThanOrEqualTo(25);
            }
        }
        assertThat(count(c -> c.layout().length() < c.layout().worldSize()))
                .as("lengths below the world size")
                .isPositive();
        assertThat(count(c -> emptyShards(c.layout()) > 0)).as("empty shards").isPositive();
        assertThat(count(c ->
                        c.problem().shape().queryHeads() == c.problem().shape().kvHeads()))
                .as("multi-head")
                .isPositive();
        assertThat(count(c -> c.problem().shape().kvHeads() == 1
                        && c.problem().shape().queryHeads() > 1))
                .as("multi-query")
                .isPositive();
        assertThat(count(c -> c.problem().shape().kvHeads() > 1
                        && c.problem().shape().kvHeads() < c.problem().shape().queryHeads()))
                .as("grouped-query")
                .isPositive();
        assertThat(count(c -> c.problem().shape().headDim() % 2 == 1))
                .as("odd head dims")
                .isPositive();
        assertThat(count(c ->
                        c.problem().shape().headDim() != c.problem().shape().valueDim()))
                .as("value dims of their own")
                .isPositive();
        assertThat(count(c -> c.problem().shape().batch() > 1)).as("batches").isPositive();
        assertThat(count(c -> hasDocumentOf(c, 0))).as("empty documents").isPositive();
        assertThat(count(c -> hasDocumentOf(c, 1))).as("documents of one token").isPositive();
        assertThat(count(c -> seesNothing(c.problem())))
                .as("queries that see nothing")
                .isPositive();
    }

    private static long count(Predicate<GridCase> predicate) {
        return CASES.stream()
                .filter(c -> sampled(c.number()) && predicate.test(c))
                .count();
    }

    private static long emptyShards(Layout layout) {
        return IntStream.range(0, layout.worldSize())
                .filter(rank -> layout.localLength(rank) == 0)
                .count();
    }

    private static boolean hasDocumentOf(GridCase gridCase, long tokens) {
        long[] offsets = gridCase.problem().mask().cuSeqlens();
        for (int i = 1; offsets != null && i < offsets.length; i++) {
            if (offsets[i] - offsets[i - 1] == tokens) {
                return true;
            }
        }
        return false;
    }

    private static boolean seesNothing(Problem problem) {
        for (boolean[] row : problem.mask().matrix(problem.queryLength(), problem.keyLength())) {
            boolean any = false;
            for (boolean sees : row) {
                any |= sees;
            }
            if (!any) {
                return true;
            }
        }
        return false;
    }
}
