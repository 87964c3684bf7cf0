package org.flashring.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The launcher script in a checkout of its own, with a Java and a Maven that only say how they were called. */
@Timeout(value = 60, unit = TimeUnit.SECONDS)
class LauncherTest {
    private static final List<String> TOOLS = List.of(
            "readlink", "dirname", "find", "flock", "touch", "mv", "rm", "mkdir", "tail", "sleep", "cksum", "ln");

    @TempDir
    private Path folder;

    private Path home;
    private Path bin;
    private Path script;
    private final Map<String, String> variables = new HashMap<>(Map.of("XDG_CACHE_HOME", "cache"));

    @BeforeEach
    void tools() throws IOException {
        bin = Files.createDirectory(folder.resolve("bin"));
        checkout("a check out");
        for (String tool : TOOLS) {
            program(tool, "PATH=/usr/bin:/bin exec " + tool + " \"$@\"");
        }
        java("17.0.9");
        maven("");
    }

    private void checkout(String name) throws IOException {
        home = Files.createDirectories(folder.resolve(name));
        for (String source : List.of("src/main", "adapters", "cmake", "cuda")) {
            Files.createDirectories(home.resolve(source));
        }
        Files.writeString(home.resolve("pom.xml"), "<project/>");
        script = Files.copy(Path.of("flashring"), home.resolve("flashring"));
    }

    private void maven(String then) throws IOException {
        program("mvn", "echo built >> \"" + folder + "/builds\"" + then);
    }

    private void java(String version) throws IOException {
        program(
                "java",
                "if [ \"$1\" = -version ]; then echo 'openjdk version \"" + version + "\"' >&2; else echo \"$@\"; fi");
    }

    private void program(String name, String body) throws IOException {
        Path file = Files.writeString(bin.resolve(name), "#!/bin/bash\n" + body + "\n");
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    private Process start(Path launcher, String... args) throws IOException {
        ProcessBuilder builder = new ProcessBuilder("/bin/bash", launcher.toString());
        builder.command().addAll(List.of(args));
        builder.environment().clear();
        builder.environment().put("PATH", bin.toString());
        builder.environment().put("FLASHRING_JAVA_OPTS", "-Xmx1g -Da=b");
        builder.environment().putAll(variables);
        return builder.directory(folder.toFile()).start();
    }

    private Cli run(String... args) throws IOException, InterruptedException {
        return finish(start(script, args));
    }

    private static Cli finish(Process process) throws IOException, InterruptedException {
        String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        String err = new String(process.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);
        return new Cli(process.waitFor(), out, err);
    }

    private long builds() throws IOException {
        Path log = folder.resolve("builds");
        return Files.exists(log) ? Files.readAllLines(log).size() : 0;
    }

    @Test
    void buildsOnceThenStarts() throws IOException, InterruptedException {
        Cli first = run("plan", "--length", "a b");
        assertThat(first.err()).hasLineCount(1).contains("building").contains("build.log");
        assertThat(first.out())
                .contains("-Xmx1g -Da=b")
                .contains("maxPhysicalBytes=0")
                .contains(home + "/target/classes:" + home + "/target/lib/*")
                .endsWith("org.flashring.cli.Main plan --length a b\n")
                .doesNotContain("native-access");
        Cli second = run("info");
        assertThat(second.err()).isEmpty();
        assertThat(second.exitCode()).isZero();
        assertThat(builds()).isEqualTo(1);
    }

    @Test
    void severalFirstUsesBuildOnce() throws IOException, InterruptedException {
        maven("; sleep 1"); // until all have seen that there is no build
        List<Process> starts = List.of(start(script, "info"), start(script, "info"), start(script, "info"));
        for (Process process : starts) {
            assertThat(finish(process).exitCode()).isZero();
        }
        assertThat(builds()).isEqualTo(1);
    }

    @Test
    void buildsAgainWhenASourceChanged() throws IOException, InterruptedException {
        run("info");
        Path source = Files.writeString(home.resolve("src/main/New.java"), "");
        Files.setLastModifiedTime(source, FileTime.from(Instant.now().plusSeconds(5)));
        run("info");
        assertThat(builds()).isEqualTo(2);
    }

    @Test
    void startsThroughASymbolicLink() throws IOException, InterruptedException {
        Path link = Files.createSymbolicLink(folder.resolve("link"), script);
        assertThat(finish(start(link, "info")).out()).contains(home + "/target/classes");
    }

    /** What Java gets is a class path whose two entries lie in the checkout, whatever its name is. */
    @ParameterizedTest
    @ValueSource(strings = {"plain", "with space", "quote'\"s", "été", "co:lon", "$x `y` *", "all: é'\" of them"})
    void startsInAFolderOfAnyName(String name) throws IOException, InterruptedException {
        checkout(name);
        variables.put("XDG_CACHE_HOME", folder.resolve("cache").toString());
        program(
                "java",
                "if [ \"$1\" = -version ]; then echo 'openjdk version \"17.0.9\"' >&2; else "
                        + "while [ \"$1\" != -cp ]; do shift; done; printf '%s\\n' \"$2\"; fi");
        for (Path launcher : List.of(script, Files.createSymbolicLink(folder.resolve("link"), script))) {
            String[] entries = finish(start(launcher, "info")).out().strip().split(":");
            assertThat(entries).hasSize(2);
            assertThat(Path.of(entries[0]).getParent().getParent().toRealPath()).isEqualTo(home.toRealPath());
            assertThat(entries[0]).endsWith("/target/classes");
            assertThat(entries[1]).endsWith("/target/lib/*");
        }
        assertThat(builds()).isEqualTo(1);
    }

    @Test
    void aColonWithNoPlaceForALinkIsOneSentence() throws IOException, InterruptedException {
        checkout("co:lon");
        variables.put(
                "XDG_CACHE_HOME", Files.createFile(folder.resolve("no folder")).toString());
        assertRefused(run("info"), "holds a colon");
        variables.put("XDG_CACHE_HOME", folder.resolve("co:lon").toString());
        assertRefused(run("info"), "holds a colon");
    }

    /** A file where a folder is wanted and the reverse: root, too, is refused. */
    @Test
    void aCheckoutThatCannotBeWrittenToIsOneSentence() throws IOException, InterruptedException {
        Files.createFile(home.resolve("target"));
        assertRefused(run("info"), "cannot be written to");
        Files.delete(home.resolve("target"));
        Files.createDirectories(home.resolve("target/launcher.lock"));
        assertRefused(run("info"), "cannot be written to");
    }

    @Test
    void aBuildThatCannotBeWrittenToStarts() throws IOException, InterruptedException {
        run("info");
        Files.delete(home.resolve("target/launcher.lock"));
        Files.createDirectory(home.resolve("target/launcher.lock"));
        Cli run = run("info");
        assertThat(run.err()).isEmpty();
        assertThat(run.exitCode()).isZero();
    }

    /** Names of files that are not ASCII are names in Java under a UTF-8 locale alone. */
    @Test
    void javaRunsUnderALocaleThatKnowsAllNames() throws IOException, InterruptedException {
        program(
                "java",
                "if [ \"$1\" = -version ]; then echo 'openjdk version \"17.0.9\"' >&2; else echo"
                        + " \"LC_ALL=$LC_ALL\"; fi");
        assertThat(run("info").out()).isEqualTo("LC_ALL=C.UTF-8\n");
        variables.put("LC_ALL", "C");
        assertThat(run("info").out()).isEqualTo("LC_ALL=C.UTF-8\n");
        variables.put("LC_ALL", "of-no-country");
        assertThat(run("info").out()).isEqualTo("LC_ALL=C.UTF-8\n");
        variables.remove("LC_ALL");
        variables.put("LANG", "C.UTF-8");
        assertThat(run("info").out()).isEqualTo("LC_ALL=\n");
    }

    /** CMake refuses a build folder that it made elsewhere; the build forgets that one, and keeps its own. */
    @Test
    void aBuildThatWasCopiedWithItsCheckoutIsForgotten() throws IOException, InterruptedException {
        Path build = Files.createDirectories(home.resolve("target/native"));
        Path sources = home.resolve("cmake");
        Path kept = Files.createFile(build.resolve("object"));
        forgetMoved(build, sources, build, sources);
        assertThat(kept).exists();
        forgetMoved(build, sources, Files.createSymbolicLink(folder.resolve("other way"), build), sources);
        assertThat(kept).as("the same by another path").exists();
        Path original = Files.createDirectories(folder.resolve("original/cmake"));
        forgetMoved(build, sources, folder.resolve("gone"), original);
        assertThat(build).doesNotExist();
        Files.createDirectories(build);
        forgetMoved(build, sources, build, original);
        assertThat(build).doesNotExist();
    }

    private static void forgetMoved(Path build, Path sources, Path buildThen, Path sourcesThen)
            throws IOException, InterruptedException {
        Files.writeString(
                build.resolve("CMakeCache.txt"),
                "CMAKE_CACHEFILE_DIR:INTERNAL=" + buildThen + "\nCMAKE_HOME_DIRECTORY:INTERNAL=" + sourcesThen + "\n");
        Cli run = finish(
                new ProcessBuilder("bash", "cmake/forget_moved.sh", build.toString(), sources.toString()).start());
        assertThat(run).isEqualTo(new Cli(0, "", ""));
    }

    @Test
    void newerJavaIsToldOfNativeAccess() throws IOException, InterruptedException {
        java("24");
        assertThat(run("info").out()).contains("--enable-native-access=ALL-UNNAMED");
    }

    @Test
    void aFailedBuildShowsItsLog() throws IOException, InterruptedException {
        program("mvn", "echo the compiler is missing; exit 1");
        for (int attempt = 0; attempt < 2; attempt++) {
            Cli run = run("info");
            assertThat(run.exitCode()).isEqualTo(1);
            assertThat(run.err()).contains("the compiler is missing").contains("the build failed");
            assertThat(run.out()).isEmpty();
        }
    }

    @Test
    void whatIsMissingIsNamed() throws IOException, InterruptedException {
        Files.delete(bin.resolve("mvn"));
        assertRefused(run("info"), "'mvn'");
        java("11.0.2");
        assertRefused(run("info"), "Java 11; JDK 17 or newer");
        java("1.8.0_402");
        assertRefused(run("info"), "Java 8; JDK 17 or newer");
        Files.delete(bin.resolve("java"));
        assertRefused(run("info"), "no Java found");
    }

    private static void assertRefused(Cli run, String expected) {
        assertThat(run.exitCode()).isEqualTo(1);
        assertThat(run.err()).hasLineCount(1).contains(expected);
        assertThat(run.out()).isEmpty();
    }
}
