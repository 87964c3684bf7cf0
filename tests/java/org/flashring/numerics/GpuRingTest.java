package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Plan;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;
import org.flashring.support.MaskRule;
import org.flashring.support.Problem;
import org.flashring.support.RequiresGpu;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** The ring on GPUs against the CPU kernels in the same type: several ranks on one GPU, and copies between two. */
class GpuRingTest {
    private static final Duration DEADLINE = Duration.ofSeconds(30);
    private static final int[] LENGTHS = {257, 1, 130, 67, 512, 31};
    private static final int[][] HEADS = {{4, 1}, {2, 2}, {8, 2}};

    private record Case(Problem problem, Layout layout, Strategy strategy) {
        @Override
        public String toString() {
            return problem + ", " + layout + ", " + strategy;
        }
    }

    private static List<Case> cases(DType dtype, int... worlds) {
        List<Case> cases = new ArrayList<>();
        for (int world : worlds) {
            for (Layout.Policy policy : Layout.Policy.values()) {
                for (int mask = 0; mask < 4; mask++) {
                    int number = cases.size() / 3;
                    int length = LENGTHS[number % LENGTHS.length];
                    int[] heads = HEADS[number % HEADS.length];
                    AttentionShape shape =
                            AttentionShape.of(1 + number % 2, heads[0], heads[1], number % 4 < 2 ? 64 : 128, dtype);
                    Problem problem = Problem.of(shape, length, mask(mask, length), number);
                    Ring ring = number % 2 == 0 ? new Ring(1 + number / 2 % 2) : new Ring();
                    cases.add(new Case(problem, Layout.of(policy, length, world), ring));
                    Strategy other = mask > 1 && heads[0] >= world ? new Ulysses() : new Gather(1 + number % 2);
                    cases.add(new Case(problem, Layout.of(policy, length, world), other));
                    cases.add(new Case(problem, Layout.of(policy, length, world), new Halo()));
                }
            }
        }
        return cases;
    }

    private static MaskRule mask(int number, int length) {
        return switch (number) {
            case 0 -> MaskRule.CAUSAL;
            case 1 -> MaskRule.FULL;
            case 2 -> MaskRule.FULL.window(20, 0);
            default -> MaskRule.CAUSAL.documents(0, length / 3, length / 3, length / 2, length);
        };
    }

    @TestFactory
    @RequiresGpu
    Stream<DynamicTest> severalRanksOnOneGpuInFloat32() {
        return tests(
                cases(DType.FLOAT32, 1, 2, 3, 8),
                1e-4,
                world -> LocalGroup.create(Collections.nCopies(world, Device.cuda(0)), DEADLINE));
    }

    @TestFactory
    @RequiresGpu
    Stream<DynamicTest> severalRanksOnOneGpuInBfloat16() {
        return tests(
                cases(DType.BFLOAT16, 1, 2, 4, 8),
                0.06,
                world -> LocalGroup.create(Collections.nCopies(world, Device.cuda(0)), DEADLINE));
    }

    @TestFactory
    @RequiresGpu(2)
    Stream<DynamicTest> copiesBetweenGpus() {
        return tests(
                cases(DType.BFLOAT16, 2, 4),
                0.06,
                world -> LocalGroup.create(
                        IntStream.range(0, world)
                                .mapToObj(rank -> Device.cuda(rank % Cuda.deviceCount()))
                                .toList(),
                        DEADLINE));
    }

    private static Result onTheHost(Case one) {
        return RingRun.of(one.problem(), Layout.contiguous(one.problem().queryLength(), 1))
                .run();
    }

    private static RingRun run(Case one) {
        return RingRun.of(one.problem(), one.layout())
                .with(one.strategy())
                .with(AttentionOptions.defaults().onCuda());
    }

    private interface Groups {
        List<Communicator> create(int world);
    }

    private static Stream<DynamicTest> tests(List<Case> cases, double bound, Groups groups) {
        return cases.stream().map(one -> DynamicTest.dynamicTest(one.toString(), () -> check(one, bound, groups)));
    }

    private static void check(Case one, double bound, Groups groups) {
        Result expected = onTheHost(one);
        RingRun run = run(one);
        Plan plan = run.plan();
        Result result = Result.none(one.problem());
        Problem.Inputs inputs = one.problem().inputs();
        List<CompletableFuture<Void>> ranks = new ArrayList<>();
        for (Communicator communicator : groups.create(one.layout().worldSize())) {
            CompletableFuture<Void> done = new CompletableFuture<>();
            ranks.add(done);
            new Thread(() -> {
                        try (communicator;
                                org.flashring.device.Stream stream =
                                        org.flashring.device.Stream.create(communicator.device())) {
                            run.rank(plan, communicator, inputs, result, stream.handle());
                            communicator.barrier();
                        } catch (Throwable e) {
                            done.completeExceptionally(e);
                        }
                        done.complete(null);
                    })
                    .start();
        }
        assertThat(ranks).allSatisfy(rank -> assertThat(rank).succeedsWithin(Duration.ofSeconds(60)));
        result.requireWithin(bound, expected, one.toString());
    }
}
