package org.flashring.cli.bench;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.cli.Cli;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StrategyBenchTest {
    private static final String CASE = "--causal --length 97 --dim 24 --batch 2 --repeats 3";

    @TempDir
    private Path folder;

    @Test
    void allStrategiesAreTimedInOneRun() throws IOException {
        check("--dtype float32 --heads 4 --kv-heads 2 --ranks 4 --strategy all", AttentionOptions.defaults(), 4);
    }

    @Test
    @RequiresGpu(value = 2, nccl = true)
    void overTwoGpus() throws IOException {
        check(
                "--device cuda --dtype bfloat16 --heads 4 --kv-heads 2 --ranks 2 --strategy all",
                AttentionOptions.defaults().onCuda(),
                2);
    }

    private void check(String options, AttentionOptions of, int ranks) throws IOException {
        JsonObject result = bench(options);
        List<Strategy> strategies = new ArrayList<>(List.of(new Ring(), new Gather(1), new Halo(), new Ulysses()));
        if (ranks == 4) {
            strategies.add(new Ulysses(2, new Ring()));
        }
        DType dtype = of.cuda() ? DType.BFLOAT16 : DType.FLOAT32;
        Problem problem = Problem.of(AttentionShape.of(2, 4, 2, 24, dtype), Layout.zigzag(97, ranks), Mask.causal());
        List<JsonElement> lines = result.getAsJsonArray("lines").asList();
        assertThat(lines).hasSize(strategies.size());
        JsonObject ring = lines.get(0).getAsJsonObject();
        for (int i = 0; i < strategies.size(); i++) {
            JsonObject line = lines.get(i).getAsJsonObject();
            assertThat(line.get("strategy").getAsString())
                    .isEqualTo(strategies.get(i).toString());
            Plan plan = Plan.of(problem, strategies.get(i), of);
            long held = 0;
            long sent = 0;
            for (int rank = 0; rank < ranks; rank++) {
                held = Math.max(held, plan.bytesHeld(rank) + plan.callerBytes(rank));
                sent = Math.max(sent, plan.forwardBytesSent(rank));
            }
            assertThat(line.get("held").getAsLong()).isEqualTo(held);
            assertThat(line.get("forwardBytesSent").getAsLong()).isEqualTo(sent);
            for (String pass : List.of("forward", "both")) {
                double millis = requireSlowest(line.getAsJsonObject(pass), ranks);
                assertThat(line.getAsJsonObject(pass).get("ratio").getAsDouble())
                        .isEqualTo(ring.getAsJsonObject(pass).get("millis").getAsDouble() / millis);
            }
        }
    }

    /** Returns the milliseconds of a pass, which must be the middle run of the slowest rank. */
    private static double requireSlowest(JsonObject pass, int ranks) {
        List<JsonElement> runs = pass.getAsJsonArray("runs").asList();
        assertThat(runs).hasSize(ranks);
        double slowest = 0;
        for (JsonElement ofRank : runs) {
            double[] sorted = ofRank.getAsJsonArray().asList().stream()
                    .mapToDouble(JsonElement::getAsDouble)
                    .sorted()
                    .toArray();
            assertThat(sorted).hasSize(3);
            assertThat(Arrays.stream(sorted))
                    .allSatisfy(millis -> assertThat(millis).isPositive());
            slowest = Math.max(slowest, sorted[1]);
        }
        assertThat(pass.get("millis").getAsDouble()).isEqualTo(slowest);
        return slowest;
    }

    /** One strategy is timed beside the ring; what is refused says why. */
    @Test
    void theRingIsBesideAnyAndRefusalsAreSaid() throws IOException {
        List<JsonElement> two = bench("--dtype float64 --heads 2 --ranks 3 --strategy halo")
                .getAsJsonArray("lines")
                .asList();
        assertThat(two).hasSize(2);
        assertThat(two.get(1).getAsJsonObject().get("strategy").getAsString()).isEqualTo("halo");
        JsonObject refused = bench("--dtype float64 --heads 2 --ranks 3 --strategy ulysses")
                .getAsJsonArray("lines")
                .get(1)
                .getAsJsonObject();
        assertThat(refused.get("refused").getAsString()).contains("must be at most the 2 query heads");
        assertThat(refused.get("forward").isJsonNull()).isTrue();
    }

    private JsonObject bench(String options) throws IOException {
        Path file = folder.resolve("bench.json");
        Cli run = Cli.run(Stream.of("bench " + CASE + " " + options + " --json " + file)
                .flatMap(line -> Stream.of(line.split(" ")))
                .toArray(String[]::new));
        assertThat(run.err()).isEmpty();
        assertThat(run.exitCode()).isZero();
        assertThat(run.out().lines()).allSatisfy(line -> assertThat(line).hasSizeLessThanOrEqualTo(120));
        return Cli.json(file);
    }
}
