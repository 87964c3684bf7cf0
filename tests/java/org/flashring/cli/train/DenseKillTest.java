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
import org.flashring.cli.Main;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** A process that is killed costs what came after the last checkpoint, and nothing else. */
@Tag("full")
@Timeout(300)
class DenseKillTest {
    private static final int RANKS = 3;
    private static final int STEPS = 24;

    @TempDir
    private Path folder;

    private Process start(Path log, Map<String, String> variables, String... more) throws IOException {
        List<String> command = new ArrayList<>(RankProcesses.command(Main.class));
        command.addAll(List.of("train", "--text", "README.md", "--engine", "dense", "--layers", "1", "--dim", "64"));
        command.addAll(List.of("--batch", "2", "--context", "251", "--steps", String.valueOf(STEPS)));
        command.addAll(List.of("--checkpoint-every", "4"));
        command.addAll(List.of(more));
        ProcessBuilder builder =
                new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log.toFile());
        builder.environment().putAll(variables);
        return builder.start();
    }

    @Test
    void theOthersSayWhoIsGoneAndTheResumedRunIsTheUninterruptedOne() throws IOException, InterruptedException {
        Path killed = folder.resolve("killed");
        String port = String.valueOf(RankProcesses.freePort());
        List<Process> ranks = new ArrayList<>();
        for (int rank = 0; rank < RANKS; rank++) {
            Map<String, String> variables = Map.of(
                    "RANK", String.valueOf(rank),
                    "LOCAL_RANK", String.valueOf(rank),
                    "WORLD_SIZE", String.valueOf(RANKS),
                    "MASTER_ADDR", "127.0.0.1",
                    "MASTER_PORT", port);
            ranks.add(start(folder.resolve("rank" + rank), variables, "--out", killed.toString()));
        }
        while (!Files.exists(killed.resolve("checkpoint-00000012"))) {
            assertThat(ranks).allMatch(Process::isAlive);
            TimeUnit.MILLISECONDS.sleep(20);
        }
        ranks.get(1).destroyForcibly();
        for (int rank : new int[] {0, 2}) {
            assertThat(ranks.get(rank).waitFor()).isEqualTo(1);
            assertThat(folder.resolve("rank" + rank)).content().contains("rank 1 is gone");
        }

        Path whole = folder.resolve("whole");
        Path log = folder.resolve("log");
        assertThat(start(log, Map.of(), "--ranks", "3", "--out", whole.toString())
                        .waitFor())
                .isZero();
        assertThat(start(log, Map.of(), "--ranks", "3", "--out", killed.toString(), "--resume", killed.toString())
                        .waitFor())
                .isZero();
        JsonObject resumed = result(killed);
        int before = resumed.get("stepsBefore").getAsInt();
        assertThat(before).isBetween(12, STEPS - 1);
        assertThat(losses(resumed)).isEqualTo(losses(result(whole)).subList(before, STEPS));
        for (String file : List.of("model.safetensors", "optimizer.safetensors")) {
            String path = "checkpoint-000000" + STEPS + "/" + file;
            assertThat(killed.resolve(path)).hasSameBinaryContentAs(whole.resolve(path));
        }
    }
}
