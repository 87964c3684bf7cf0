package org.flashring.docs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.data.Offset.offset;
import static org.assertj.core.data.Percentage.withPercentage;
import static org.flashring.support.Examples.lines;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.BiFunction;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import org.flashring.support.Examples;
import org.flashring.support.OnnxModel;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The programs in {@code examples} compile without a warning and print what is right; README shows parts of them. */
class ExamplesTest {
    @TempDir
    static Path classes;

    @BeforeAll
    static void compile() throws IOException {
        Examples.compile(Examples.sources(), classes);
    }

    private static String run(String program, String... arguments) throws Exception {
        return Examples.run(classes, program, arguments);
    }

    @Test
    void singleDevice() throws Exception {
        MatchResult first = lines(
                        run("SingleDevice"), "alone: (\\S+) is (\\S+)\ndloss/dv of the last token: -?\\d\\S+", 1)
                .get(0);
        assertThat(first.group(1)).isEqualTo(first.group(2)).isNotEqualTo("0.0");
    }

    @Test
    void ringOverThreads() throws Exception {
        String output = run("RingOverThreads");
        for (MatchResult line : lines(output, "mean of 0 to (\\d+) is (\\S+)", 4)) {
            assertThat(Float.parseFloat(line.group(2))).isCloseTo(Long.parseLong(line.group(1)) / 2f, offset(1e-4f));
        }
        for (MatchResult line : lines(output, "token (\\d+): its value's gradient is (\\S+)", 4)) {
            double sum = LongStream.rangeClosed(Long.parseLong(line.group(1)) + 1, 101)
                    .mapToDouble(seen -> 4.0 / seen)
                    .sum();
            assertThat(Double.parseDouble(line.group(2)))
                    .isCloseTo(sum, offset(1e-4)); // four query heads, each of ones
        }
    }

    /** 1 came behind 3 in the prompt, 4 behind 1, and so on, round and round. */
    @Test
    void greedyDecoding() throws Exception {
        assertThat(run("GreedyDecoding").strip()).isEqualTo("[1, 4, 5, 9, 2, 6, 3, 1, 4, 5, 9, 2]");
    }

    /** The documentation of the package shows the method that the program runs. */
    @Test
    void servingIsDocumentedByAProgram() throws IOException {
        String shown = Files.readString(Path.of("src/main/java/org/flashring/serve/package-info.java"))
                .replaceFirst("(?s).*<pre>\\{@code\n", "")
                .replaceFirst("(?s)\n \\* \\}</pre>.*", "")
                .replaceAll("(?m)^ \\* ?", "    ");
        assertThat(shown).contains("cache.append(layer");
        assertThat(Files.readString(Examples.FOLDER.resolve("GreedyDecoding.java")))
                .contains(shown);
    }

    @Test
    void paddedBatch() throws Exception {
        assertThat(lines(run("PaddedBatch"), "sees no padding: (\\S+)", 3))
                .allSatisfy(line -> assertThat(Float.parseFloat(line.group(1))).isCloseTo(1, offset(1e-6f)));
    }

    /** The mean over tokens 0 to 99 of both sequences: half the position, and 100 more in the second one. */
    @Test
    void meshOverThreads() throws Exception {
        assertThat(lines(run("MeshOverThreads"), "rank \\d at \\{dp=\\d, cp=\\d\\}: .* is (\\S+)", 4))
                .allSatisfy(line -> assertThat(Float.parseFloat(line.group(1))).isCloseTo(74.75f, offset(1e-3f)));
    }

    @Test
    void torchLayer() throws Exception {
        assertTrains(run("TorchLayer"));
    }

    /** Ones of 8 heads give 4 to each of 2 · 100 · 64 values, from which a tenth of that is taken. */
    private static void assertTrains(String output) {
        MatchResult found = lines(
                        output, "means of ones: (\\S+)\nsum of their gradients: (\\S+)\nmean after a step: (\\S+)", 1)
                .get(0);
        assertThat(Float.parseFloat(found.group(1))).isCloseTo(1, offset(1e-5f));
        assertThat(Float.parseFloat(found.group(2))).isCloseTo(8 * 100 * 64, offset(0.5f));
        assertThat(Float.parseFloat(found.group(3))).isCloseTo(0.6f, offset(1e-4f));
    }

    /** Keys of zeros weigh the same: a token's attention is the mean of positions up to its own, which is doubled. */
    @Test
    void onnxAttention() throws Exception {
        BiFunction<Integer, Integer, Float> none = (row, column) -> 0f;
        BiFunction<Integer, Integer, Float> same = (row, column) -> row.equals(column) ? 1f : 0f;
        BiFunction<Integer, Integer, Float> twice = (row, column) -> row.equals(column) ? 2f : 0f;
        Path before = Files.write(
                classes.resolve("before.onnx"),
                OnnxModel.products("x", 101, 64, Map.of("q", same, "k", none, "v", same)));
        Path after = Files.write(classes.resolve("after.onnx"), OnnxModel.products("out", 101, 64, Map.of("y", twice)));
        for (MatchResult line :
                lines(run("OnnxAttention", before.toString(), after.toString()), "token (\\d+): (\\S+)", 3)) {
            assertThat(Float.parseFloat(line.group(2))).isCloseTo(Float.parseFloat(line.group(1)), offset(1e-4f));
        }
    }

    /** Returns what the program prints in a process of its own: this one may have loaded another libtorch. */
    private static String runApart(String program, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Dai.djl.offline=true",
                "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0",
                "-classpath",
                classes + File.pathSeparator + System.getProperty("java.class.path"),
                program));
        command.addAll(List.of(arguments));
        Path errors = classes.resolve(program + ".stderr");
        Path output = classes.resolve(program + ".stdout");
        Process process = new ProcessBuilder(command)
                .redirectError(errors.toFile())
                .redirectOutput(output.toFile())
                .start();
        boolean ended = process.waitFor(30, TimeUnit.MINUTES);
        process.destroyForcibly();
        assertThat(ended).as("ended within 30 minutes: %s", read(errors)).isTrue();
        assertThat(process.exitValue()).as("%s%s", read(output), read(errors)).isZero();
        return read(output);
    }

    @Test
    void djlLayer() throws Exception {
        assertTrains(runApart("DjlLayer"));
    }

    /** Minutes: what two ranks learn is what the framework's own attention learns. */
    @Test
    @Tag("full")
    void djlTransformer() throws Exception {
        assertLearnsAlike("DjlTransformer");
    }

    @Test
    @Tag("full")
    void torchTransformer() throws Exception {
        assertLearnsAlike("TorchTransformer");
    }

    private static void assertLearnsAlike(String program) throws Exception {
        String output = runApart(program, "docs", "60");
        List<MatchResult> found = lines(output, "held-out loss from (\\S+) to (\\S+)", 2);
        double[] after = new double[2];
        for (int i = 0; i < 2; i++) {
            after[i] = Double.parseDouble(found.get(i).group(2));
            assertThat(after[i])
                    .isLessThan(0.8 * Double.parseDouble(found.get(i).group(1)));
        }
        assertThat(after[0]).isCloseTo(after[1], withPercentage(1));
    }

    @Test
    void readmeShowsPartsOfThem() throws IOException {
        List<String> examples =
                Examples.sources().stream().map(ExamplesTest::read).toList();
        List<String> blocks = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL)
                .matcher(read(Path.of("README.md")))
                .results()
                .map(block -> block.group(1))
                .toList();
        assertThat(blocks).isNotEmpty().allSatisfy(block -> assertThat(examples)
                .anyMatch(text -> text.contains(indented(block))));
        assertShows("adapters/pytorch/README.md", "TorchLayer.java");
        assertShows("adapters/djl/README.md", "DjlLayer.java");
        assertShows("adapters/nd4j/README.md", "Nd4jLayer.java");
    }

    private static void assertShows(String page, String example) {
        assertThat(read(Path.of(page))).contains("```java\n" + read(Examples.FOLDER.resolve(example)) + "```");
    }

    private static String indented(String block) {
        return block.lines().map(line -> line.isEmpty() ? line : "    " + line).collect(Collectors.joining("\n"));
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }
}
