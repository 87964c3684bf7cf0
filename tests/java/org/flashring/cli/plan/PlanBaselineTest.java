package org.flashring.cli.plan;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.flashring.cli.Main;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * What {@code flashring plan --json} wrote for thirty problems when they were recorded, number for number. Kernels are
 * capped and threads given, since workspaces depend on both; so the numbers are those of any machine.
 */
class PlanBaselineTest {
    private static final String RECORDED = "baseline.txt"; // options, a tab and what they wrote, on a line each

    @TempDir
    private Path folder;

    @Test
    void thirtyPlansAreAsRecorded() throws Exception {
        List<String> recorded;
        try (InputStream in = PlanBaselineTest.class.getResourceAsStream(RECORDED)) {
            recorded = new String(in.readAllBytes(), StandardCharsets.UTF_8)
                    .lines()
                    .toList();
        }
        assertThat(recorded).hasSize(30);
        Path options = Files.write(
                folder.resolve("options"),
                recorded.stream().map(line -> line.split("\t")[0]).toList());
        assertThat(run(options)).containsExactlyElementsOf(recorded);
    }

    private List<String> run(Path options) throws IOException, InterruptedException {
        Path out = folder.resolve("out");
        ProcessBuilder builder = new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0",
                "-XX:TieredStopAtLevel=1",
                "-cp",
                System.getProperty("java.class.path"),
                Problems.class.getName(),
                options.toString());
        builder.environment().putAll(Map.of("FLASHRING_MAX_KERNEL", "simd128", "FLASHRING_THREADS", "2"));
        Process process =
                builder.redirectErrorStream(true).redirectOutput(out.toFile()).start();
        assertThat(process.waitFor()).as(() -> read(out)).isZero();
        return Files.readAllLines(out);
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            return e.toString();
        }
    }

    /** Plans the problems of a file of options, and prints what was recorded of each. */
    static final class Problems {
        private Problems() {}

        public static void main(String[] args) throws IOException {
            for (String options : Files.readAllLines(Path.of(args[0]))) {
                Path file = Files.createTempFile("plan", ".json");
                List<String> words = new ArrayList<>(List.of("plan", "--json", file.toString()));
                words.addAll(List.of(options.split(" ")));
                int exitCode = Main.commandLine()
                        .setOut(new PrintWriter(Writer.nullWriter()))
                        .execute(words.toArray(String[]::new));
                System.out.println(options + "\t"
                        + (exitCode == 0
                                ? JsonParser.parseString(Files.readString(file)).toString()
                                : exitCode));
                Files.delete(file);
            }
        }
    }
}
