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

/** A program that has the two jars, JavaCPP and slf4j-api alone runs forward and backward from an empty native cache. */
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
    void runsOnTheModulePath() throws Exception {
        List<Path> modules = new ArrayList<>(Program.dependencies());
        modules.add(Program.CORE);
        modules.add(Program.NATIVES);
        Path output = folder.resolve("output");
        assertRight(Program.end(Program.start(folder.resolve("cache"), output, List.of("--module-path", Program.join(modules),
                "--add-modules", "ALL-MODULE-PATH", "-classpath", classes.toString(), "Consumer", "plan")), output));
    }

    @Test
    void withoutTheNativeJarOneSentenceSaysWhatToAdd() throws Exception {
        Ending ending = run(List.of(Program.CORE), "plan");
        assertThat(ending.status()).isNotZero();
        assertThat(ending.output())
                .contains("java.lang.UnsatisfiedLinkError: FlashRing's native library for linux-x86_64 cannot be loaded: ")
                .contains("add flashring-<version>-linux-x86_64.jar");
    }
}
