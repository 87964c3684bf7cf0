package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.launch.Environment;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;
import org.flashring.support.MaskRule;
import org.flashring.support.Problem;
import org.flashring.support.RankProcesses;
import org.flashring.support.RequiresGpu;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/**
 * Ring, gather and halo over NCCL on all GPUs of the host against the same kernel on one GPU, forward and backward: by
 * threads, then by processes.
 */
class NcclRingTest {
    private static final Duration DEADLINE = Duration.ofSeconds(30);
    private static final int FEWEST = 2;
    private static final int WORLD = Math.max(FEWEST, Cuda.deviceCount());
    private static final int[] LENGTHS = {257, 131, 67};
    private static final List<Case> CASES = cases(WORLD);

    private record Case(Problem problem, Layout layout, Strategy strategy) {
        @Override
        public String toString() {
            return problem + ", " + layout + ", " + strategy;
        }
    }

    /** Returns all cases of {@code worldSize} ranks; those of one problem follow each other. */
    private static List<Case> cases(int worldSize) {
        List<Case> cases = new ArrayList<>();
        for (DType dtype : List.of(DType.BFLOAT16, DType.FLOAT32)) {
            for (AttentionShape shape :
                    List.of(AttentionShape.of(1, 32, 8, 64, dtype), AttentionShape.of(2, 4, 4, 128, dtype))) {
                for (int length : LENGTHS) {
                    for (MaskRule mask : List.of(
                            MaskRule.CAUSAL,
                            MaskRule.FULL,
                            MaskRule.FULL.window(20, 0),
                            MaskRule.CAUSAL.documents(0, length / 3, length / 3, length / 2, length))) {
                        Problem problem = Problem.of(shape, length, mask, cases.size());
                        for (Layout.Policy policy : Layout.Policy.values()) {
                            Ring ring = cases.size() % 3 == 0 ? new Ring(1 + cases.size() / 3 % 3) : new Ring();
                            cases.add(new Case(problem, Layout.of(policy, length, worldSize), ring));
                            if (policy == Layout.Policy.CONTIGUOUS) {
                                cases.add(new Case(problem, Layout.of(policy, length, worldSize), new Halo()));
                            } else if (policy == Layout.Policy.ZIGZAG && shape.queryHeads() >= worldSize) {
                                cases.add(new Case(problem, Layout.of(policy, length, worldSize), new Ulysses()));
                            } else {
                                cases.add(new Case(
                                        problem,
                                        Layout.of(policy, length, worldSize),
                                        new Gather(1 + cases.size() % 3)));
                            }
                        }
                    }
                }
            }
        }
        return List.copyOf(cases);
    }

    /** A problem, its inputs, and what one GPU made of them. */
    private record Solved(Problem problem, Problem.Inputs inputs, Result result) {
        /** Returns {@code known} if it is of {@code problem}, else what {@code device} makes of that. */
        static Solved on(Device device, Problem problem, Solved known) {
            if (known != null && known.problem() == problem) {
                return known;
            }
            Problem.Inputs inputs = problem.inputs();
            Result result = Result.none(problem);
            RingRun run = run(new Case(problem, Layout.contiguous(problem.queryLength(), 1), new Ring()));
            try (Communicator single = LocalGroup.single(device)) {
                run.rank(run.plan(), single, inputs, result, 0);
            }
            return new Solved(problem, inputs, result);
        }
    }

    private static RingRun run(Case one) {
        return RingRun.of(one.problem(), one.layout())
                .with(one.strategy())
                .with(AttentionOptions.defaults().onCuda());
    }

    private static void requireSame(Case one, Result result, Solved solved) {
        result.requireWithin(
                one.problem().shape().dtype() == DType.FLOAT32 ? 1e-4 : 0.06, solved.result(), one.toString());
    }

    @Test
    void theListCoversWhatItShould() {
        assertThat(CASES).hasSizeGreaterThanOrEqualTo(100).doesNotHaveDuplicates();
        for (Layout.Policy policy : Layout.Policy.values()) {
            for (DType dtype : List.of(DType.BFLOAT16, DType.FLOAT32)) {
                Predicate<Case> of = c ->
                        c.layout().policy() == policy && c.problem().shape().dtype() == dtype;
                assertThat(CASES)
                        .filteredOn(of.and(c -> c.problem().shape().queryHeads() == 32
                                && c.problem().shape().kvHeads() == 8))
                        .isNotEmpty();
                assertThat(CASES)
                        .filteredOn(of.and(c -> c.problem().shape().queryHeads()
                                == c.problem().shape().kvHeads()))
                        .isNotEmpty();
                assertThat(CASES)
                        .filteredOn(of.and(c -> c.problem().mask().equals(MaskRule.CAUSAL)))
                        .isNotEmpty();
                assertThat(CASES)
                        .filteredOn(of.and(c -> c.problem().mask().equals(MaskRule.FULL)))
                        .isNotEmpty();
                assertThat(CASES)
                        .filteredOn(of.and(c -> c.problem().mask().left() > 0))
                        .isNotEmpty();
                assertThat(CASES)
                        .filteredOn(of.and(c -> c.problem().mask().cuSeqlens() != null))
                        .isNotEmpty();
            }
        }
        assertThat(CASES)
                .allMatch(c -> c.layout().length() % 2 == 1 && c.layout().worldSize() == WORLD);
    }

    @TestFactory
    @RequiresGpu(value = FEWEST, nccl = true)
    Stream<DynamicTest> byThreads() {
        Threads threads = new Threads(NcclGroup.create(
                IntStream.range(0, WORLD).mapToObj(Device::cuda).toList(), DEADLINE));
        return CASES.stream()
                .map(one -> DynamicTest.dynamicTest(one.toString(), () -> threads.check(one)))
                .onClose(threads::close);
    }

    /** A group whose ranks are threads, for all cases one after the other. */
    private static final class Threads {
        private final List<Communicator> group;
        private Solved solved;

        Threads(List<Communicator> group) {
            this.group = group;
        }

        void check(Case one) {
            solved = Solved.on(Device.cuda(0), one.problem(), solved);
            RingRun run = run(one);
            Result result = Result.none(one.problem());
            inEachRank(rank -> {
                try (org.flashring.device.Stream stream = org.flashring.device.Stream.create(rank.device())) {
                    run.rank(run.plan(), rank, solved.inputs(), result, stream.handle());
                    rank.stream(0); // this one is about to be gone
                }
            });
            requireSame(one, result, solved);
        }

        /** Ranks of one JVM leave together. */
        void close() {
            inEachRank(Communicator::close);
        }

        private void inEachRank(Consumer<Communicator> action) {
            assertThat(group.stream()
                            .map(rank -> CompletableFuture.runAsync(
                                    () -> action.accept(rank), task -> new Thread(task).start()))
                            .toList())
                    .allSatisfy(rank -> assertThat(rank).succeedsWithin(Duration.ofSeconds(60)));
        }
    }

    @TestFactory
    @RequiresGpu(value = FEWEST, nccl = true)
    Stream<DynamicTest> byProcesses(@TempDir Path folder) throws Exception {
        RankProcesses ranks = RankProcesses.start(Rank.class, WORLD, folder);
        return IntStream.range(0, WORLD)
                .mapToObj(rank -> DynamicTest.dynamicTest("rank " + rank, () -> {
                    assertThat(ranks.exitCode(rank, Duration.ofSeconds(120)))
                            .as(ranks.output(rank))
                            .isZero();
                    assertThat(ranks.output(rank)).contains(CASES.size() + " cases agree, " + WORLD + " ranks");
                }));
    }

    /** What each process runs: all cases, each rank looking at its own tokens. */
    static final class Rank {
        private Rank() {}

        public static void main(String[] args) {
            List<Case> cases = cases(Environment.current().worldSize());
            try (Communicator communicator = NcclGroup.join(
                    Environment.current(), run(cases.get(0)).plan().terms(), DEADLINE)) {
                Solved solved = null;
                for (Case one : cases) {
                    solved = Solved.on(communicator.device(), one.problem(), solved);
                    Result result = solved.result().copy(); // of which this rank overwrites its own tokens
                    RingRun run = run(one);
                    run.rank(run.plan(), communicator, solved.inputs(), result, 0);
                    requireSame(one, result, solved);
                }
                communicator.barrier();
            }
            System.out.println(
                    cases.size() + " cases agree, " + Environment.current().worldSize() + " ranks");
        }
    }
}
