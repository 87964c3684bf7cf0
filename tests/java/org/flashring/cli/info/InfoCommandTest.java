package org.flashring.cli.info;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;
import org.flashring.cli.Cli;
import org.flashring.comm.process.ProcessGroup;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.internal.Native;
import org.flashring.kernel.Capability;
import org.flashring.support.Capped;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Capped
class InfoCommandTest {
    @TempDir
    private Path folder;

    @Test
    void saysWhatThereIs() {
        Cli run = Cli.run("info");
        assertThat(run.exitCode()).isZero();
        assertThat(run.err()).isEmpty();
        assertThat(run.out())
                .contains(
                        Native.version(), "linux-x86_64", "libflashring.so", Native.threads() + " threads", "PyTorch");
        assertThat(run.out())
                .contains("CUDA devices     "
                        + (Cuda.isAvailable() ? Cuda.deviceCount() : "none: " + Cuda.unavailabilityCause()));
        String cause = ProcessGroup.sharedMemoryUnavailabilityCause();
        assertThat(run.out())
                .contains("Processes        exchange through "
                        + (cause.isEmpty() ? "shared memory" : "sockets: " + cause));
        for (int device = 0; device < Cuda.deviceCount(); device++) {
            Device cuda = Device.cuda(device);
            assertThat(run.out()).contains(InfoCommand.deviceLine(Cuda.name(cuda), Cuda.tileBytes(cuda)));
        }
        for (Capability row : Capability.all()) {
            assertThat(run.out())
                    .containsPattern(row.name() + " +" + row.dtype().name().toLowerCase(Locale.ROOT) + ".* "
                            + Pattern.quote(row.available() ? "yes" : "no: " + row.cause()) + "\\R");
            assertThat(row.cause().isEmpty()).isEqualTo(row.available());
        }
        String cap = Native.maxKernel();
        assertThat(run.out().contains("Highest kernel   " + cap + ", set by ")).isEqualTo(!cap.isEmpty());
    }

    @Test
    void json() throws IOException {
        Path file = folder.resolve("info.json");
        assertThat(Cli.run("info", "--json", file.toString()).exitCode()).isZero();
        JsonObject info = Cli.json(file);
        assertThat(info.get("version").getAsString()).isEqualTo(Native.version());
        assertThat(Path.of(info.get("nativeLibrary").getAsString())).exists();
        assertThat(info.get("maxKernel").getAsString()).isEqualTo(Native.maxKernel());
        assertThat(info.get("cudaDevices").getAsInt()).isEqualTo(Cuda.deviceCount());
        assertThat(info.get("cudaCause").getAsString()).isEqualTo(Cuda.unavailabilityCause());
        assertThat(info.getAsJsonArray("cudaTileBytes")).hasSize(Cuda.deviceCount());
        assertThat(info.getAsJsonArray("capabilities")).hasSameSizeAs(Capability.all());
        assertThat(info.getAsJsonArray("capabilities")
                        .get(0)
                        .getAsJsonObject()
                        .get("available")
                        .isJsonPrimitive())
                .isTrue();
    }

    @Test
    void deviceLines() {
        assertThat(InfoCommand.deviceLine("cuda:0, L4", 101376))
                .isEqualTo("cuda:0, L4: tiles for 99 KB of shared memory a block");
        assertThat(InfoCommand.deviceLine("cuda:1, T4", 0)).isEqualTo("cuda:1, T4: no kernel runs on it");
    }

    /** The README's table is this command's output, between two markers. */
    @Test
    void readmeShowsTheCapabilityTable() throws IOException {
        String readme = Files.readString(Path.of("README.md"));
        assertThat(readme).containsOnlyOnce("<!-- capabilities -->").containsOnlyOnce("<!-- /capabilities -->");
        List<String> shown = readme.substring(
                        readme.indexOf("<!-- capabilities -->"), readme.indexOf("<!-- /capabilities -->"))
                .lines()
                .skip(1)
                .filter(line -> !line.isBlank())
                .toList();
        assertThat(shown)
                .as("README.md, to be replaced by what 'flashring info --markdown' prints")
                .isEqualTo(Cli.run("info", "--markdown").out().lines().toList());
    }
}
