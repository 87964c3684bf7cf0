package org.flashring.packaging;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.flashring.packaging.Program.Ending;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * The shortest program of each adapter, compiled against the packaged jars: out of one jar of all classes and of the
 * library's natives, with the framework's natives beside, and as a module where the framework's jars are modules.
 */
@Timeout(120)
class AdapterConsumerIT {
    private static final Path EXAMPLES = Path.of("examples");
    private static final String RIGHT =
            "means of ones: (1\\.0|0\\.9999)\\S*\nsum of their gradients: 51[12]\\d\\d\\.\\S+\n"
                    + "mean after a step: 0\\.(6|5999)\\S*";

    @TempDir
    Path folder;

    /** Returns the jars of this process whose names match. */
    private static List<Path> jars(Predicate<String> wanted) {
        return Stream.of(System.getProperty("java.class.path").split(File.pathSeparator))
                .filter(path -> path.endsWith(".jar"))
                .map(Path::of)
                .filter(path -> wanted.test(path.getFileName().toString()))
                .toList();
    }

    private static Path adapter(String name) {
        String core = Program.CORE.getFileName().toString();
        return Program.CORE.resolveSibling(core.replace(".jar", "-" + name + ".jar"));
    }

    private Ending run(List<String> options) throws Exception {
        Path cache = Path.of(System.getProperty("user.home"), ".javacpp", "cache"); // of hundreds of megabytes
        Path output = folder.resolve("output");
        List<String> arguments =
                new ArrayList<>(List.of("-Dorg.bytedeco.javacpp.maxPhysicalBytes=0", "-Dai.djl.offline=true"));
        arguments.addAll(options);
        return Program.end(Program.start(cache, output, arguments), output);
    }

    private static void assertRight(Ending ending) {
        assertThat(ending.output()).containsPattern(RIGHT);
        assertThat(ending.status()).isZero();
    }

    @ParameterizedTest
    @CsvSource({
        "pytorch, TorchLayer, javacpp-|openblas-|pytorch-\\d",
        "djl, DjlLayer, javacpp-|pytorch-(engine|jni|native)|api-0|jna-5|slf4j|gson|commons-(codec|compress|io|lang)",
        "nd4j, Nd4jLayer, 'javacpp-|openblas-|nd4j|protobuf|jackson|guava|commons-|flatbuffers|slf4j|neoitertools|jna'"
    })
    void runsFromOneJar(String adapter, String example, String names) throws Exception {
        Predicate<String> needed = Pattern.compile("^(" + names + ")").asPredicate();
        Predicate<String> natives = name -> name.contains("linux-x86_64");
        List<Path> parts = new ArrayList<>(List.of(Program.CORE, Program.NATIVES, adapter(adapter)));
        parts.addAll(jars(needed.and(natives.negate())));
        Path fat = folder.resolve("fat.jar");
        Program.merge(parts, fat);
        List<Path> path = new ArrayList<>(List.of(fat));
        path.addAll(jars(needed.and(natives)));
        Path classes = folder.resolve("classes");
        Program.javac(
                List.of(EXAMPLES.resolve(example + ".java")),
                List.of("-Xlint:-path", "-d", classes.toString(), "-classpath", Program.join(path)));
        path.add(classes);
        assertRight(run(List.of("-classpath", Program.join(path), example)));
    }

    @Test
    void runsAsAModuleWithPytorch() throws Exception {
        List<Path> path = new ArrayList<>(List.of(Program.CORE, Program.NATIVES, adapter("pytorch")));
        path.addAll(jars(Pattern.compile("^(javacpp-|openblas-|pytorch-\\d)").asPredicate()));
        Path module = folder.resolve("module");
        Program.javac(
                sourcesOfModule(),
                List.of("-Xlint:-requires-automatic", "-d", module.toString(), "--module-path", Program.join(path)));
        path.add(module);
        assertRight(run(List.of(
                "--module-path",
                Program.join(path),
                "--add-modules",
                "ALL-MODULE-PATH",
                "--module",
                "com.example.layer/layer.TorchLayer")));
    }

    private List<Path> sourcesOfModule() throws IOException {
        Path source = Files.createDirectories(folder.resolve("sources/layer")).resolve("TorchLayer.java");
        Files.writeString(source, "package layer;\n" + Files.readString(EXAMPLES.resolve("TorchLayer.java")));
        Path descriptor = folder.resolve("sources/module-info.java");
        Files.writeString(
                descriptor,
                """
                /** A program with attention in a model of PyTorch's JavaCPP preset. */
                module com.example.layer {
                    requires org.bytedeco.pytorch;
                    requires org.flashring;
                    requires org.flashring.pytorch;
                }
                """);
        return List.of(source, descriptor);
    }
}
