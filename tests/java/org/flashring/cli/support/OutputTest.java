package org.flashring.cli.support;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.channels.Channels;
import java.nio.channels.Pipe;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.flashring.cli.Cli;
import org.flashring.cli.Main;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Results that do not arrive are a failure; a reader who has seen enough is none. */
class OutputTest {
    @TempDir
    private Path folder;

    static List<String> commands() {
        return List.of(
                "info",
                "info --markdown",
                "plan --length 64",
                "verify --case 20",
                "bench --length 8 --dim 8 --repeats 1",
                "--help",
                "train --help",
                "--version");
    }

    private static OutputStream failing(String reason) {
        return new OutputStream() {
            @Override
            public void write(int b) throws IOException {
                throw new IOException(reason);
            }
        };
    }

    private static Cli run(OutputStream out, String command) {
        StringWriter err = new StringWriter();
        int exitCode = Main.commandLine()
                .setOut(Output.to(out, StandardCharsets.UTF_8))
                .setErr(new PrintWriter(err, true))
                .execute(command.split(" "));
        return new Cli(exitCode, "", err.toString());
    }

    @ParameterizedTest
    @MethodSource("commands")
    void aFullDiskIsOneSentence(String command) {
        Cli run = run(failing("No space left on device"), command);
        assertThat(run.exitCode()).isEqualTo(1);
        assertThat(run.err())
                .hasLineCount(1)
                .startsWith("flashring")
                .endsWith(": the results could not be printed: No space left on device.\n");
    }

    @ParameterizedTest
    @ValueSource(strings = {"info", "plan --length 64"})
    void aReaderThatLeftIsNoFailure(String command) throws IOException {
        Pipe pipe = Pipe.open();
        pipe.source().close();
        Cli run = run(Channels.newOutputStream(pipe.sink()), command);
        assertThat(run.exitCode()).isZero();
        assertThat(run.err()).isEmpty();
    }

    @Test
    void theDeviceThatIsAlwaysFull() throws IOException, InterruptedException {
        Path err = folder.resolve("err");
        Process process = Cli.start(List.of(), Map.of(), Path.of("/dev/full"), err, "plan", "--length", "64");
        assertThat(process.waitFor()).isEqualTo(1);
        assertThat(Files.readString(err))
                .isEqualTo("flashring plan: the results could not be printed: No space left on device.\n");
    }

    /** ASCII has no é: the name cannot be read, and the sentence says what to set. */
    @Test
    void aNameThatTheLocaleCannotExpress() throws IOException, InterruptedException {
        Path err = folder.resolve("err");
        Path text = Files.writeString(folder.resolve("texte-é"), "un texte");
        Process process = Cli.start(
                List.of(), Map.of("LC_ALL", "C"), folder.resolve("out"), err, "train", "--text", text.toString());
        assertThat(process.waitFor()).isEqualTo(2);
        assertThat(Files.readString(err))
                .hasLineCount(1)
                .contains("--text")
                .contains("set LC_ALL=C.UTF-8")
                .doesNotContain("java.nio");
    }
}
