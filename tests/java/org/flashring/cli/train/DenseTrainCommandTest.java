package org.flashring.cli.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.offset;
import static org.assertj.core.api.Assertions.withinPercentage;
import static org.flashring.cli.train.WrittenResult.losses;
import static org.flashring.cli.train.WrittenResult.result;

import com.google.gson.JsonObject;
import java.io.File;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.flashring.cli.Main;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import picocli.CommandLine;

/** {@code flashring train --engine dense} as a user meets it. */
class DenseTrainCommandTest {
    private static final List<String> SMALL = List.of(
            "--engine",
            "dense",
            "--layers",
            "1",
            "--heads",
            "2",
            "--kv-heads",
            "1",
            "--dim",
            "16",
            "--batch",
            "2",
            "--context",
            "61",
            "--lr",
            "1e-2");

    @TempDir
    private Path folder;

    private final StringWriter out = new StringWriter();
    private final StringWriter err = new StringWriter();
    private Path text;

    @BeforeEach
    void writeText() throws IOException {
        text = Files.writeString(folder.resolve("a.txt"), "all the keys go round ".repeat(20));
    }

    private List<String> arguments(String... more) {
        List<String> all = new ArrayList<>(List.of("train", "--text", text.toString()));
        all.addAll(SMALL);
        all.addAll(Arrays.asList(more));
        return all;
    }

    private int train(String... more) {
        CommandLine commandLine =
                Main.commandLine().setOut(new PrintWriter(out, true)).setErr(new PrintWriter(err, true));
        commandLine.setOverwrittenOptionsAllowed(true); // so that a case may replace one of SMALL
        return commandLine.execute(arguments(more).toArray(String[]::new));
    }

    /**
     * Runs in a JVM of its own, without PyTorch and XChart, as in the bundle, and because the JDK's font code warns
     * without end under this one's -Xcheck:jni.
     */
    private String trainApart(String... more) throws IOException, InterruptedException {
        String classPath = Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
                .filter(entry -> !entry.matches(".*/(pytorch|xchart|openblas)-[^/]*\\.jar"))
                .collect(Collectors.joining(File.pathSeparator));
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-cp",
                classPath,
                "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0",
                Main.class.getName()));
        command.addAll(arguments(more));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String printed = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertThat(process.waitFor()).as(printed).isZero();
        return printed;
    }

    @Test
    void learnsWithoutPyTorchAndGoesOnOnOtherRanks() throws IOException, InterruptedException {
        Path whole = folder.resolve("whole");
        String printed = trainApart(
                "--ranks",
                "3",
                "--steps",
                "24",
                "--checkpoint-every",
                "10",
                "--memory",
                "1G",
                "--out",
                whole.toString(),
                "--tensorboard",
                whole.resolve("events").toString(),
                "--peak-flops",
                "1e12");
        assertThat(printed)
                .contains("step 24 of 24", "by plan", "Fits ", "loss.svg, ", "result.json", "MFU", "attention backward")
                .doesNotContain("loss.png");
        JsonObject result = result(whole);
        List<Double> losses = losses(result);
        assertThat(losses).hasSize(24);
        assertThat(losses.get(0)).isBetween(5.0, 7.0); // ln 256 = 5.5: nothing is known yet
        assertThat(losses.get(23)).isLessThan(3);
        assertThat(result.get("complete").getAsBoolean()).isTrue();
        assertThat(result.get("skipped").getAsInt()).isZero();
        assertThat(result.get("memoryPlan").getAsLong()).isPositive();
        assertThat(result.getAsJsonArray("gradientNorms")).hasSize(24);
        whatIsSaidOfStepsHoldsTogether(whole, result);
        assertThat(whole.resolve("checkpoint-00000010/model.safetensors")).exists();
        assertThat(whole.resolve("checkpoint-00000024/state.json")).exists();

        Path resumed = folder.resolve("resumed");
        String from = whole.resolve("checkpoint-00000020").toString();
        String more = trainApart(
                "--ranks",
                "2",
                "--steps",
                "24",
                "--resume",
                from,
                "--recompute",
                "full",
                "--offload",
                "--documents", // as long as the context, which is how it is without
                "61",
                "--out",
                resumed.toString());
        assertThat(more).contains("--recompute full --offload", "in 4 steps after 20 of the checkpoint");
        List<Double> lossesOfRest = losses(result(resumed));
        assertThat(lossesOfRest).hasSize(4);
        for (int i = 0; i < 4; i++) {
            assertThat(lossesOfRest.get(i)).isCloseTo(losses.get(20 + i), offset(1e-4));
        }

        String other = Files.writeString(folder.resolve("b.txt"), "another text ".repeat(20))
                .toString();
        assertThat(train("--text", other, "--steps", "24", "--resume", from)).isEqualTo(CommandLine.ExitCode.USAGE);
        assertThat(err.toString()).contains("which learnt another text").hasLineCount(1);
        err.getBuffer().setLength(0);

        assertThat(train("--seed", "3", "--window", "9", "--steps", "24", "--resume", from))
                .isEqualTo(CommandLine.ExitCode.USAGE);
        assertThat(err.toString())
                .contains("which learnt with --window 0, not 9; give the same")
                .hasLineCount(1);
        err.getBuffer().setLength(0);

        assertThat(train("--steps", "20", "--resume", from, "--out", whole.toString()))
                .isEqualTo(CommandLine.ExitCode.USAGE);
        assertThat(err.toString())
                .contains("--steps is 20; it must be at least 21: the checkpoint has done 20")
                .hasLineCount(1);
    }

    private static void whatIsSaidOfStepsHoldsTogether(Path out, JsonObject result) throws IOException {
        JsonObject step = result.getAsJsonArray("steps").get(23).getAsJsonObject();
        double loss = step.get("loss").getAsDouble();
        List<EventFileTest.Event> events = EventFileTest.read(out.resolve("events"));
        assertThat(events).hasSize(25);
        assertThat(events.get(24).step()).isEqualTo(24);
        Map<String, Float> scalars = events.get(24).scalars();
        assertThat(scalars).containsKeys("gradient_norm", "memory_bytes", "seconds/head", "seconds/sync");
        assertThat(scalars.get("loss")).isEqualTo((float) loss);
        double seconds = step.get("seconds").getAsDouble();
        assertThat(scalars.get("tokens_per_second")).isEqualTo((float) (2 * 61 / seconds));
        double flops = result.getAsJsonObject("flops").get("dense").getAsDouble()
                + result.getAsJsonObject("flops").get("attention").getAsDouble();
        assertThat(scalars.get("mfu")).isCloseTo((float) (flops / seconds / 3e12), withinPercentage(0.01));
        double parts = result.getAsJsonObject("phaseSeconds").entrySet().stream()
                .mapToDouble(part -> part.getValue().getAsDouble())
                .sum();
        double steps = 0;
        for (int i = 1; i < 24; i++) {
            steps += result.getAsJsonArray("steps")
                    .get(i)
                    .getAsJsonObject()
                    .get("seconds")
                    .getAsDouble();
        }
        assertThat(parts).isPositive().isLessThan(steps / 23);
        JsonObject positions = result.getAsJsonObject("lossByPosition");
        assertThat(positions.get("steps").getAsInt()).isEqualTo(2); // a tenth of 24
        assertThat(positions.getAsJsonArray("last")).hasSize(64);
        JsonObject memory = result.getAsJsonObject("memory");
        assertThat(memory.get("taken").getAsLong())
                .isBetween(1L, memory.get("planned").getAsLong());
        for (String picture : List.of("loss.svg", "loss-by-position.svg", "memory.svg")) {
            assertThat(out.resolve(picture)).content().startsWith("<svg ").endsWith("</svg>\n");
        }
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "--engine|torch|--tile|4|--tile is for --engine dense alone",
                "--engine|dense|--memory|1M|--memory is 1048576 bytes a rank; it must be at least",
                "--engine|dense|--head-groups|2|--head-groups is 2; it must be a divisor of --kv-heads = 1",
                "--engine|dense|--tile|0|--tile is 0; it must be at least 1",
                "--engine|dense|--clip|0|--clip is 0.0; it must be positive",
                "--engine|dense|--warmup|-1|--warmup is -1; it must be at least 0",
                "--engine|dense|--checkpoint-every|0|--checkpoint-every is 0; it must be at least 1",
                "--engine|dense|--resume|.|--resume is .; it must be a checkpoint, a folder with state.json, or",
                "--engine|dense|--vocab|words|--vocab",
                "--engine|torch|--vocab|pairs|--vocab is for --engine dense alone",
                "--engine|dense|--documents|1|--documents is 1; it must be at least 2",
                "--engine|dense|--head-dim|7|--head-dim is 7; it must be even",
                "--engine|dense|--hidden|0|--hidden is 0; it must be at least 1",
                "--engine|dense|--peak-flops|0|--peak-flops is 0.0; it must be positive and finite",
                "--engine|dense|--recompute|auto|--recompute auto needs --memory",
                "--engine|dense|--tensorboard|README.md|--tensorboard README.md is no folder",
                "--engine|dense|--tensorboard|README.md/a/b|--tensorboard README.md/a/b cannot be made",
                "--engine|numpy|--tile|4|--engine"
            })
    void optionsThatCannotBeAreOneSentence(String name, String engine, String option, String value, String sentence) {
        assertThat(train(name, engine, option, value, "--out", folder.toString()))
                .isEqualTo(CommandLine.ExitCode.USAGE);
        assertThat(err.toString())
                .contains(sentence)
                .startsWith("flashring train: ")
                .hasLineCount(1);
    }

    @Test
    void repeatedDocumentsAreEquallyLong() {
        assertThat(train("--documents", "20", "--repeat", "--out", folder.toString()))
                .isEqualTo(CommandLine.ExitCode.USAGE);
        assertThat(err.toString()).contains("--documents is 20; it must divide --context = 61 with --repeat");
    }

    @Test
    void whatIsRefusedLeavesNoFolder() throws IOException {
        Path kept = Files.createDirectory(folder.resolve("kept"));
        assertThat(train("--memory", "1", "--out", kept.toString())).isNotZero();
        assertThat(train("--memory", "1", "--out", folder.resolve("new/out").toString()))
                .isNotZero();
        assertThat(folder).isDirectoryContaining(path -> path.equals(kept));
        assertThat(folder.resolve("new")).doesNotExist();
    }

    @Test
    void comparisonIsTheOtherEngines() {
        assertThat(train("--compare")).isEqualTo(CommandLine.ExitCode.USAGE);
        assertThat(err.toString()).contains("--compare is for --engine torch alone.");
    }
}
