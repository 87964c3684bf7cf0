package org.flashring.cli.train;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.flashring.cli.Main;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import picocli.CommandLine;

/** {@code flashring train} as a user meets it: files written, exit codes, and one sentence on bad input. */
class TrainCommandTest {
    private static final List<String> SMALL =
            List.of("--layers", "1", "--heads", "2", "--kv-heads", "1", "--dim", "16", "--batch", "1", "--steps", "3");

    @TempDir
    private Path folder;

    private final StringWriter out = new StringWriter();
    private final StringWriter err = new StringWriter();

    private int train(String... arguments) {
        List<String> all =
                new ArrayList<>(List.of("train", "--out", folder.resolve("out").toString()));
        all.addAll(SMALL);
        all.addAll(Arrays.asList(arguments));
        CommandLine commandLine =
                Main.commandLine().setOut(new PrintWriter(out, true)).setErr(new PrintWriter(err, true));
        commandLine.setOverwrittenOptionsAllowed(true); // so that a case may replace one of SMALL
        return commandLine.execute(all.toArray(String[]::new));
    }

    private String text(String name, String content) throws IOException {
        Path file = folder.resolve(name);
        Files.createDirectories(file.getParent());
        return Files.writeString(file, content).toString();
    }

    /**
     * In a JVM of its own, as a user runs it, and because the JDK's font code warns without end under this one's
     * -Xcheck:jni.
     */
    @Test
    void writesLossCurveAndResultsOfATextShorterThanTheContext() throws IOException, InterruptedException {
        Path json = folder.resolve("more.json");
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-cp",
                System.getProperty("java.class.path"),
                "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0",
                Main.class.getName(),
                "train",
                "--text",
                text("a.txt", "all the keys go round ".repeat(10)),
                "--out",
                folder.resolve("out").toString(),
                "--ranks",
                "3",
                "--compare",
                "--json",
                json.toString()));
        command.addAll(SMALL);
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String printed = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertThat(process.waitFor()).as(printed).isZero();

        JsonObject result = JsonParser.parseString(Files.readString(folder.resolve("out/result.json")))
                .getAsJsonObject();
        assertThat(JsonParser.parseString(Files.readString(json))).isEqualTo(result);
        assertThat(result.getAsJsonArray("steps")).hasSize(3);
        assertThat(result.getAsJsonArray("bytesHeld")).hasSize(3);
        assertThat(result.getAsJsonObject("comparison").get("passed").getAsBoolean())
                .isTrue();
        assertThat(result.getAsJsonObject("settings").get("context").getAsInt()).isEqualTo(220);
        assertThat(result.getAsJsonObject("settings").get("mesh").getAsString()).isEqualTo("cp=3");
        byte[] chart = Files.readAllBytes(folder.resolve("out/loss.png"));
        assertThat(Arrays.copyOf(chart, 8)).containsExactly(0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n');
        assertThat(chart.length).isGreaterThan(10_000);
        assertThat(printed)
                .contains(
                        "The text has 220 bytes, fewer than --context 1,021: a sequence is the whole text.",
                        "zigzag 220 tokens over 3 ranks",
                        "step 3 of 3",
                        "tokens/s",
                        "a rank for buffers",
                        "equal",
                        "loss.png");
    }

    @Test
    void readsDirectoriesAndLeavesOutHiddenAndBinaryFiles() throws IOException {
        text("tree/b.txt", "b".repeat(30));
        text("tree/deep/a.txt", "a".repeat(20));
        text("tree/.git/config", "hidden".repeat(20));
        text("tree/image.png", "binary\0".repeat(20));
        text("tree/late.bin", "x".repeat(100_000) + "\0");
        try (Corpus corpus = Corpus.read(List.of(folder.resolve("tree"), Path.of(text("c.txt", "c".repeat(7)))))) {
            assertThat(corpus.files()).isEqualTo(3);
            assertThat(corpus.batch(1, corpus.length(), new Random(1))[0])
                    .isEqualTo(("b".repeat(30) + "a".repeat(20) + "c".repeat(7))
                            .chars()
                            .asLongStream()
                            .toArray());
        }
    }

    /** Longer than a chunk of the memory that it lies in, and begun at an odd place. */
    @Test
    void longTextsKeepEveryByteInItsPlace() throws IOException {
        byte[] bytes = new byte[(1 << 24) + 70_001];
        new Random(3).nextBytes(bytes);
        Path file = Files.write(folder.resolve("long"), bytes);
        try (Corpus corpus = Corpus.read(List.of(Path.of(text("first", "12345")), file))) {
            assertThat(corpus.length()).isEqualTo(5 + bytes.length);
            long[] whole = corpus.batch(1, corpus.length(), new Random(1))[0];
            byte[] read = new byte[bytes.length];
            for (int i = 0; i < read.length; i++) {
                read[i] = (byte) whole[5 + i];
            }
            assertThat(Arrays.mismatch(read, bytes)).as("first wrong byte").isEqualTo(-1);
        }
    }

    @Test
    void titlesFitOverThePicture() {
        assertThat(LossTitle.of(List.of(Path.of("README.md")))).isEqualTo("Training loss on README.md");
        assertThat(LossTitle.of(List.of(Path.of("a/very/long/way/to/README.md"), Path.of("b"), Path.of("c"))))
                .isEqualTo("Training loss on README.md and 2 more");
        assertThat(LossTitle.of(List.of(Path.of("/")))).isEqualTo("Training loss on /");
        assertThat(LossTitle.of(List.of(Path.of(".")))).isEqualTo("Training loss on .");
        assertThat(LossTitle.of(List.of(Path.of("x".repeat(200)), Path.of("y"))))
                .hasSizeLessThan(90)
                .contains("…")
                .endsWith(" and 1 more");
    }

    @Test
    void unusableTextIsOneSentence() throws IOException {
        Path nothing = Files.createDirectories(folder.resolve("nothing"));
        assertRefused(
                "--text " + folder.resolve("absent") + " does not exist",
                "--text",
                folder.resolve("absent").toString());
        assertRefused("holds no text", "--text", text("empty.txt", ""));
        assertRefused("holds 1 byte", "--text", text("one.txt", "1"));
        assertRefused("holds no text", "--text", nothing.toString());
        assertRefused("'--text", "--ranks", "2");
        assertRefused("/proc/self/mem cannot be read", "--text", "/proc/self/mem");
    }

    @ParameterizedTest
    @CsvSource({
        "--ranks, 0, --ranks is 0",
        "--ranks, 1025, --ranks is 1025",
        "--ranks, many, --ranks",
        "--steps, 0, --steps is 0",
        "--context, 1, --context is 1",
        "--batch, 0, --batch is 0",
        "--window, -1, --window is -1",
        "--layers, 0, --layers is 0",
        "--heads, 0, --heads is 0",
        "--heads, 3, --dim is 16",
        "--kv-heads, 3, --heads is 2",
        "--kv-heads, 0, --kv-heads is 0",
        "--dim, 18, --dim is 18",
        "--dim, 65536, --dim is 65536",
        "--lr, 0, --lr is 0.0",
        "--lr, NaN, --lr is NaN",
        "--layout, spiral, --layout",
        "--dim, 2048, --dim is 2048; it must be at most 1024"
    })
    void optionsOutOfRangeAreOneSentence(String option, String value, String sentence) throws IOException {
        assertRefused(sentence, "--text", text("a.txt", "some text"), option, value);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = ';',
            value = {
                "dp=2; --batch is 1; it must be at least 2, a sequence for each rank of dp",
                "dp=1,tp=2; --mesh is dp=1,tp=2; it must be of dp and cp alone",
                "cp=2000; ranks of --mesh is 2000",
                "cp; --mesh: axes is \"cp\"",
                "cp=0; --mesh: cp is 0"
            })
    void meshesThatCannotBeAreOneSentence(String mesh, String sentence) throws IOException {
        assertRefused(sentence, "--text", text("a.txt", "some text"), "--mesh", mesh);
    }

    @Test
    void ranksAndMeshAreOneOrTheOther() throws IOException {
        assertRefused("--ranks and --mesh", "--text", text("a.txt", "some text"), "--mesh", "cp=2", "--ranks", "2");
    }

    @Test
    void aPlaceThatCannotBeWrittenIsOneSentence() throws IOException {
        String text = text("a.txt", "some text");
        assertRefused("--out " + text + " cannot be made a directory", "--text", text, "--out", text);
        assertRefused("--json " + folder + " is a directory", "--text", text, "--json", folder.toString());
    }

    private void assertRefused(String sentence, String... arguments) {
        err.getBuffer().setLength(0);
        assertThat(train(arguments)).as(String.join(" ", arguments)).isEqualTo(CommandLine.ExitCode.USAGE);
        assertThat(err.toString()).contains(sentence).startsWith("flashring train: ");
        assertThat(err.toString().strip().lines()).hasSize(1);
        assertThat(out.toString()).doesNotContain("step 1");
    }
}
