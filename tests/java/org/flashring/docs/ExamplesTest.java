package org.flashring.docs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.data.Offset.offset;
import static org.assertj.core.data.Percentage.withPercentage;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.io.StringWriter;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The programs in {@code examples} compile without a warning and print what is right; README shows parts of them. */
class ExamplesTest {
    private static final Path EXAMPLES = Path.of("examples");

    @TempDir
    static Path classes;

    @BeforeAll
    static void compile() throws IOException {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        StringWriter messages = new StringWriter();
        try (StandardJavaFileManager files = compiler.getStandardFileManager(null, null, null)) {
            List<String> options = List.of(
                    "--release",
                    "17",
                    "-Xlint:all,-path",
                    "-Werror",
                    "-proc:none",
                    "-d",
                    classes.toString(),
                    "-classpath",
                    System.getProperty("java.class.path"));
            boolean compiled = compiler.getTask(
                            messages, files, null, options, null, files.getJavaFileObjectsFromPaths(sources()))
                    .call();
            assertThat(compiled).as(messages.toString()).isTrue();
        }
    }

    private static List<Path> sources() throws IOException {
        try (Stream<Path> files = Files.list(EXAMPLES)) {
            return files.filter(file -> file.toString().endsWith(".java")).toList();
        }
    }

    /** Returns what the program prints. */
    private static String run(String program) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        PrintStream before = System.out;
        try (URLClassLoader loader =
                        new URLClassLoader(new URL[] {classes.toUri().toURL()});
                PrintStream out = new PrintStream(bytes, true, StandardCharsets.UTF_8)) {
            System.setOut(out);
            loader.loadClass(program).getMethod("main", String[].class).invoke(null, (Object) new String[0]);
        } finally {
            System.setOut(before);
        }
        return bytes.toString(StandardCharsets.UTF_8);
    }

    private static List<MatchResult> lines(String output, String pattern, int count) {
        List<MatchResult> lines =
                Pattern.compile(pattern).matcher(output).results().toList();
        assertThat(lines).as(output).hasSize(count);
        return lines;
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
        MatchResult found = lines(run("TorchLayer"), "means of ones: (\\S+)\nsum of their gradients: (\\S+)", 1)
                .get(0);
        assertThat(Float.parseFloat(found.group(1))).isCloseTo(1, offset(1e-5f));
        assertThat(Float.parseFloat(found.group(2))).isCloseTo(8 * 100 * 64, offset(0.5f));
    }

    /** Returns what the program prints in a process of its own: this one may have loaded another libtorch. */
    private static String runApart(String program, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Dai.djl.offline=true",
                "-classpath",
                classes + File.pathSeparator + System.getProperty("java.class.path"),
                program));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.DISCARD)
                .start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertThat(process.waitFor()).as(output).isZero();
        return output;
    }

    @Test
    void djlLayer() throws Exception {
        MatchResult found = lines(runApart("DjlLayer"), "means of ones: (\\S+)\nsum of their gradients: (\\S+)", 1)
                .get(0);
        assertThat(Float.parseFloat(found.group(1))).isCloseTo(1, offset(1e-5f));
        assertThat(Float.parseFloat(found.group(2))).isCloseTo(8 * 100 * 64, offset(0.5f));
    }

    /** Minutes: what two ranks learn is what DJL's own attention learns. */
    @Test
    @Tag("full")
    void djlTransformer() throws Exception {
        List<MatchResult> found = lines(runApart("DjlTransformer"), "held-out loss from (\\S+) to (\\S+)", 2);
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
        List<String> examples = sources().stream().map(ExamplesTest::read).toList();
        List<String> blocks = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL)
                .matcher(read(Path.of("README.md")))
                .results()
                .map(block -> block.group(1))
                .toList();
        assertThat(blocks).isNotEmpty().allSatisfy(block -> assertThat(examples)
                .anyMatch(text -> text.contains(indented(block))));
        assertThat(read(Path.of("adapters/pytorch/README.md")))
                .contains("```java\n" + read(EXAMPLES.resolve("TorchLayer.java")) + "```");
        assertThat(read(Path.of("adapters/djl/README.md")))
                .contains("```java\n" + read(EXAMPLES.resolve("DjlLayer.java")) + "```");
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
