package org.flashring.cli.launch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import org.flashring.Threads;
import org.flashring.cli.Main;
import org.flashring.launch.Environment;
import org.flashring.launch.Rendezvous;
import org.flashring.launch.Secret;
import org.flashring.launch.Session;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import picocli.CommandLine;

/** Real processes, which meet at a real rendezvous. */
@Timeout(120)
class LaunchTest {
    private record Outcome(int exitCode, String out, String err) {}

    private static Outcome launch(String... args) {
        StringWriter out = new StringWriter();
        StringWriter err = new StringWriter();
        CommandLine line = Main.commandLine().setOut(new PrintWriter(out)).setErr(new PrintWriter(err));
        String[] all = new String[args.length + 1];
        all[0] = "launch";
        System.arraycopy(args, 0, all, 1, args.length);
        return new Outcome(line.execute(all), out.toString(), err.toString());
    }

    @Test
    void ranksMeetAndTheirLinesAreMarked() {
        Outcome outcome = launch("--nproc", "3", "--", Meeting.class.getName(), "--word", "hello");
        assertThat(outcome.err()).isEmpty();
        assertThat(outcome.exitCode()).isZero();
        for (int rank = 0; rank < 3; rank++) {
            assertThat(outcome.out())
                    .contains("[rank " + rank + "] hello 0 hello 1 hello 2, with a secret at 127.0.0.1 and "
                            + Math.max(1, Runtime.getRuntime().availableProcessors() / 3) + " threads and "
                            + System.getenv().getOrDefault("CUDA_DEVICE_MAX_CONNECTIONS", "32") + " connections");
        }
    }

    @Test
    void aCommandOfFlashRingRunsToo() {
        Outcome outcome = launch("--nproc", "2", "--", "info");
        assertThat(outcome.exitCode()).isZero();
        assertThat(outcome.out()).contains("[rank 0] FlashRing ").contains("[rank 1] FlashRing ");
    }

    /** Losses to the last bit, over two steps: whatever is sent, summed or dealt otherwise would show. */
    @Test
    @Tag("full")
    @Timeout(600)
    void trainingOverProcessesHasTheBitsOfThreads(@TempDir Path folder) throws IOException {
        String[] options = {
            "train",
            "--text",
            "README.md",
            "--steps",
            "2",
            "--context",
            "61",
            "--batch",
            "1",
            "--layers",
            "2",
            "--dim",
            "32",
            "--ranks",
            "4",
            "--out"
        };
        List<String> threads = new ArrayList<>(List.of(options));
        threads.add(folder.resolve("threads").toString());
        assertThat(Main.commandLine()
                        .setOut(new PrintWriter(new StringWriter()))
                        .execute(threads.toArray(String[]::new)))
                .isZero();
        List<String> processes = new ArrayList<>(List.of("--nproc", "4", "--"));
        processes.addAll(List.of(options));
        processes.add(folder.resolve("processes").toString());
        Outcome outcome = launch(processes.toArray(String[]::new));
        assertThat(outcome.exitCode()).as(outcome.err() + outcome.out()).isZero();
        assertThat(outcome.out())
                .contains("[rank 0] Processes   4, a rank each")
                .doesNotContain("[rank 1] Text", "[rank 1] Processes"); // the JVM warns of what PyTorch calls
        assertThat(losses(folder.resolve("processes"))).hasSize(2).isEqualTo(losses(folder.resolve("threads")));
    }

    private static List<String> losses(Path folder) throws IOException {
        return Pattern.compile("\"loss\" *: *[-+.eE0-9]+")
                .matcher(Files.readString(folder.resolve("result.json")))
                .results()
                .map(MatchResult::group)
                .toList();
    }

    @Test
    void theFirstFailureEndsTheRestAndIsTheExitCode() {
        long start = System.nanoTime();
        Outcome outcome = launch("--nproc", "2", "--", Failing.class.getName());
        assertThat(outcome.exitCode()).isEqualTo(7);
        assertThat(outcome.err()).contains("rank 1 ended with exit code 7");
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(Duration.ofSeconds(60));
    }

    @Test
    void badUsageStartsNothing() {
        assertThat(launch("--nproc", "0", "--", "info").exitCode()).isEqualTo(2);
        assertThat(launch("--nproc", "2").exitCode()).isEqualTo(2);
        assertThat(launch("--", "info").exitCode()).isEqualTo(2);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            textBlock =
                    """
            --nnodes 0                                   | --nnodes is 0; it must be at least 1
            --nnodes 2 --node-rank 2                     | --node-rank is 2; it must lie in [0, 1], one of --nnodes = 2
            --node-rank 1                                | --node-rank is 1; it must lie in [0, 0], one of --nnodes = 1
            --nnodes 2 --port 29500                      | --master-addr is missing; it must name host 0
            --nnodes 2 --master-addr 10.0.0.1            | --port is missing; it must be the same on all --nnodes = 2
            --master-addr 10.0.0.1                       | --master-addr is 10.0.0.1; it must be left out on one host
            """)
    void hostsThatCannotBe(String options, String message) {
        List<String> words = new ArrayList<>(List.of(options.split(" ")));
        words.addAll(List.of("--nproc", "2", "--", "info"));
        Outcome outcome = launch(words.toArray(String[]::new));
        assertThat(outcome.exitCode()).isEqualTo(2);
        assertThat(outcome.err()).contains(message);
    }

    /** Ranks of several hosts could not meet with a secret that each host makes up. */
    @Test
    void severalHostsNeedASecretThatIsGiven() {
        assumeFalse(Secret.of(System.getenv()).isGiven(), "there is one");
        Outcome outcome =
                launch("--nnodes", "2", "--master-addr", "10.0.0.1", "--port", "29500", "--nproc", "1", "--", "info");
        assertThat(outcome.exitCode()).isEqualTo(2);
        assertThat(outcome.err()).contains("FLASHRING_SECRET is not set; it, or FLASHRING_SECRET_FILE");
    }

    static final class Meeting {
        private Meeting() {}

        public static void main(String[] args) {
            Environment environment = Environment.current();
            try (Session session = Rendezvous.join(environment, Map.of(), Duration.ofSeconds(60))) {
                byte[] word = (args[1] + " " + environment.rank()).getBytes(StandardCharsets.UTF_8);
                StringBuilder all = new StringBuilder();
                for (byte[] part : session.exchange(word)) {
                    all.append(all.isEmpty() ? "" : " ").append(new String(part, StandardCharsets.UTF_8));
                }
                System.out.println(all + ", with " + environment.secret() + " at " + environment.masterAddress()
                        + " and " + Threads.get() + " threads and " + System.getenv("CUDA_DEVICE_MAX_CONNECTIONS")
                        + " connections");
            }
        }
    }

    /** Rank 1 fails, rank 0 would go on for a long time. */
    static final class Failing {
        private Failing() {}

        public static void main(String[] args) throws InterruptedException {
            if (Environment.current().rank() == 1) {
                System.exit(7);
            }
            Thread.sleep(100_000);
        }
    }
}
