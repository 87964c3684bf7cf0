package org.flashring.cli.plan;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.flashring.cli.Cli;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Strategies beside each other, held to what {@code plan} says of each alone. */
class PlanComparisonTest {
    private static final String PROBLEM = "--length 997 --ranks 4 --heads 8 --kv-heads 2 --window 300 --batch 2";

    @TempDir
    private Path folder;

    @ParameterizedTest
    @CsvSource({
        "0, --strategy ring",
        "1, --strategy gather",
        "2, --strategy halo",
        "3, --strategy ulysses",
        "4, --strategy ulysses --ulysses-ranks 2"
    })
    void eachIsWhatItIsAlone(int index, String strategy) throws IOException {
        JsonObject alone = plan(PROBLEM + " " + strategy);
        List<JsonElement> all =
                plan(PROBLEM + " --strategy all").getAsJsonArray("strategies").asList();
        assertThat(all).hasSize(5);
        JsonObject beside = all.get(index).getAsJsonObject();
        assertThat(beside.get("refused").isJsonNull()).isTrue();
        assertThat(beside.get("steps")).isEqualTo(alone.get("steps"));
        assertThat(beside.get("ranks")).isEqualTo(alone.get("ranks"));
        double most = 0;
        double sum = 0;
        for (JsonElement rank : alone.getAsJsonArray("ranks")) {
            double flops = rank.getAsJsonObject().get("forwardFlops").getAsDouble();
            most = Math.max(most, flops);
            sum += flops;
        }
        assertThat(beside.get("balance").getAsDouble()).isEqualTo(most * 4 / sum);
    }

    @Test
    void whatIsRefusedSaysWhyAndTheRestIsThere() throws IOException {
        String options = "--length 1K --ranks 6 --heads 4 --strategy all";
        List<JsonElement> all = plan(options).getAsJsonArray("strategies").asList();
        assertThat(all.stream()
                        .map(each -> each.getAsJsonObject().get("strategy").getAsString()))
                .containsExactly(
                        "ring",
                        "gather of 1 head",
                        "halo",
                        "ulysses",
                        "ulysses of 2 ranks, ring between groups"); // heads of 4 are not dealt evenly to 3
        for (JsonElement each : all) {
            boolean refused = !each.getAsJsonObject().get("refused").isJsonNull();
            assertThat(each.getAsJsonObject().get("strategy").getAsString().equals("ulysses"))
                    .isEqualTo(refused);
        }
        assertThat(run(options).out())
                .containsPattern("ulysses +- .*refused")
                .contains("ulysses is refused: ranks of ulysses is 6; it must be at most the 4 query heads");
    }

    @Test
    void groupsOfUlyssesAreThoseAskedForAlone() throws IOException {
        JsonObject result = plan(
                "--length 1K --ranks 8 --heads 8 --strategy all --ulysses-ranks 4 --between gather --gather-heads 2");
        assertThat(result.getAsJsonArray("strategies").asList().stream()
                        .map(each -> each.getAsJsonObject().get("strategy").getAsString()))
                .containsExactly(
                        "ring",
                        "gather of 2 heads",
                        "halo",
                        "ulysses",
                        "ulysses of 4 ranks, gather of 2 heads between groups");
    }

    @Test
    void splitsAreAllAndTheSmallestThatFitsIsNamed() throws IOException {
        String problem = "--length 64K --heads 8 --kv-heads 2 --layers 2";
        JsonObject result = plan(problem + " --strategy all --gpus 12 --memory 512M");
        List<Integer> parallel = new ArrayList<>();
        for (JsonElement each : result.getAsJsonArray("splits")) {
            JsonObject split = each.getAsJsonObject();
            int cp = split.get("contextParallel").getAsInt();
            parallel.add(cp);
            assertThat(split.get("dataParallel").getAsInt()).isEqualTo(12 / cp);
            assertThat(split.get("tokensPerStep").getAsLong()).isEqualTo(12 / cp * 65_536L);
            assertThat(split.getAsJsonObject("held").keySet()).containsExactly("ring", "gather", "halo", "ulysses");
        }
        assertThat(parallel).containsExactly(1, 2, 3, 4, 6, 12);
        JsonObject smallest = result.getAsJsonObject("smallestContextParallel");
        for (String strategy : smallest.keySet()) {
            assertThat(smallest.get(strategy).isJsonNull())
                    .as("%s fits on none of the splits: give the case more memory", strategy)
                    .isFalse();
            int cp = smallest.get(strategy).getAsInt();
            assertThat(fits(problem, strategy, cp)).as(strategy).isTrue();
            assertThat(fits(problem, strategy, parallel.get(parallel.indexOf(cp) - 1)))
                    .as(strategy)
                    .isFalse();
        }
        assertThat(run(problem + " --gpus 12 --memory 1M").out()).contains("ring none.");
    }

    private boolean fits(String problem, String strategy, int ranks) throws IOException {
        boolean groups =
                strategy.equals("ulysses") && ranks > 8; // as many as heads, or a number that divides the ranks
        return plan(problem + " --memory 512M --ranks " + ranks + " --strategy " + strategy
                        + (groups ? " --ulysses-ranks 6" : ""))
                .get("fits")
                .getAsBoolean();
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "--length 1M --kv-heads 8 --gpus 64 --memory 80G",
                "--length 4M --ranks 48 --heads 64 --between gather --gather-heads 16 --gpus 96 --batch 8 --memory 1G",
                "--length 64 --ranks 1",
                "--length 10000 --ranks 36 --heads 12 --document-length 700 --dtype float64"
            })
    void fitsInTheColumns(String options) {
        assertThat(run(options + " --strategy all").out().lines())
                .allSatisfy(line -> assertThat(line).hasSizeLessThanOrEqualTo(120));
    }

    private Cli run(String options) {
        Cli run = Cli.run(
                Stream.concat(Stream.of("plan"), Stream.of(options.split(" "))).toArray(String[]::new));
        assertThat(run.err()).isEmpty();
        assertThat(run.exitCode()).isZero();
        return run;
    }

    private JsonObject plan(String options) throws IOException {
        Path file = folder.resolve("plan.json");
        run(options + " --json " + file);
        return Cli.json(file);
    }
}
