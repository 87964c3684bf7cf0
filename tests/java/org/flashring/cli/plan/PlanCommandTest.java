package org.flashring.cli.plan;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.cli.Cli;
import org.flashring.cli.support.Quantity;
import org.flashring.plan.Plan;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class PlanCommandTest {
    @TempDir
    private Path folder;

    @Test
    @Timeout(value = 10, unit = TimeUnit.SECONDS)
    void aMillionTokensOverFourRanks() throws IOException {
        JsonObject result = plan("--length", "1M", "--ranks", "4", "--document-length", "5000", "--memory", "80G");
        double pairs = 0;
        for (JsonElement step : result.getAsJsonArray("perStep")) {
            pairs += step.getAsJsonObject().get("visiblePairs").getAsDouble();
        }
        long last = (1 << 20) % 5000; // tokens of the document that the end cuts off
        assertThat(pairs).isEqualTo((1 << 20) / 5000 * (5000 * 5001 / 2.0) + last * (last + 1) / 2.0);
    }

    @Test
    void numbersAreThoseOfThePlan() throws IOException {
        JsonObject result = plan(
                "--length",
                "1000",
                "--ranks",
                "3",
                "--layout",
                "striped",
                "--window",
                "10",
                "--heads",
                "4",
                "--kv-heads",
                "2",
                "--head-dim",
                "16",
                "--layers",
                "5",
                "--hidden",
                "96",
                "--dtype",
                "float16",
                "--batch",
                "2");
        AttentionShape shape = AttentionShape.of(2, 4, 2, 16, DType.FLOAT16);
        Plan plan = Plan.of(shape, Layout.striped(1000, 3), Mask.causal().window(9, 0), AttentionOptions.defaults());
        List<JsonElement> ranks = new ArrayList<>(result.getAsJsonArray("ranks").asList());
        assertThat(ranks).hasSize(3);
        for (int rank = 0; rank < 3; rank++) {
            JsonObject row = ranks.get(rank).getAsJsonObject();
            JsonObject memory = row.getAsJsonObject("memory");
            long tokens = plan.queries().localLength(rank);
            assertThat(row.get("tokens").getAsLong()).isEqualTo(tokens);
            assertThat(row.get("forwardFlops").getAsDouble()).isEqualTo(plan.forwardFlops(rank));
            assertThat(row.get("forwardBytesSent").getAsLong()).isEqualTo(plan.forwardBytesSent(rank));
            assertThat(row.get("backwardBytesSent").getAsLong()).isEqualTo(plan.backwardBytesSent(rank));
            assertThat(memory.get("ringBuffers").getAsLong()).isEqualTo(plan.bytesHeld(rank));
            assertThat(memory.get("layerTensors").getAsLong()).isEqualTo(plan.callerBytes(rank));
            // q and out of 4 heads, k and v of 2 heads, 16 float16 each, and a float32 lse per query head; 4 more
            // layers, 2 rows
            assertThat(memory.get("savedTensors").getAsLong())
                    .isEqualTo(4 * 2 * tokens * ((4 + 4 + 2 + 2) * 16 * 2 + 4 * 4));
            assertThat(memory.get("hiddenStates").getAsLong()).isEqualTo(5 * 2 * tokens * 96 * 2);
        }
    }

    @Test
    void stepsSumToTheTotals() throws IOException {
        JsonObject result = plan("--length", "997", "--ranks", "4", "--full");
        for (JsonElement rank : result.getAsJsonArray("ranks")) {
            long forward = 0;
            long backward = 0;
            for (JsonElement step : result.getAsJsonArray("perStep")) {
                if (step.getAsJsonObject()
                        .get("rank")
                        .equals(rank.getAsJsonObject().get("rank"))) {
                    forward += step.getAsJsonObject().get("forwardBytesSent").getAsLong();
                    backward += step.getAsJsonObject().get("backwardBytesSent").getAsLong();
                }
            }
            assertThat(forward)
                    .isPositive()
                    .isEqualTo(rank.getAsJsonObject().get("forwardBytesSent").getAsLong());
            assertThat(backward)
                    .isPositive()
                    .isEqualTo(rank.getAsJsonObject().get("backwardBytesSent").getAsLong());
        }
    }

    @Test
    void gatherIsPlannedByGroupsOfHeads() throws IOException {
        String[] options = {"--length", "997", "--ranks", "4", "--kv-heads", "8"};
        JsonObject ring = plan(options);
        JsonObject gather =
                plan(Stream.concat(Stream.of(options), Stream.of("--strategy", "gather", "--gather-heads", "3"))
                        .toArray(String[]::new));
        assertThat(gather.get("steps").getAsInt()).isEqualTo(1 + 3); // the first keys come; 3 + 3 + 2 heads
        for (int rank = 0; rank < 4; rank++) {
            JsonObject ofRing = ring.getAsJsonArray("ranks").get(rank).getAsJsonObject();
            JsonObject ofGather = gather.getAsJsonArray("ranks").get(rank).getAsJsonObject();
            assertThat(ofGather.get("forwardFlops")).isEqualTo(ofRing.get("forwardFlops"));
            assertThat(ofGather.get("forwardBytesSent").getAsLong())
                    .isEqualTo(3 * 8 * 256 * 2 * ofGather.get("tokens").getAsLong());
        }
        assertThat(Cli.run("plan", "--length", "64", "--strategy", "gather", "--gather-heads", "2")
                        .out())
                .contains("steps by gather of 2 heads");
    }

    /** Backward passes the keys of a head round at a time: its steps are more than forward's. */
    @Test
    void stepsOfBackwardAreSaidWhereTheyDiffer() throws IOException {
        assertThat(plan("--length", "997", "--ranks", "4").get("backwardSteps").isJsonNull())
                .isTrue();
        JsonObject some = plan("--length", "997", "--ranks", "4", "--kv-heads", "8", "--ring-heads", "1");
        assertThat(some.get("steps").getAsInt()).isEqualTo(4);
        assertThat(some.get("backwardSteps").getAsInt()).isEqualTo(8 * 4);
        assertThat(some.getAsJsonArray("perStep")).hasSize(8 * 4 * 4);
    }

    @Test
    void haloIsPlannedByTheKeysThatAreSeen() throws IOException {
        JsonObject halo = plan(
                "--length",
                "997",
                "--ranks",
                "4",
                "--kv-heads",
                "8",
                "--layout",
                "contiguous",
                "--window",
                "100",
                "--strategy",
                "halo");
        assertThat(halo.get("steps").getAsInt()).isEqualTo(2);
        for (int rank = 0; rank < 4; rank++) {
            long rows = rank == 3 ? 0 : 99;
            assertThat(halo.getAsJsonArray("ranks")
                            .get(rank)
                            .getAsJsonObject()
                            .get("forwardBytesSent")
                            .getAsLong())
                    .isEqualTo(rows * 8 * 256 * 2);
        }
    }

    @Test
    void theLargestLengthFitsAndTheNextDoesNot() throws IOException {
        long memory = 64 << 20;
        long largest =
                plan("--length", "1K", "--memory", "64M").get("largestLength").getAsLong();
        assertThat(held(largest)).isLessThanOrEqualTo(memory);
        assertThat(held(largest + 1)).isGreaterThan(memory);
    }

    private long held(long length) throws IOException {
        long most = 0;
        for (JsonElement rank : plan("--length", Long.toString(length)).getAsJsonArray("ranks")) {
            long held = 0;
            for (var part : rank.getAsJsonObject().getAsJsonObject("memory").entrySet()) {
                held += part.getValue().getAsLong();
            }
            most = Math.max(most, held);
        }
        return most;
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "--length 1M --ranks 8 --kv-heads 8 --memory 80G",
                "--length 997 --ranks 24 --full --memory 1G",
                "--length 2M --heads 128 --head-dim 256 --layers 200 --memory 20T",
                "--length 5000 --ranks 6 --document-length 700 --memory 500M",
                "--length 64 --batch 3 --layout striped --window 9 --dtype float64"
            })
    void fitsInEightyColumns(String options) {
        Cli run = Cli.run(("plan " + options).split(" "));
        assertThat(run.exitCode()).isZero();
        assertThat(run.out().lines()).allSatisfy(line -> assertThat(line).hasSizeLessThanOrEqualTo(80));
    }

    @Test
    void equalRanksAndStepsShareARow() {
        String out = Cli.run("plan", "--length", "1M", "--ranks", "8", "--kv-heads", "8")
                .out();
        assertThat(out)
                .containsOnlyOnce("0-7   131,072    1.13 PFLOP")
                .contains("\n0-6           8  140.74 TFLOP")
                .contains("\n7             8");
        assertThat(out.lines().filter(line -> line.matches("\\d+(-\\d+)?  .*")))
                .hasSize(4); // ranks twice, two kinds of steps
        assertThat(Cli.run("plan", "--length", "7", "--ranks", "3", "--layout", "contiguous")
                        .out())
                .containsPattern("\n0 .*\n1 .*\n2 ")
                .containsPattern("\n0 .*KiB\n1-2 .*KiB|\n0 .*MiB\n1-2 .*MiB");
    }

    @Test
    void saysWhatDoesNotFitAndHowManyRanksWould() throws IOException {
        JsonObject result = plan("--length", "64K", "--ranks", "2", "--memory", "8G");
        assertThat(result.get("fits").getAsBoolean()).isFalse();
        int needed = result.get("ranksNeeded").getAsInt();
        assertThat(needed).isGreaterThan(2);
        assertThat(plan("--length", "64K", "--ranks", String.valueOf(needed), "--memory", "8G")
                        .get("fits")
                        .getAsBoolean())
                .isTrue();
        assertThat(plan("--length", "64K", "--ranks", String.valueOf(needed - 1), "--memory", "8G")
                        .get("fits")
                        .getAsBoolean())
                .isFalse();
        assertThat(Cli.run("plan", "--length", "64K", "--ranks", "2", "--memory", "8G")
                        .out())
                .contains("Does NOT fit in 8.00 GiB a rank: rank 0 holds ")
                .contains("It fits over " + needed + " ranks.");
        assertThat(Cli.run("plan", "--length", "1K", "--memory", "8G").out())
                .contains("Fits in 8.00 GiB a rank: rank 0 holds ")
                .doesNotContain("It fits over");
    }

    /** Plans of 1,024 ranks are a million pairs of ranks. */
    @Test
    @Tag("full")
    void saysThatNoNumberOfRanksSuffices() {
        assertThat(Cli.run("plan", "--length", "64K", "--ranks", "2", "--memory", "8M")
                        .out())
                .contains("Nor does it fit over 1,024 ranks.");
    }

    @Test
    void documentsOfAFileFitOrNot() throws IOException {
        Path file = Files.writeString(folder.resolve("documents"), "1000 2000 3000");
        JsonObject result = plan("--documents", file.toString(), "--memory", "1G");
        assertThat(result.get("fits").getAsBoolean()).isFalse();
        assertThat(result.get("ranksNeeded").getAsInt()).isGreaterThan(4);
        assertThat(result.get("largestLength").isJsonNull()).isTrue();
    }

    @Test
    void unitsThatPeopleRead() {
        assertThat(Quantity.flops(0)).isEqualTo("0 FLOP");
        assertThat(Quantity.flops(999)).isEqualTo("999 FLOP");
        assertThat(Quantity.flops(999_999)).isEqualTo("1.00 MFLOP");
        assertThat(Quantity.flops(1.125901e15)).isEqualTo("1.13 PFLOP");
        assertThat(Quantity.flops(3.2e21)).isEqualTo("3200.00 EFLOP");
    }

    @Test
    void documentsFromAFile() throws IOException {
        Path file = Files.writeString(folder.resolve("documents"), "10 20\n\n0\t5\n");
        assertThat(plan("--documents", file.toString(), "--ranks", "2")
                        .get("length")
                        .getAsLong())
                .isEqualTo(35);
    }

    private JsonObject plan(String... options) throws IOException {
        Path file = folder.resolve("plan.json");
        List<String> words = new ArrayList<>(List.of("plan", "--json", file.toString()));
        words.addAll(List.of(options));
        Cli run = Cli.run(words.toArray(String[]::new));
        assertThat(run.err()).isEmpty();
        assertThat(run.exitCode()).isZero();
        assertThat(run.out()).contains("Per rank", "Per step");
        return Cli.json(file);
    }
}
