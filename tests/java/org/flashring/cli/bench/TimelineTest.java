package org.flashring.cli.bench;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import javax.xml.parsers.DocumentBuilderFactory;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.cli.Cli;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.w3c.dom.Document;

/** Each step of each strategy is on the timeline, with what it sends and computes. */
class TimelineTest {
    private static final int WORLD = 4;

    @TempDir
    private Path folder;

    static Stream<Strategy> strategies() {
        return Stream.of(
                new Ring(),
                new Ring(1),
                new Gather(1),
                new Halo(),
                new Ulysses(),
                new Ulysses(2, new Ring()),
                new Ulysses(2, new Halo()));
    }

    @ParameterizedTest
    @MethodSource("strategies")
    void stepsAreThoseOfThePlan(Strategy strategy) {
        Plan plan = Plan.of(
                Problem.of(
                        AttentionShape.of(2, 4, 2, 8, DType.FLOAT32),
                        Layout.contiguous(53, WORLD),
                        Mask.causal().window(17, 0)),
                strategy,
                AttentionOptions.defaults());
        List<Timeline.Step> steps = LocalGroup.run(WORLD, ranks -> {
                    try (RankBench bench = new RankBench(List.of(plan), ranks)) {
                        return bench.timeline(0);
                    }
                })
                .get(0);
        assertThat(steps).hasSize(WORLD * (plan.steps() + plan.backwardSteps()));
        for (Timeline.Step step : steps) {
            assertThat(step.from()).isBetween(0L, step.computeFrom());
            assertThat(step.computeFrom()).isLessThanOrEqualTo(step.computeTo());
            assertThat(step.bytesSent())
                    .isEqualTo(
                            step.backward()
                                    ? plan.backwardBytesSent(step.rank(), step.step())
                                    : plan.forwardBytesSent(step.rank(), step.step()));
            int count = step.backward() ? plan.backwardSteps() : plan.steps();
            assertThat(step.headExchange())
                    .isEqualTo(strategy instanceof Ulysses && (step.step() == 0 || step.step() == count - 1));
            if (count == plan.steps()) { // else backward goes another way, as some heads at a time
                assertThat(step.computed()).isEqualTo(plan.computes(step.rank(), step.step()));
                assertThat(step.source()).isEqualTo(plan.source(step.rank(), step.step()));
            }
        }
    }

    /** The rows of keys that are met: in a halo the part that somebody sees. */
    @Test
    void partsAndGroupsAreTold() {
        assertThat(label(new Ring()))
                .contains("rank 1, forward step 1")
                .contains("16 rows of keys of rank 0, key heads 0 to 1");
        assertThat(label(new Halo()))
                .contains("rank 1, forward step 1")
                .contains("5 rows of keys of rank 0, key heads 0 to 1");
        assertThat(label(new Gather(1)))
                .contains("rank 1, forward step 1")
                .contains("32 rows of keys of several ranks, key heads 0 to 0")
                .contains("key heads 1 to 1");
        assertThat(label(new Ulysses())).contains("rank 1, forward step 0").contains("heads exchanged; sends ");
    }

    private static String label(Strategy strategy) {
        Plan plan = Plan.of(
                Problem.of(
                        AttentionShape.of(1, 4, 2, 8, DType.FLOAT32),
                        Layout.contiguous(32, 2),
                        Mask.causal().window(5, 0)),
                strategy,
                AttentionOptions.defaults());
        return TimelineSvg.of(
                "<&>",
                LocalGroup.run(2, ranks -> {
                            try (RankBench bench = new RankBench(List.of(plan), ranks)) {
                                return bench.timeline(0);
                            }
                        })
                        .get(0));
    }

    @Test
    void thePicturesAreWellFormed() throws Exception {
        Cli run = Cli.run(
                ("bench --ranks 2 --strategy all --length 64 --dim 16 --heads 2 --dtype float32 --causal --repeats 1"
                                + " --timeline " + folder)
                        .split(" "));
        assertThat(run.exitCode()).as(run.err()).isZero();
        try (Stream<Path> pictures = Files.list(folder)) {
            List<Path> all = pictures.sorted().toList();
            assertThat(all.stream().map(picture -> picture.getFileName().toString()))
                    .containsExactly(
                            "gather-of-1-head-float32-B1-H2-S64-D16-causal.svg",
                            "halo-float32-B1-H2-S64-D16-causal.svg",
                            "ring-float32-B1-H2-S64-D16-causal.svg",
                            "ulysses-float32-B1-H2-S64-D16-causal.svg");
            for (Path picture : all) {
                Document svg = DocumentBuilderFactory.newInstance()
                        .newDocumentBuilder()
                        .parse(picture.toFile());
                int steps = picture.getFileName().toString().startsWith("ring")
                                || picture.getFileName().toString().startsWith("halo")
                        ? 2
                        : 3;
                assertThat(svg.getElementsByTagName("g").getLength()).isEqualTo(2 * 2 * steps);
            }
        }
    }
}
