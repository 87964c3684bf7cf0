package org.flashring.comm.process;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.MatchResult;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.assertj.core.api.ListAssert;
import org.flashring.DType;
import org.flashring.cli.Main;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.ContractRank;
import org.flashring.internal.Native;
import org.flashring.launch.Environment;
import org.flashring.support.RankProcesses;
import org.flashring.support.TwoHosts;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/**
 * Two hosts, each with two of the ranks that {@code flashring launch} started there: whatever befalls one of them, or
 * the cable between, is one named exception on all that live, a second after the deadline at the latest, and nothing is
 * left behind.
 */
@Tag("full")
@Timeout(150)
@EnabledOnOs(value = OS.LINUX, disabledReason = "namespaces are Linux's")
class TwoHostsFaultTest {
    private static final Duration DEADLINE = Duration.ofSeconds(2);
    private static final int WORLD = 4;
    private static final String RUN =
            """
            for node in 0 1; do
                host=$([ $node = 0 ] && echo a || echo b)
                on $host bash -c '"$@"; echo "host ended with $?, $(ls -A /dev/shm | wc -l) files left"' bash \\
                    "${@:1:$#-2}" launch --nnodes 2 --node-rank $node --master-addr 10.77.0.1 --port 29507 \\
                    --nproc 2 -- \\
                    "${@: -2}" >"$FOLDER/$host" 2>&1 &
                launched+=($!)
            done
            until [ -e "$FOLDER/fault" ]; do kill -0 "${launched[@]}" || exit 1; sleep 0.02; done
            date +%s%3N >"$FOLDER/fault.at"
            bash -e "$FOLDER/fault"
            wait "${launched[@]}"
            echo "processes left: $(pgrep -c java || true)"
            """;
    private static final Pattern FAILURE = Pattern.compile("\\[rank (\\d)] failed at (\\d+): (.*)");

    @TempDir
    Path folder;

    @Test
    void theContract() throws Exception {
        run("contract", ": >$FOLDER/enough").isEmpty();
    }

    /** Neither end of a cable hears that it is gone: the deadline tells, on both sides. */
    @Test
    void aCableThatIsCut() throws Exception {
        run("ring", "ip -n a link set cable down", 0, 1, 2, 3).allSatisfy(said -> assertThat(said)
                .containsPattern("waited 2000 ms, the deadline, in .* for rank \\d"));
    }

    @Test
    void aRankThatIsKilled() throws Exception {
        run("ring", "kill -KILL $pid3", 0, 1, 2)
                .allSatisfy(said -> assertThat(said).contains("rank 3 is gone"));
    }

    @Test
    void aRankThatStops() throws Exception {
        run("ring", "kill -STOP $pid3", 0, 1, 2).allSatisfy(said -> assertThat(said)
                .containsPattern("waited 2000 ms, the deadline, in .* for rank \\d"));
    }

    @Test
    void aRankThatComputesForTooLong() throws Exception {
        run("stall", ": > $FOLDER/now", 0, 1, 2).allSatisfy(said -> assertThat(said)
                .containsPattern("waited 2000 ms, the deadline, in .* for rank \\d"));
    }

    @Test
    void aRankThatGivesUp() throws Exception {
        run("abort", ": > $FOLDER/now", 0, 1, 2, 3)
                .allSatisfy(said -> assertThat(said).contains("rank 3 failed").contains("no more"));
    }

    /** Pauses shorter than the deadline are no fault: all goes on, and what arrives is right. */
    @Test
    void aRankThatIsSlow() throws Exception {
        String pauses =
                "for i in 1 2 3; do kill -STOP $pid3; sleep 1; kill -CONT $pid3; sleep 0.1; done; : >$FOLDER/enough";
        run("ring", pauses).isEmpty();
    }

    /** A cable on which an exchange takes longer than usual, and shorter than the deadline. */
    @Test
    void aCableThatIsSlow() throws Exception {
        String slow =
                "for host in a b; do tc -n $host qdisc add dev cable root tbf rate 16mbit burst 32k latency 50ms; done";
        run("ring", slow + "; sleep 3; : >$FOLDER/enough").isEmpty();
    }

    /**
     * Starts the ranks, lets {@code fault} happen once all are at work, with their process numbers as $pid0 and so on,
     * and returns what the ranks say that fail: {@code expected}.
     */
    private ListAssert<String> run(String what, String fault, Integer... expected) throws Exception {
        TwoHosts.assumePossible();
        List<String> words = new ArrayList<>(RankProcesses.command(Main.class));
        words.addAll(List.of(Rank.class.getName(), what));
        try (TwoHosts hosts = TwoHosts.start(folder, RUN, words, Map.of("FLASHRING_SECRET", "two hosts' own"))) {
            StringBuilder script = new StringBuilder();
            for (int rank = 0; rank < WORLD; rank++) {
                Pattern running = Pattern.compile("\\[rank " + rank + "] running as (\\d+)");
                hosts.await(() -> running.matcher(said(hosts)).find());
                Matcher pid = running.matcher(said(hosts));
                assertThat(pid.find()).isTrue();
                script.append("pid")
                        .append(rank)
                        .append('=')
                        .append(pid.group(1))
                        .append('\n');
            }
            hosts.write("fault", script + fault + "\n");
            hosts.end(Duration.ofSeconds(60));
            String said = said(hosts);
            long from = Long.parseLong(hosts.file("fault.at").strip());
            List<MatchResult> failures = FAILURE.matcher(said).results().toList();
            assertThat(failures)
                    .as(said)
                    .extracting(failure -> Integer.valueOf(failure.group(1)))
                    .containsExactlyInAnyOrder(expected);
            assertThat(failures).as(said).allSatisfy(failure -> {
                assertThat(Long.parseLong(failure.group(2)) - from).isLessThan(DEADLINE.toMillis() + 1_000);
                assertThat(failure.group(3)).containsPattern("rank \\d").containsPattern("step \\d+ of ring");
            });
            assertThat(said).doesNotContain("wrong");
            assertThat(Pattern.compile("ended with (\\d+), 0 files left")
                            .matcher(said)
                            .results()
                            .map(end -> end.group(1)))
                    .as(said)
                    .hasSize(2)
                    .allSatisfy(code -> assertThat(code.equals("0")).isEqualTo(expected.length == 0));
            assertThat(hosts.file("hosts")).contains("processes left: 0");
            return assertThat(failures.stream().map(failure -> failure.group(3)).toList())
                    .as(said);
        }
    }

    private static String said(TwoHosts hosts) throws Exception {
        return "a: " + hosts.file("a") + "b: " + hosts.file("b");
    }

    /** What each process runs: the contract if asked to, then a ring whose ranks agree by a sum when it is enough. */
    static final class Rank {
        private static final int BYTES = 1 << 20;

        private Rank() {}

        public static void main(String[] args) throws InterruptedException {
            Environment environment = Environment.current();
            if (args[0].equals("contract")) {
                ContractRank.run(deadline -> ProcessGroup.join(environment, Map.of(), deadline));
            }
            try (Communicator ranks = ProcessGroup.join(environment, Map.of(), DEADLINE)) {
                ByteBuffer buffer = ByteBuffer.allocateDirect(2 * BYTES).order(ByteOrder.nativeOrder());
                for (int step = 0; step(ranks, buffer, step, args[0]); step++) {
                    if (step == 2) {
                        System.out.println(
                                "running as " + ProcessHandle.current().pid());
                    }
                }
                ranks.barrier();
            } catch (CommunicationException e) {
                System.out.println("failed at " + System.currentTimeMillis() + ": " + e.getMessage());
                System.exit(3);
            }
        }

        /** Sends the step's number on; returns whether no rank has had enough. */
        private static boolean step(Communicator ranks, ByteBuffer buffer, int step, String what)
                throws InterruptedException {
            Path folder = Path.of(System.getenv("FOLDER"));
            int world = ranks.worldSize();
            if (ranks.rank() == 3 && folder.resolve("now").toFile().exists()) {
                if (what.equals("abort")) {
                    ranks.abort(new IllegalStateException("no more"));
                } else {
                    Thread.sleep(60_000);
                }
            }
            long address = Native.address(buffer);
            int previous = (ranks.rank() + world - 1) % world;
            buffer.putInt(0, step).putInt(BYTES - 4, ranks.rank());
            ranks.at("ring", step);
            ranks.post(address, BYTES, (ranks.rank() + 1) % world, address + BYTES, BYTES, previous);
            ranks.await();
            if (buffer.getInt(BYTES) != step || buffer.getInt(2 * BYTES - 4) != previous) {
                System.out.println("wrong bytes in step " + step);
            }
            buffer.putFloat(0, folder.resolve("enough").toFile().exists() ? 1 : 0);
            ranks.allReduce(address, 1, DType.FLOAT32);
            return buffer.getFloat(0) == 0;
        }
    }
}
