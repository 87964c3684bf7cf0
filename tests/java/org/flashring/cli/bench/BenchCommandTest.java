package org.flashring.cli.bench;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Path;
import org.flashring.cli.Cli;
import org.flashring.internal.Native;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BenchCommandTest {
    @TempDir
    private Path folder;

    @Test
    void comparesWithPyTorch() throws IOException {
        Path file = folder.resolve("bench.json");
        int threads = Native.threads();
        Cli run = Cli.run(
                "bench",
                "--length",
                "61,128",
                "--dim",
                "24",
                "--dtype",
                "float64,float32",
                "--heads",
                "4",
                "--kv-heads",
                "2",
                "--batch",
                "2",
                "--threads",
                "2",
                "--repeats",
                "3",
                "--json",
                file.toString());
        assertThat(run.err()).isEmpty();
        assertThat(run.exitCode()).isZero();
        assertThat(run.out()).contains("4 * batch * heads * length^2 * dim").contains("B2 H4/2 S61 D24");
        assertThat(Native.threads()).as("threads after the run").isEqualTo(threads);
        JsonObject result = Cli.json(file);
        assertThat(result.get("threads").getAsInt()).isEqualTo(2);
        assertThat(result.get("complete").getAsBoolean()).isTrue();
        assertThat(result.getAsJsonArray("lines")).hasSize(2 * 2 * 2 * 2); // types, lengths, masks, passes
        for (JsonElement element : result.getAsJsonArray("lines")) {
            JsonObject line = element.getAsJsonObject();
            JsonObject score = line.getAsJsonObject("score");
            double tolerance = line.get("dtype").getAsString().equals("float64") ? 1e-13 : 1e-4;
            assertThat(score.get("largestDifference").getAsDouble()).isLessThan(tolerance);
            assertThat(score.getAsJsonArray("flashRingMillis")).hasSize(3);
            double length = line.get("length").getAsDouble();
            double flops = 4
                    * 2
                    * 4
                    * length
                    * length
                    * 24
                    * (line.get("causal").getAsBoolean() ? 0.5 : 1)
                    * (score.get("pass").getAsString().equals("backward") ? 2.5 : 1);
            assertThat(score.get("flops").getAsDouble()).isEqualTo(flops);
            assertThat(line.get("ratio").getAsDouble())
                    .isEqualTo(line.get("torchMillis").getAsDouble()
                            / line.get("flashRingMillis").getAsDouble());
        }
    }
}
