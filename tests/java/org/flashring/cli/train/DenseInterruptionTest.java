package org.flashring.cli.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.flashring.cli.train.WrittenResult.losses;
import static org.flashring.cli.train.WrittenResult.result;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.flashring.cli.Cli;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A signal costs no step that was done. */
@Timeout(300)
class DenseInterruptionTest {
    private static final int MORE = 3; // steps after the checkpoint
    private static final Pattern STOPPED =
            Pattern.compile("Stopped +after step (\\d+) of \\d+; the same command with --resume (\\S+) goes on");

    @TempDir
    private Path folder;

    private Process process;

    @AfterEach
    void end() {
        if (process != null) {
            process.descendants().forEach(ProcessHandle::destroyForcibly);
            process.destroyForcibly();
        }
    }

    private String out() throws IOException {
        return Files.readString(folder.resolve("stdout"));
    }

    private void startSmall(List<String> before, String out, int steps, String... more) throws IOException {
        List<String> words = new ArrayList<>(List.of("--layers", "1", "--dim", "32", "--context", "61"));
        words.addAll(List.of(more));
        start(before, out, steps, words);
    }

    private void start(List<String> before, String out, int steps, List<String> more) throws IOException {
        Path text = Files.writeString(folder.resolve("text"), "all the keys go round ".repeat(100));
        List<String> words = new ArrayList<>(before);
        words.addAll(List.of("train", "--engine", "dense", "--text", text.toString()));
        words.addAll(List.of("--batch", "2", "--ranks", "2", "--steps", String.valueOf(steps)));
        words.addAll(List.of("--out", folder.resolve(out).toString()));
        words.addAll(more);
        process = Cli.start(
                List.of(), Map.of(), folder.resolve("stdout"), folder.resolve("err"), words.toArray(String[]::new));
    }

    private void awaitPrinted(String text) throws IOException, InterruptedException {
        while (!out().contains(text)) {
            assertThat(process.isAlive()).as(this::printed).isTrue();
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    private String printed() {
        try {
            return out() + Files.readString(folder.resolve("err"));
        } catch (IOException e) {
            return e.toString();
        }
    }

    private static void signal(String name, Stream<ProcessHandle> to) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of("kill", "-" + name));
        to.forEach(each -> command.add(String.valueOf(each.pid())));
        assertThat(new ProcessBuilder(command).start().waitFor()).isZero();
    }

    private void assertEnded(int exitCode, String error) throws InterruptedException {
        assertThat(process.waitFor(120, TimeUnit.SECONDS)).as(this::printed).isTrue();
        assertThat(process.exitValue()).as(this::printed).isEqualTo(exitCode);
        assertThat(folder.resolve("err")).content().isEqualTo(error);
    }

    /** A terminal sends Ctrl-C to all processes; {@code kill} sends a signal to one, which may be the launcher. */
    @ParameterizedTest
    @CsvSource({"threads, INT, 130", "terminal, INT, 130", "launcher, TERM, 143", "a rank, INT, 130"})
    void theResumedRunIsTheUninterruptedOne(String to, String signal, int exitCode)
            throws IOException, InterruptedException {
        List<String> launch = to.equals("threads") ? List.of() : List.of("launch", "--nproc", "2", "--");
        startSmall(launch, "stopped", 1_000_000);
        awaitPrinted("step 1 of");
        ProcessHandle launcher = process.toHandle();
        Stream<ProcessHandle> targets = to.equals("terminal")
                ? Stream.concat(launcher.descendants(), Stream.of(launcher))
                : Stream.of(to.equals("a rank") ? launcher.children().toList().get(1) : launcher);
        signal(signal, targets);
        assertEnded(exitCode, to.equals("a rank") ? "flashring launch: rank 0 ended with exit code 130\n" : "");
        Matcher stopped = STOPPED.matcher(out());
        assertThat(stopped.find()).as(out()).isTrue();
        int done = Integer.parseInt(stopped.group(1));
        JsonObject result = result(folder.resolve("stopped"));
        assertThat(result.get("complete").getAsBoolean()).isFalse();
        assertThat(losses(result)).hasSize(done);

        startSmall(List.of(), "resumed", done + MORE, "--resume", stopped.group(2));
        assertEnded(0, "");
        startSmall(List.of(), "whole", done + MORE);
        assertEnded(0, "");
        List<Double> whole = losses(result(folder.resolve("whole")));
        assertThat(losses(result)).isEqualTo(whole.subList(0, done));
        assertThat(losses(result(folder.resolve("resumed")))).isEqualTo(whole.subList(done, done + MORE));
    }

    @Test
    void aSecondSignalWaitsForNoStep() throws IOException, InterruptedException {
        start(List.of(), "out", 2, List.of("--documents", "61", "--context", "1000000", "--layers", "9"));
        awaitPrinted("Memory ");
        signal("INT", Stream.of(process.toHandle()));
        awaitPrinted("Stopping after this step, with a checkpoint; a second Ctrl-C ends it at once.");
        signal("INT", Stream.of(process.toHandle()));
        assertEnded(130, "");
        assertThat(folder.resolve("out")).isEmptyDirectory();
    }
}
