package org.flashring.packaging;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.flashring.packaging.Program.Ending;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Runtimes and machines that have less than usual: the program is right, or one sentence says why not and what helps.
 */
@Timeout(120)
class SurroundingsIT {
    private static final List<Path> JARS = List.of(Program.CORE, Program.NATIVES);
    private static final int DOORS = 8; // that Consumer tries in vain

    @TempDir
    static Path classes;

    private static Program program;

    @TempDir
    Path folder;

    @BeforeAll
    static void compile() throws Exception {
        program = Program.compile(classes);
    }

    private Ending run(Path home, Path cache, List<String> options, String... mainAndArguments) throws Exception {
        List<String> all = new ArrayList<>(options);
        all.addAll(List.of("-classpath", program.classPath(JARS)));
        all.addAll(List.of(mainAndArguments));
        Path output = folder.resolve("output");
        return Program.end(Program.start(home, cache, output, all), output);
    }

    private Ending run(List<String> options, String... mainAndArguments) throws Exception {
        return run(Path.of(System.getProperty("java.home")), folder.resolve("cache"), options, mainAndArguments);
    }

    private static void assertRight(Ending ending) {
        assertThat(ending.output()).contains("forward and backward are right");
        assertThat(ending.status()).isZero();
    }

    /** Every door says the same sentence, the first one and those after it. */
    private static void assertRefused(Ending ending, String sentence) {
        assertThat(ending.status()).as(ending.output()).isZero();
        assertThat(ending.output().lines().toList())
                .hasSize(DOORS)
                .allMatch(line -> line.startsWith("java.lang.UnsatisfiedLinkError: FlashRing's native library for "))
                .allMatch(line -> line.contains(sentence), sentence);
    }

    // ---- what the process may use ----

    @Test
    void structsAreNotSubjectToTheLimitOfWhatJavacppAllocates() throws Exception {
        long start = System.nanoTime();
        assertRight(run(List.of("-Dorg.bytedeco.javacpp.maxPhysicalBytes=1"), "Consumer", "plan"));
        assertThat(TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - start))
                .as("seconds: JavaCPP collects garbage for longer")
                .isLessThan(30);
    }

    @Test
    void anOperationThatCannotBeMadeKeepsNothing() throws Exception {
        Ending ending = run(List.of(), "Leak");
        assertThat(ending.output()).contains("refused 20 of 20");
        assertThat(number(ending, "grown")).as("growth by 20 attempts").isLessThan(number(ending, "holds"));
    }

    private static long number(Ending ending, String name) {
        return ending.output()
                .lines()
                .filter(line -> line.startsWith(name + " "))
                .mapToLong(line -> Long.parseLong(line.substring(name.length() + 1)))
                .findFirst()
                .orElseThrow();
    }

    @ParameterizedTest
    @CsvSource({"'', 3, 3", "5, 3, 5", "'', 1, 1"})
    void theNumberOfProcessorsIsTheJvmsUnlessTheEnvironmentSaysOne(String environment, int processors, int threads)
            throws Exception {
        List<String> arguments =
                List.of("-XX:ActiveProcessorCount=" + processors, "-classpath", program.classPath(JARS), "Count");
        Path output = folder.resolve("output");
        Ending ending = Program.end(
                Program.start(folder.resolve("cache"), output, arguments, Map.of("FLASHRING_THREADS", environment)),
                output);
        assertThat(ending.output()).contains(threads + " threads");
    }

    @ParameterizedTest
    @CsvSource({"abc", "0", "-1", "99999999"})
    void aNumberOfThreadsThatCannotBeIsRefusedBeforeAnythingRuns(String environment) throws Exception {
        List<String> arguments = List.of("-classpath", program.classPath(JARS), "Consumer", "host");
        Path output = folder.resolve("output");
        Ending ending = Program.end(
                Program.start(folder.resolve("cache"), output, arguments, Map.of("FLASHRING_THREADS", environment)),
                output);
        assertThat(ending.output())
                .contains("java.lang.IllegalArgumentException: FLASHRING_THREADS = " + environment
                        + " must be a whole number from 1 to 1024")
                .contains("at org.flashring.plan.Plan.of");
    }

    // ---- the flight recorder ----

    @Test
    void aRuntimeWithoutFlightRecorderServes() throws Exception {
        assertRight(run(List.of("--limit-modules", "java.base"), "Consumer", "plan"));
    }

    @Test
    void noRecordingNoEvents() throws Exception {
        Path loaded = folder.resolve("loaded");
        assertRight(run(List.of("-Xlog:class+load:file=" + loaded), "Consumer", "plan"));
        assertThat(Files.readString(loaded))
                .contains("org.flashring.attention.RingAttention")
                .doesNotContain("RingStepEvent", "jdk.jfr.internal.JVM ");
    }

    // ---- where natives are unpacked and who may load them ----

    @Test
    void aFolderMountedNoexecIsNamed() throws Exception {
        Path cache = mounted("noexec");
        try {
            assertRefused(
                    run(Path.of(System.getProperty("java.home")), cache, List.of(), "Consumer", "refused"),
                    "cannot be loaded: " + cache + ", where it is unpacked, lies on a file system mounted noexec; "
                            + "set -Dorg.bytedeco.javacpp.cachedir=FOLDER to one elsewhere");
        } finally {
            unmount(cache);
        }
    }

    @Test
    void aFullDiskIsNamed() throws Exception {
        Path cache = mounted("size=200k");
        try {
            assertRefused(
                    run(Path.of(System.getProperty("java.home")), cache, List.of(), "Consumer", "refused"),
                    "cannot be loaded: " + cache + ", where it is unpacked, cannot take it (");
        } finally {
            unmount(cache);
        }
    }

    /** Returns a new file system in memory; skips where this machine permits none. */
    private Path mounted(String options) throws Exception {
        Path point = Files.createDirectory(folder.resolve("mounted"));
        assumeTrue(
                succeeds("mount", "-t", "tmpfs", "-o", options, "tmpfs", point.toString()),
                "this process may not mount file systems");
        return point;
    }

    private static void unmount(Path point) throws Exception {
        assertThat(succeeds("umount", point.toString())).isTrue();
    }

    private static boolean succeeds(String... command) throws InterruptedException {
        try {
            return new ProcessBuilder(command)
                            .redirectErrorStream(true)
                            .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                            .start()
                            .waitFor()
                    == 0;
        } catch (IOException e) {
            return false; // no such program
        }
    }

    @Test
    void nowhereToUnpackToIsSaid() throws Exception {
        Path file = Files.createFile(folder.resolve("file"));
        assertRefused(
                run(
                        Path.of(System.getProperty("java.home")),
                        file,
                        List.of("-Duser.home=" + file, "-Djava.io.tmpdir=" + file),
                        "Consumer",
                        "refused"),
                "there is no folder to unpack it to that this process may write to; set"
                        + " -Dorg.bytedeco.javacpp.cachedir=FOLDER to one");
    }

    @Test
    void anotherPlatformIsNamed() throws Exception {
        assertRefused(
                run(List.of("-Dos.name=Mac OS X", "-Dos.arch=aarch64"), "Consumer", "refused"),
                "for macosx-arm64 cannot be loaded: FlashRing runs on linux-x86_64 alone, and there is no build"
                        + " for this machine");
    }

    @Test
    void aJvmThatForbidsNativeCodeIsToldHowToAllowIt() throws Exception {
        Path home = Program.newRuntime();
        Path cache = folder.resolve("cache");
        assertRefused(
                run(home, cache, List.of("--illegal-native-access=deny"), "Consumer", "refused"),
                "this JVM forbids native code; start it with --enable-native-access=ALL-UNNAMED (");
        assertRight(run(
                home,
                cache,
                List.of("--illegal-native-access=deny", "--enable-native-access=ALL-UNNAMED"),
                "Consumer",
                "plan"));
    }
}
