package org.flashring.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The variable and the property that cap the kernels, as a new process reads them. */
@Timeout(120)
class KernelCapTest {
    @TempDir
    private Path folder;

    private record Outcome(int exitCode, String output) {
        /** Returns the lines of the table about the host's kernel of that name. */
        List<String> rows(String kernel) {
            return output.lines().filter(line -> line.startsWith(kernel + " ")).toList();
        }
    }

    /** Runs {@code info} with the variable and the property set to what is not null. */
    private Outcome info(String variable, String property) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-XX:TieredStopAtLevel=1",
                "-cp",
                System.getProperty("java.class.path")));
        if (property != null) {
            command.add("-Dorg.flashring.maxKernel=" + property);
        }
        command.addAll(List.of(Main.class.getName(), "info"));
        Path output = folder.resolve("output");
        ProcessBuilder builder =
                new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(output.toFile());
        builder.environment().remove("JAVA_TOOL_OPTIONS");
        builder.environment().remove("FLASHRING_MAX_KERNEL");
        if (variable != null) {
            builder.environment().put("FLASHRING_MAX_KERNEL", variable);
        }
        Process process = builder.start();
        assertThat(process.waitFor(100, TimeUnit.SECONDS)).isTrue();
        return new Outcome(process.exitValue(), Files.readString(output));
    }

    @Test
    void variableRulesOutWhatIsAboveIt() throws Exception {
        Outcome outcome = info("simd128", null);
        assertThat(outcome.exitCode()).isZero();
        assertThat(outcome.output()).contains("Highest kernel   simd128, set by FLASHRING_MAX_KERNEL");
        assertThat(outcome.rows("avx2"))
                .hasSize(4)
                .allMatch(row -> row.endsWith("no: ruled out by FLASHRING_MAX_KERNEL = simd128")
                        || row.endsWith("no: this machine lacks AVX2 and FMA"));
        assertThat(outcome.rows("simd128")).hasSize(4).allMatch(row -> row.endsWith("yes"));
    }

    @Test
    void propertyGoesBeforeTheVariable() throws Exception {
        Outcome outcome = info("simd128", "reference");
        assertThat(outcome.exitCode()).isZero();
        assertThat(outcome.output()).contains("Highest kernel   reference, set by org.flashring.maxKernel");
        assertThat(outcome.rows("simd128"))
                .hasSize(4)
                .allMatch(row -> row.endsWith("no: ruled out by org.flashring.maxKernel = reference"));
        assertThat(outcome.rows("reference")).hasSize(4).allMatch(row -> row.endsWith("yes"));
    }

    @Test
    void emptyPropertyLiftsTheCap() throws Exception {
        Outcome outcome = info("sse9", "");
        assertThat(outcome.exitCode()).isZero();
        assertThat(outcome.output()).doesNotContain("Highest kernel", "ruled out");
        assertThat(outcome.rows("simd128")).hasSize(4).allMatch(row -> row.endsWith("yes"));
    }

    @Test
    void unknownNamesAreRefusedWithTheList() throws Exception {
        Outcome ofVariable = info("sse9", null);
        assertThat(ofVariable.exitCode()).isEqualTo(2);
        assertThat(ofVariable.output().lines())
                .singleElement()
                .asString()
                .startsWith("flashring info: FLASHRING_MAX_KERNEL = sse9 must be one of decode, amx, ")
                .contains("avx2, simd128, reference, wgmma, mma");
        Outcome ofProperty = info("simd128", "sse9");
        assertThat(ofProperty.exitCode()).isEqualTo(2);
        assertThat(ofProperty.output().lines())
                .singleElement()
                .asString()
                .startsWith("flashring info: org.flashring.maxKernel = sse9 must be one of decode, amx, ");
    }
}
