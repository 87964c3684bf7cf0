package org.flashring.cli.support;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.flashring.cli.Cli;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Signals to processes at work: what was done is kept, the exit code is the shells', and nothing crashes. */
@Timeout(180)
class InterruptionTest {
    @TempDir
    private Path folder;

    private Process process;

    @AfterEach
    void end() {
        process.destroyForcibly();
    }

    private Path err() {
        return folder.resolve("err");
    }

    private String out() throws IOException {
        return Files.readString(folder.resolve("stdout"));
    }

    private void start(String... args) throws IOException {
        process = Cli.start(
                List.of("-XX:ErrorFile=" + folder.resolve("crash.log")),
                Map.of(),
                folder.resolve("stdout"),
                err(),
                args);
    }

    private void startTraining(int steps) throws IOException {
        Path text = Files.writeString(folder.resolve("text"), "all the keys go round ".repeat(100));
        start(
                "train",
                "--text",
                text.toString(),
                "--out",
                folder.resolve("out").toString(),
                "--ranks",
                "2",
                "--layers",
                "1",
                "--heads",
                "2",
                "--kv-heads",
                "1",
                "--dim",
                "16",
                "--batch",
                "1",
                "--context",
                "64",
                "--compare",
                "--steps",
                String.valueOf(steps));
    }

    private void awaitPrinted(String text) throws IOException, InterruptedException {
        while (!out().contains(text)) {
            assertThat(process.isAlive()).as(out() + Files.readString(err())).isTrue();
            Thread.sleep(20);
        }
    }

    private void signal(String name) throws IOException, InterruptedException {
        assertThat(new ProcessBuilder("kill", "-" + name, String.valueOf(process.pid()))
                        .start()
                        .waitFor())
                .isZero();
    }

    private void assertEnded(int exitCode) throws IOException, InterruptedException {
        assertThat(process.waitFor(60, TimeUnit.SECONDS)).as("ends: " + out()).isTrue();
        assertThat(process.exitValue()).as(out() + Files.readString(err())).isEqualTo(exitCode);
        assertThat(Files.readString(err())).isEmpty();
        assertThat(folder.resolve("crash.log")).doesNotExist();
    }

    @ParameterizedTest
    @CsvSource({"INT, 130", "TERM, 143"})
    void trainingKeepsTheStepsThatWereDone(String signal, int exitCode) throws IOException, InterruptedException {
        startTraining(1_000_000);
        awaitPrinted("step 1 of");
        signal(signal);
        assertEnded(exitCode);
        assertThat(out())
                .contains("Stopped after step ")
                .contains("Loss ")
                .contains("1 rank ")
                .contains("result.json");
        Path results = folder.resolve("out");
        JsonObject result = Cli.json(results.resolve("result.json"));
        assertThat(result.get("complete").getAsBoolean()).isFalse();
        assertThat(result.getAsJsonArray("steps")).isNotEmpty();
        assertThat(out())
                .contains("Stopped after step " + result.getAsJsonArray("steps").size() + " of 1000000");
        byte[] picture = Files.readAllBytes(results.resolve("loss.png"));
        assertThat(Arrays.copyOf(picture, 4)).containsExactly(0x89, 'P', 'N', 'G');
        assertThat(Arrays.copyOfRange(picture, picture.length - 8, picture.length - 4))
                .as("its end")
                .containsExactly('I', 'E', 'N', 'D');
        try (Stream<Path> files = Files.list(results)) {
            assertThat(files).hasSize(2);
        }
    }

    @Test
    void beforeTheFirstStepThereIsNothingToKeep() throws IOException, InterruptedException {
        Path text = Files.writeString(folder.resolve("text"), "all the keys go round ".repeat(2000));
        start(
                "train",
                "--text",
                text.toString(),
                "--out",
                folder.resolve("out").toString(),
                "--context",
                "40000",
                "--layers",
                "12");
        awaitPrinted("Attention ");
        signal("INT");
        assertEnded(130);
        assertThat(out()).contains("Stopped before the first step was done; nothing is written.");
        assertThat(folder.resolve("out")).isEmptyDirectory();
    }

    @ParameterizedTest
    @CsvSource({"INT, 130", "TERM, 143"})
    void benchKeepsTheLinesThatAreThere(String signal, int exitCode) throws IOException, InterruptedException {
        Path json = folder.resolve("bench.json");
        start("bench", "--dtype", "float32", "--length", "16,8192", "--dim", "16,128", "--json", json.toString());
        awaitPrinted("\nfloat32 ");
        signal(signal);
        assertEnded(exitCode);
        assertThat(out()).contains("Stopped; the lines above are all that was measured.");
        JsonObject result = Cli.json(json);
        assertThat(result.get("complete").getAsBoolean()).isFalse();
        List<String> rows = new ArrayList<>(
                out().lines().filter(line -> line.startsWith("float32 ")).toList());
        assertThat(result.getAsJsonArray("lines").size()).isPositive().isLessThanOrEqualTo(rows.size());
    }
}
