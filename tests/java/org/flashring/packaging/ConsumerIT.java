package org.flashring.packaging;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.flashring.packaging.Program.Ending;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Programs that have the library's two jars and JavaCPP alone run forward and backward from an empty native cache: on
 * the class path, as a module, and out of one jar of everything.
 */
@Timeout(120)
class ConsumerIT {
    @TempDir
    static Path classes;

    private static Program program;

    @TempDir
    Path folder;

    @BeforeAll
    static void compile() throws Exception {
        program = Program.compile(classes);
    }

    private Ending run(List<Path> jars, String door) throws Exception {
        Path output = folder.resolve("output");
        return Program.end(program.start(folder.resolve("cache"), output, jars, door), output);
    }

    private static void assertRight(Ending ending) {
        assertThat(ending.output()).contains("forward and backward are right").doesNotContain("WARNING");
        assertThat(ending.status()).isZero();
    }

    @ParameterizedTest
    @ValueSource(strings = {"buffer", "group", "JavaCPP", "threads with JavaCPP", "interrupted"})
    void runsFromAnEmptyCacheWhateverIsTouchedFirst(String door) throws Exception {
        assertRight(run(List.of(Program.CORE, Program.NATIVES), door));
    }

    @Test
    void runsFromAModuleThatRequiresTheLibraryAlone() throws Exception {
        assertRight(runModule(Path.of(System.getProperty("java.home")), List.of()));
    }

    @Test
    void runsFromAModuleOnANewJava() throws Exception {
        assertRight(
                runModule(Program.newRuntime(), List.of("--enable-native-access=org.bytedeco.javacpp,org.flashring")));
    }

    private Ending runModule(Path home, List<String> options) throws Exception {
        Path module = folder.resolve("module");
        Program.compileModule(folder.resolve("sources"), module);
        List<Path> path = new ArrayList<>(Program.modules());
        path.add(module);
        List<String> arguments = new ArrayList<>(options);
        arguments.addAll(List.of("--module-path", Program.join(path), "--module", Program.MODULAR, "plan"));
        Path output = folder.resolve("output");
        return Program.end(Program.start(home, folder.resolve("cache"), output, arguments), output);
    }

    /** Runs a source file, which a new Java compiles as it starts. */
    private Ending runOnANewJava(Path source) throws Exception {
        Path output = folder.resolve("output");
        List<String> arguments = List.of(
                "--enable-native-access=ALL-UNNAMED",
                "-classpath",
                program.classPath(List.of(Program.CORE, Program.NATIVES)),
                source.toString());
        return Program.end(Program.start(Program.newRuntime(), folder.resolve("cache"), output, arguments), output);
    }

    @Test
    void exampleWithSegmentsRunsOnANewJava() throws Exception {
        Ending ending = runOnANewJava(Program.SEGMENT_EXAMPLE);
        assertThat(ending.output().lines())
                .containsExactly("mean of 0 to 0: 0.0", "mean of 0 to 50: 25.0", "mean of 0 to 100: 50.0");
        assertThat(ending.status()).isZero();
    }

    @Test
    void tensorsMayLieInSegmentsOfANewJava() throws Exception {
        Ending ending = runOnANewJava(Program.SEGMENTS);
        assertThat(ending.output().lines())
                .containsExactly(
                        "attention is right",
                        "out is in read-only memory; it must be writable",
                        "segment is null; it must be given",
                        "segment is a java.lang.String; it must be a java.lang.foreign.MemorySegment",
                        "segment is on the Java heap; it must be native",
                        "segment is confined to another thread; it must be accessible from the current one",
                        "segment is closed; it must be open",
                        "q is closed; it must point to memory",
                        "kept");
        assertThat(ending.status()).isZero();
    }

    @Test
    void runsFromOneJarOfEverything() throws Exception {
        Path fat = folder.resolve("fat.jar");
        List<Path> parts = new ArrayList<>(Program.modules());
        Program.merge(parts, fat);
        Path output = folder.resolve("output");
        String path = Program.join(List.of(fat, classes));
        assertRight(Program.end(
                Program.start(folder.resolve("cache"), output, List.of("-classpath", path, "Consumer", "plan")),
                output));
    }

    @Test
    void withoutTheJarsOfCudaOneSentenceSaysWhatToAdd() throws Exception {
        Path output = folder.resolve("output");
        List<String> lines = Program.end(
                        Program.start(
                                folder.resolve("cache"),
                                output,
                                List.of(
                                        "-classpath",
                                        program.classPath(List.of(Program.CORE, Program.NATIVES)),
                                        "WithoutCuda")),
                        output)
                .output()
                .lines()
                .toList();
        assertThat(lines).hasSize(2);
        assertThat(lines.get(0)).startsWith("JavaCPP's CUDA preset is not there: add the jars cuda-<version>.jar and ");
        assertThat(lines.get(1)).startsWith("device is cuda:0; CUDA is not available: ");
    }

    @Test
    void withoutTheNativeJarOneSentenceSaysWhatToAdd() throws Exception {
        Ending ending = run(List.of(Program.CORE), "plan");
        assertThat(ending.status()).isNotZero();
        assertThat(ending.output())
                .contains("java.lang.UnsatisfiedLinkError: FlashRing's native library for linux-x86_64 cannot be"
                        + " loaded: ")
                .contains("add flashring-<version>-linux-x86_64.jar");
    }
}
