package org.flashring.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The launcher script in a checkout of its own, with a Java and a Maven that only say how they were called. */
@Timeout(value = 60, unit = TimeUnit.SECONDS)
class LauncherTest {
    private static final List<String> TOOLS = List.of("readlink", "dirname", "find", "flock", "touch", "mv", "rm", "mkdir", "tail", "sleep");

    @TempDir private Path folder;
    private Path home;
    private Path bin;
    private Path script;

    @BeforeEach
    void checkout() throws IOException {
        home = Files.createDirectories(folder.resolve("a check out"));
        bin = Files.createDirectory(folder.resolve("bin"));
        for (String source : List.of("src/main", "cmake", "cuda")) {
            Files.createDirectories(home.resolve(source));
        }
        Files.writeString(home.resolve("pom.xml"), "<project/>");
        script = Files.copy(Path.of("flashring"), home.resolve("flashring"));
        for (String tool : TOOLS) {
            program(tool, "PATH=/usr/bin:/bin exec " + tool + " \"$@\"");
        }
        java("17.0.9");
        maven("");
    }

    private void maven(String then) throws IOException {
        program("mvn", "echo built >> \"" + folder + "/builds\"" + then);
    }

    private void java(String version) throws IOException {
        program("java", "if [ \"$1\" = -version ]; then echo 'openjdk version \"" + version + "\"' >&2; else echo \"$@\"; fi");
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
        return builder.directory(folder.toFile()).start();
    }

    private Cli run(String... args) throws IOException, InterruptedException {
        return finish(start(script, args));
    }

    private static Cli finish(Process process) throws IOException, InterruptedException {
        String out = new String(process.getInputStream().readAllBytes());
        String err = new String(process.getErrorStream().readAllBytes());
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
        assertThat(first.out()).contains("-Xmx1g -Da=b").contains("maxPhysicalBytes=0").contains(home + "/target/classes:" + home + "/target/lib/*")
                .endsWith("org.flashring.cli.Main plan --length a b\n").doesNotContain("native-access");
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
