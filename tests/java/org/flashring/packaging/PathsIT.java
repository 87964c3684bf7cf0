package org.flashring.packaging;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The launcher and the bundle's script, with a real Java, in folders of any name, called from anywhere in the poorest
 * locale.
 */
@Timeout(300)
class PathsIT {
    private static final Path TARGET = Program.CORE.getParent().toAbsolutePath();
    private static final Path CHECKOUT = TARGET.getParent();
    private static final String LENGTH = "--length=64";

    @TempDir
    private Path folder;

    /** JUnit would warn of each, since they lead out of its folder. */
    @AfterEach
    void removeLinks() throws IOException {
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path link : files.filter(Files::isSymbolicLink).toList()) {
                Files.delete(link);
            }
        }
    }

    private record Ending(int exitCode, String output) {}

    private Ending run(Path script, String... args) throws IOException, InterruptedException {
        ProcessBuilder builder = new ProcessBuilder("bash", script.toString());
        builder.command().addAll(List.of(args));
        builder.environment().keySet().removeIf(name -> name.startsWith("LC_") || name.equals("LANG"));
        builder.environment()
                .putAll(Map.of(
                        "LC_ALL",
                        "C",
                        "JAVA_HOME",
                        System.getProperty("java.home"),
                        "XDG_CACHE_HOME",
                        folder.resolve("cache").toString()));
        Process process =
                builder.directory(folder.toFile()).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        return new Ending(process.waitFor(), output);
    }

    /** Returns a checkout that has been built: everything is where it would be, by links. */
    private Path checkout(String name) throws IOException {
        Path home = Files.createDirectories(folder.resolve(name));
        Files.createDirectories(home.resolve("src/main"));
        Files.createDirectories(home.resolve("cmake"));
        Files.createDirectories(home.resolve("cuda"));
        Files.writeString(home.resolve("pom.xml"), "<project/>");
        Path target = Files.createDirectory(home.resolve("target"));
        Files.createSymbolicLink(target.resolve("classes"), TARGET.resolve("classes"));
        Files.createSymbolicLink(target.resolve("lib"), TARGET.resolve("lib"));
        Path stamp = Files.createFile(target.resolve("launcher.stamp"));
        Files.setLastModifiedTime(stamp, FileTime.from(Instant.now().plusSeconds(60)));
        return Files.copy(CHECKOUT.resolve("flashring"), home.resolve("flashring"));
    }

    private Path bundle(String name) throws IOException {
        Path home = Files.createDirectories(folder.resolve(name));
        Files.createSymbolicLink(home.resolve("runtime"), Path.of(System.getProperty("java.home")));
        Path lib = Files.createDirectory(home.resolve("lib"));
        for (Path from : List.of(TARGET, TARGET.resolve("lib"))) {
            try (Stream<Path> jars = Files.list(from)) {
                for (Path jar :
                        jars.filter(file -> file.toString().endsWith(".jar")).toList()) {
                    Files.createSymbolicLink(lib.resolve(jar.getFileName()), jar);
                }
            }
        }
        return Files.copy(CHECKOUT.resolve("cmake/bundle-run.sh"), home.resolve("run"));
    }

    private void assertPlans(Path script) throws IOException, InterruptedException {
        Path documents = Files.writeString(folder.resolve("documenté s"), "30 34");
        Ending ending = run(
                script, "plan", LENGTH, "--documents", documents.getFileName().toString());
        assertThat(ending.output()).contains("zigzag 64 tokens over 4 ranks");
        assertThat(ending.exitCode()).isZero();
    }

    @ParameterizedTest
    @ValueSource(strings = {"plain", "with space", "quote'\"s", "été 日本", "co:lon", "p%41+#;!$x*", "all: é'\" of them"})
    void theLauncher(String name) throws IOException, InterruptedException {
        assertPlans(checkout(name));
    }

    @Test
    void theLauncherThroughALink() throws IOException, InterruptedException {
        assertPlans(Files.createSymbolicLink(folder.resolve("lînk"), checkout("été:")));
    }

    @ParameterizedTest
    @ValueSource(strings = {"plain", "with space", "quote'\"s", "été 日本", "p%41+#;!$x*"})
    void theBundle(String name) throws IOException, InterruptedException {
        assertPlans(bundle(name));
    }

    @Test
    void theBundleThroughALink() throws IOException, InterruptedException {
        assertPlans(Files.createSymbolicLink(folder.resolve("lînk"), bundle("été")));
    }

    /** Its own runtime would start from no such folder. */
    @Test
    void theBundleBehindAColonIsOneSentence() throws IOException, InterruptedException {
        Ending ending = run(bundle("co:lon"), "info");
        assertThat(ending.exitCode()).isEqualTo(1);
        assertThat(ending.output())
                .hasLineCount(1)
                .contains("co:lon")
                .contains("holds a colon")
                .contains("unpack the archive elsewhere");
    }

    /** What bundle.sh packs, unpacked, and moved from folder to folder. */
    @Test
    @Tag("full")
    void aBundleFromItsArchive() throws IOException, InterruptedException {
        Path home = unpacked();
        for (String name : List.of("plain", "with space", "quote'\"s", "été 日本", "p%41+#;!$x*")) {
            home = Files.move(home, folder.resolve(name));
            assertPlans(home.resolve("run"));
        }
        assertPlans(Files.createSymbolicLink(folder.resolve("lînk"), home.resolve("run")));
        try (Stream<Path> cached = Files.walk(home.resolve("cache"))) {
            for (Path file : cached.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(file);
            }
        }
        Files.createFile(home.resolve("cache"));
        assertPlans(home.resolve("run"));
        home = Files.move(home, folder.resolve("co:lon"));
        assertThat(run(home.resolve("run"), "info").output()).hasLineCount(1).contains("holds a colon");
    }

    private Path unpacked() throws IOException, InterruptedException {
        Path target = Files.createDirectory(folder.resolve("target"));
        try (Stream<Path> jars = Files.list(TARGET)) {
            for (Path jar :
                    jars.filter(file -> file.toString().endsWith(".jar")).toList()) {
                Files.createSymbolicLink(target.resolve(jar.getFileName()), jar);
            }
        }
        Files.createSymbolicLink(target.resolve("lib"), TARGET.resolve("lib"));
        Files.createDirectory(target.resolve("test-classes"));
        Path more = Files.createDirectory(target.resolve("bundle-lib"));
        Files.copy(Program.CORE, more.resolve("more.jar")); // what brings the tests is not asked for here
        Ending packed = run(CHECKOUT.resolve("cmake/bundle.sh"), System.getProperty("java.home"), target.toString());
        assertThat(packed.exitCode()).as(packed.output()).isZero();
        String name = "flashring-bundle-linux-x86_64";
        assertThat(new ProcessBuilder(
                                "tar", "-xzf", target.resolve(name + ".tar.gz").toString(), "-C", folder.toString())
                        .inheritIO()
                        .start()
                        .waitFor())
                .isZero();
        return folder.resolve(name);
    }

    /** A file in the place of the cache can be written to by nobody, not even by root. */
    @Test
    void aBundleThatCannotBeWrittenTo() throws IOException, InterruptedException {
        Path script = bundle("read only");
        Files.createFile(script.resolveSibling("cache"));
        assertPlans(script);
    }
}
