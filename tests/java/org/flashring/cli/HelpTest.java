package org.flashring.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import picocli.CommandLine;

/** Every command has help, and the example in it is one that the command takes. */
class HelpTest {
    private static final Set<String> MAKERS = Set.of("launch", "bundle"); // the others report

    static Stream<String> commands() {
        return Main.commandLine().getSubcommands().keySet().stream();
    }

    @ParameterizedTest
    @MethodSource("commands")
    void exampleParses(String command) {
        Cli help = Cli.run(command, "--help");
        assertThat(help.exitCode()).isZero();
        assertThat(help.out()).contains("Example:");
        assertThat(help.out().contains("--json")).as("--json").isEqualTo(!MAKERS.contains(command));
        List<String> examples = help.out()
                .lines()
                .filter(line -> line.startsWith("  flashring "))
                .toList();
        assertThat(examples).isNotEmpty().allSatisfy(example -> {
            List<String> words = List.of(example.strip().split(" "));
            words = words.subList(1, words.size());
            Main.commandLine().parseArgs(words.toArray(String[]::new));
            if (!command.equals("launch") && words.get(0).equals("launch")) { // what is started follows behind "--"
                words = words.subList(words.indexOf("--") + 1, words.size());
            }
            CommandLine.ParseResult parsed = Main.commandLine().parseArgs(words.toArray(String[]::new));
            assertThat(parsed.subcommand().commandSpec().name()).isEqualTo(command);
        });
    }

    @ParameterizedTest
    @MethodSource("commands")
    void version(String command) {
        assertThat(Cli.run(command, "--version").out())
                .isEqualTo(Cli.run("--version").out())
                .startsWith("flashring 0.");
    }
}
