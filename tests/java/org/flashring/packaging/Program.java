package org.flashring.packaging;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.jar.JarOutputStream;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.zip.Deflater;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;

/** The programs in {@code tests/consumer}, compiled against the packaged jar and run in JVMs of their own. */
final class Program {
    private static final Path TARGET = Path.of(property("flashring.target"));
    private static final String VERSION = property("flashring.version");
    static final Path CORE = TARGET.resolve("flashring-" + VERSION + ".jar");
    static final Path NATIVES = TARGET.resolve("flashring-" + VERSION + "-linux-x86_64.jar");
    private static final Path SOURCES = Path.of(property("flashring.tests"), "consumer");

    /** A program for Java 22 or newer, which compiles it when it starts. */
    static final Path SEGMENTS = SOURCES.resolve("segments/Segments.java");

    /** Another one, for people to read. */
    static final Path SEGMENT_EXAMPLE =
            Path.of(property("flashring.tests")).resolveSibling("examples/java22/SegmentAttention.java");

    static final String MODULAR = "com.example.modular/modular.Consumer";

    private final Path classes;

    /** How a JVM ended. */
    record Ending(int status, String output) {}

    private Program(Path classes) {
        this.classes = classes;
    }

    private static String property(String name) {
        String value = System.getProperty(name);
        assertThat(value).as("system property %s, set by the build", name).isNotNull();
        return value;
    }

    /** Returns what the library needs besides its two jars: the JavaCPP runtime, no more. */
    static List<Path> dependencies() throws IOException {
        try (Stream<Path> jars = Files.list(TARGET.resolve("lib"))) {
            List<Path> needed = jars.filter(jar -> jar.getFileName().toString().matches("javacpp-.*\\.jar"))
                    .sorted()
                    .toList();
            assertThat(needed).as("javacpp and its natives").hasSize(2);
            return needed;
        }
    }

    /** Returns the programs, compiled into {@code classes} without a warning. */
    static Program compile(Path classes) throws IOException {
        try (Stream<Path> files = Files.list(SOURCES)) {
            List<Path> sources = files.filter(Files::isRegularFile).toList();
            List<Path> jars = new ArrayList<>(dependencies());
            jars.add(CORE);
            javac(sources, List.of("-d", classes.toString(), "-classpath", join(jars)));
        }
        return new Program(classes);
    }

    /** Compiles {@link #MODULAR} into {@code classes}: Consumer again, in a module that requires the library alone. */
    static void compileModule(Path sources, Path classes) throws IOException {
        Path source = Files.createDirectories(sources.resolve("modular")).resolve("Consumer.java");
        Files.writeString(source, "package modular;\n" + Files.readString(SOURCES.resolve("Consumer.java")));
        javac(
                List.of(source, SOURCES.resolve("modular/module-info.java")),
                List.of("-d", classes.toString(), "--module-path", join(modules())));
    }

    /** Returns the library and what it needs, for a module path. */
    static List<Path> modules() throws IOException {
        List<Path> modules = new ArrayList<>(dependencies());
        modules.addAll(List.of(CORE, NATIVES));
        return modules;
    }

    static void javac(List<Path> sources, List<String> more) throws IOException {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        StringWriter messages = new StringWriter();
        try (StandardJavaFileManager files = compiler.getStandardFileManager(null, null, null)) {
            List<String> options = new ArrayList<>(List.of("--release", "17", "-Xlint:all", "-Werror", "-proc:none"));
            options.addAll(more);
            boolean compiled = compiler.getTask(
                            messages, files, null, options, null, files.getJavaFileObjectsFromPaths(sources))
                    .call();
            assertThat(compiled).as(messages.toString()).isTrue();
        }
    }

    static String join(List<Path> paths) {
        return paths.stream().map(Path::toString).collect(Collectors.joining(File.pathSeparator));
    }

    /** Returns a JVM started with the given jars on its class path and {@code cache} as JavaCPP's cache folder. */
    Process start(Path cache, Path output, List<Path> jars, String... arguments) throws IOException {
        List<String> all = new ArrayList<>(List.of("-classpath", classPath(jars), "Consumer"));
        all.addAll(List.of(arguments));
        return start(cache, output, all);
    }

    /** Returns the class path of the given jars, what they need and the programs. */
    String classPath(List<Path> jars) throws IOException {
        List<Path> path = new ArrayList<>(jars);
        path.addAll(dependencies());
        path.add(classes);
        return join(path);
    }

    /** Returns a JVM started with {@code arguments}. */
    static Process start(Path cache, Path output, List<String> arguments) throws IOException {
        return start(Path.of(System.getProperty("java.home")), cache, output, arguments);
    }

    /** Returns a JVM started with {@code arguments} and more of the environment. */
    static Process start(Path cache, Path output, List<String> arguments, Map<String, String> environment)
            throws IOException {
        return start(Path.of(System.getProperty("java.home")), cache, output, arguments, environment);
    }

    /** Returns a JVM of the runtime at {@code home}, started with {@code arguments}. */
    static Process start(Path home, Path cache, Path output, List<String> arguments) throws IOException {
        return start(home, cache, output, arguments, Map.of());
    }

    private static Process start(
            Path home, Path cache, Path output, List<String> arguments, Map<String, String> environment)
            throws IOException {
        List<String> command = new ArrayList<>(List.of(
                home.resolve("bin/java").toString(),
                "-Xcheck:jni",
                "-Xmx256m",
                "-XX:TieredStopAtLevel=1",
                "-Dorg.bytedeco.javacpp.cachedir=" + cache));
        command.addAll(arguments);
        ProcessBuilder builder =
                new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(output.toFile());
        builder.environment().remove("JAVA_TOOL_OPTIONS");
        builder.environment().put("FLASHRING_THREADS", "1");
        builder.environment().putAll(environment);
        return builder.start();
    }

    /** Returns a runtime of Java 24 or newer; skips where none is installed. */
    static Path newRuntime() throws IOException {
        if (Runtime.version().feature() >= 24) {
            return Path.of(System.getProperty("java.home"));
        }
        Path all = Path.of("/usr/lib/jvm");
        List<Path> found = List.of();
        if (Files.isDirectory(all)) {
            try (Stream<Path> homes = Files.list(all)) {
                found = homes.filter(home -> home.getFileName().toString().matches(".*-2[4-9]-.*")
                                && Files.isExecutable(home.resolve("bin/java")))
                        .toList();
            }
        }
        assumeTrue(!found.isEmpty(), "no runtime of Java 24 or newer in " + all);
        return found.get(0);
    }

    /**
     * Puts all entries into one jar as shading does: module descriptors go, of two entries of a name the first one
     * stays.
     */
    static void merge(List<Path> jars, Path merged) throws IOException {
        Set<String> names = new HashSet<>();
        try (JarOutputStream out = new JarOutputStream(Files.newOutputStream(merged))) {
            out.setLevel(Deflater.BEST_SPEED);
            for (Path jar : jars) {
                try (JarFile in = new JarFile(jar.toFile())) {
                    for (JarEntry entry : in.stream().toList()) {
                        if (!entry.getName().endsWith("module-info.class") && names.add(entry.getName())) {
                            out.putNextEntry(new JarEntry(entry.getName()));
                            in.getInputStream(entry).transferTo(out);
                        }
                    }
                }
            }
        }
    }

    /** Returns how a JVM ended; it is killed if it takes longer than a minute. */
    static Ending end(Process process, Path output) throws IOException, InterruptedException {
        boolean ended = process.waitFor(60, TimeUnit.SECONDS);
        if (!ended) {
            process.destroyForcibly().waitFor();
        }
        return new Ending(ended ? process.exitValue() : -1, Files.readString(output));
    }
}
