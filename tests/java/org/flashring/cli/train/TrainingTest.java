package org.flashring.cli.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.offset;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.cli.support.Launched;
import org.flashring.comm.Communicator;
import org.flashring.comm.Mesh;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Ring;
import org.flashring.support.RankProcesses;
import org.flashring.support.Strategies;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Whole training runs of a tiny model: sharding changes nothing, the loss falls, nothing leaks. */
class TrainingTest {
    private static final Model TINY = new Model(2, 4, 2, 16);
    private static final Supplier<List<Transformer.Parameter>> NOT_ASKED = () -> {
        throw new AssertionError("no gradient differs enough to be judged");
    };

    @TempDir
    private Path folder;

    private Corpus corpus;

    @BeforeEach
    void writeText() throws IOException {
        corpus = Corpus.read(List.of(
                Files.writeString(folder.resolve("text"), "A ring of ranks passes its keys around. ".repeat(20))));
    }

    @ParameterizedTest(name = "{0} ranks, {1}, {2} bytes, window {3}")
    @CsvSource({
        "1, ZIGZAG, 37, 0",
        "2, CONTIGUOUS, 37, 0",
        "2, ZIGZAG, 41, 0",
        "2, STRIPED, 37, 0",
        "3, CONTIGUOUS, 37, 0",
        "3, ZIGZAG, 61, 7",
        "3, STRIPED, 37, 0",
        "4, CONTIGUOUS, 61, 7",
        "4, ZIGZAG, 61, 0",
        "4, STRIPED, 61, 7",
        "8, ZIGZAG, 5, 0",
        "8, STRIPED, 3, 0"
    })
    void ranksLearnWhatOneRankLearns(int ranks, Layout.Policy layout, int context, int window) {
        Comparison.Result comparison = run(
                        new Settings(TINY, ranks, 4, context, 2, 1e-3, layout, window, 7, new Ring()), true)
                .comparison();
        assertThat(comparison.lossDifference()).isLessThanOrEqualTo(1e-5);
        assertThat(comparison.gradientDifference()).isLessThanOrEqualTo(1e-4);
        assertThat(comparison.passed()).isTrue();
    }

    /** Some meshes have an uneven number of sequences for each replica. */
    @ParameterizedTest(name = "{0}, {1} sequences, {2}, {3}")
    @CsvSource({
        "'dp=2,cp=2', 2, ZIGZAG, ring",
        "'dp=2,cp=2', 3, STRIPED, gather 1",
        "'cp=2,dp=2', 2, CONTIGUOUS, ring",
        "'dp=4', 5, ZIGZAG, ring",
        "'dp=2,cp=2x2', 3, ZIGZAG, gather 1",
        "'cp=4,dp=2', 2, STRIPED, ring",
        "'dp=2,cp=2', 3, ZIGZAG, ulysses"
    })
    void meshesLearnWhatOneRankLearns(String axes, int batch, Layout.Policy layout, String strategy) {
        requireSameAsOneRank(Mesh.of(axes), batch, layout, strategy);
    }

    @ParameterizedTest(name = "{0}, {1} sequences, {2}, {3}")
    @Tag("full")
    @CsvSource({
        "'dp=2,cp=4', 2, ZIGZAG, ulysses",
        "'dp=2,cp=4', 3, STRIPED, 2 x ring",
        "'cp=8', 2, ZIGZAG, 2 x ring",
        "'cp=8', 2, ZIGZAG, 4 x gather 1",
        "'cp=8', 1, CONTIGUOUS, 4 x halo",
        "'cp=2x4', 2, STRIPED, 4 x ring"
    })
    void exchangedHeadsOverEightRanksTeachTheSame(String axes, int batch, Layout.Policy layout, String strategy) {
        requireSameAsOneRank(Mesh.of(axes), batch, layout, strategy);
    }

    private void requireSameAsOneRank(Mesh mesh, int batch, Layout.Policy layout, String strategy) {
        Settings settings = new Settings(TINY, mesh, 3, 37, batch, 1e-3, layout, 0, 7, Strategies.named(strategy));
        Comparison.Result comparison = run(settings, true).comparison();
        assertThat(comparison.lossDifference()).isLessThanOrEqualTo(1e-5);
        assertThat(comparison.gradientDifference()).isLessThanOrEqualTo(1e-4);
        assertThat(comparison.passed()).isTrue();
    }

    /** In float64, where nothing is left to rounding: the loss, and every gradient on every rank. */
    @ParameterizedTest(name = "{0}, {1} sequences, {2}")
    @CsvSource({
        "'dp=2,cp=2', 3, ZIGZAG",
        "'cp=2,dp=2', 2, STRIPED",
        "'dp=2,cp=2x2', 2, CONTIGUOUS",
        "'cp=4,dp=2', 3, ZIGZAG"
    })
    @SuppressWarnings("try") // a scope works by being open
    void gradientsOverMeshesAreThoseOfOneRank(String axes, int batch, Layout.Policy layout) {
        Settings settings = new Settings(TINY, Mesh.of(axes), 1, 29, batch, 1e-3, layout, 0, 7, new Ring());
        long[][] tokens = corpus.batch(batch, 29, new Random(5));
        try (Communicator alone = LocalGroup.single();
                Replica one = new Replica(settings.withOneRank(), DType.FLOAT64, alone)) {
            double loss = one.backward(tokens);
            LocalGroup.run(settings.mesh().worldSize(), world -> {
                try (Replica replica = new Replica(settings, DType.FLOAT64, world);
                        PointerScope scope = new PointerScope()) {
                    assertThat(replica.backward(tokens)).isCloseTo(loss, offset(1e-12));
                    for (int i = 0; i < one.transformer().parameters().size(); i++) {
                        Tensor expected =
                                one.transformer().parameters().get(i).tensor().grad();
                        Tensor actual = replica.transformer()
                                .parameters()
                                .get(i)
                                .tensor()
                                .grad();
                        assertThat(actual.sub(expected).abs().max().item_double())
                                .as(one.transformer().parameters().get(i).name())
                                .isLessThanOrEqualTo(1e-12);
                    }
                }
                return null;
            });
        }
    }

    @ParameterizedTest
    @CsvSource({"3, gather 1", "3, halo", "4, ulysses", "4, 2 x ring"})
    void otherStrategiesTeachTheSame(int ranks, String strategy) {
        requireSameAsOneRank(Mesh.of("cp=" + ranks), 2, Layout.Policy.ZIGZAG, strategy);
    }

    @Test
    void lossFalls() {
        List<Training.Step> steps = run(
                        new Settings(TINY, 3, 40, 61, 2, 3e-3, Layout.Policy.ZIGZAG, 0, 1, new Ring()), false)
                .steps();
        assertThat(steps).hasSize(40);
        assertThat(steps.get(0).loss()).isBetween(5.0, 7.0); // ln 256 = 5.5: nothing is known yet
        assertThat(steps.get(39).loss()).isLessThan(3.3); // the text's 15 letters alone give ln 15 = 2.7
    }

    @Test
    void everySeedIsRepeatable() {
        Settings settings = new Settings(TINY, 2, 3, 31, 1, 1e-3, Layout.Policy.ZIGZAG, 0, 5, new Ring());
        assertThat(losses(run(settings, false))).isEqualTo(losses(run(settings, false)));
    }

    /** Threads play the processes: a communicator of theirs is all that tells them from threads. */
    @ParameterizedTest
    @ValueSource(strings = {"cp=4", "dp=2,cp=2"})
    void processesLearnWhatThreadsLearnToTheBit(String mesh) {
        Settings settings = new Settings(TINY, Mesh.of(mesh), 3, 61, 2, 1e-3, Layout.Policy.ZIGZAG, 0, 5, new Ring());
        String port = String.valueOf(RankProcesses.freePort());
        List<CompletableFuture<Training.Outcome>> processes = IntStream.range(0, 4)
                .mapToObj(rank -> Launched.of(Map.of(
                        "RANK",
                        String.valueOf(rank),
                        "LOCAL_RANK",
                        String.valueOf(rank),
                        "WORLD_SIZE",
                        "4",
                        "MASTER_ADDR",
                        "127.0.0.1",
                        "MASTER_PORT",
                        port)))
                .map(launched -> CompletableFuture.supplyAsync(
                        () -> new Training(settings, corpus, false, launched, step -> {}).run(),
                        command -> new Thread(command).start()))
                .toList();
        assertThat(losses(processes.get(0).join())).hasSize(3).isEqualTo(losses(run(settings, false)));
        assertThat(processes.subList(1, 4))
                .allSatisfy(process -> assertThat(process.join().steps()).isEmpty());
    }

    @Test
    void keepsNoNativeObjectFromStepToStep() {
        List<Long> live = new ArrayList<>();
        new Training(
                        new Settings(TINY, 1, 12, 31, 1, 1e-3, Layout.Policy.ZIGZAG, 0, 1, new Ring()),
                        corpus,
                        true,
                        null,
                        step -> live.add(liveObjects()))
                .run();
        assertThat(live.get(11)).isLessThanOrEqualTo(live.get(2));
    }

    /** Returns the native objects that Java holds once the collector has been: it alone knows of hooks handed over. */
    private static long liveObjects() {
        long before = Long.MAX_VALUE;
        long now = Pointer.totalCount();
        while (now < before) {
            before = now;
            System.gc();
            try {
                Thread.sleep(50); // for the thread that takes what was collected off the list
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
            now = Pointer.totalCount();
        }
        return now;
    }

    @Test
    @SuppressWarnings("try") // a scope works by being open
    void comparisonSeesDifferences() {
        try (PointerScope scope = new PointerScope()) {
            List<Transformer.Parameter> parameters = new Transformer(TINY, 1, DType.FLOAT32).parameters();
            List<Transformer.Parameter> others = new Transformer(TINY, 1, DType.FLOAT32).parameters();
            for (int i = 0; i < parameters.size(); i++) {
                parameters.get(i).tensor().square().sum().backward();
                others.get(i).tensor().square().sum().backward();
            }
            Comparison equal = new Comparison();
            equal.add(1, 2.5, 2.5, parameters, others, NOT_ASKED);
            assertThat(equal.result())
                    .isEqualTo(new Comparison.Result(0, 1e-5, 0, 1e-4, "none", 0, 0, 0, 20, 0, 3, true));

            Comparison lossApart = new Comparison();
            lossApart.add(1, 2.5, 2.50002, parameters, others, NOT_ASKED);
            assertThat(lossApart.result().passed()).isFalse();
            Comparison lossLost = new Comparison();
            lossLost.add(1, Double.NaN, 2.5, parameters, others, NOT_ASKED);
            assertThat(lossLost.result().passed()).isFalse();

            Tensor gradient = parameters.get(3).tensor().grad();
            gradient.mul_(new Scalar(1.001));
            Comparison gradientApart = new Comparison();
            gradientApart.add(9, 2.5, 2.5, parameters, others, () -> others);
            assertThat(gradientApart.result().gradientDifference()).isBetween(9e-4, 1.1e-3);
            assertThat(gradientApart.result().parameter())
                    .isEqualTo(parameters.get(3).name());
            assertThat(gradientApart.result().step()).isEqualTo(9);
            assertThat(gradientApart.result().passed()).isFalse();

            List<Transformer.Parameter> exact = new Transformer(TINY, 1, DType.FLOAT64).parameters();
            exact.forEach(parameter -> parameter.tensor().square().sum().backward());
            exact.get(3).tensor().grad().mul_(new Scalar(1.0006)); // others are off by 6e-4, parameters by 4e-4
            Comparison bothOff = new Comparison();
            bothOff.add(9, 2.5, 2.5, parameters, others, () -> exact);
            assertThat(bothOff.result().worstRatio()).isCloseTo(2 / 3.0, offset(0.01));
            assertThat(bothOff.result().passed()).isTrue();
            exact.get(3).tensor().grad().mul_(new Scalar(1.0002 / 1.0006)); // others by 2e-4, parameters by 8e-4
            Comparison oftenWorse = new Comparison();
            for (int i = 1; i < Comparison.MANY; i++) {
                oftenWorse.add(i, 2.5, 2.5, parameters, others, () -> exact);
            }
            assertThat(oftenWorse.result().meanRatio()).isCloseTo(4, offset(0.1));
            assertThat(oftenWorse.result().passed()).isTrue(); // as chance has it
            oftenWorse.add(Comparison.MANY, 2.5, 2.5, parameters, others, () -> exact);
            assertThat(oftenWorse.result().passed()).isFalse();

            exact.get(3).tensor().grad().mul_(new Scalar(1.00004 / 1.0002)); // others by 4e-5, parameters by 9.6e-4
            Comparison onceMuchWorse = new Comparison();
            onceMuchWorse.add(9, 2.5, 2.5, parameters, others, () -> exact);
            assertThat(onceMuchWorse.result().worstRatio()).isCloseTo(24, offset(0.5));
            assertThat(onceMuchWorse.result().passed()).isFalse();
        }
    }

    private Training.Outcome run(Settings settings, boolean compare) {
        return new Training(settings, corpus, compare, null, step -> {}).run();
    }

    private static List<Double> losses(Training.Outcome outcome) {
        return outcome.steps().stream().map(Training.Step::loss).toList();
    }
}
