package org.flashring.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What needs more than the Java heap either lies outside it or ends in one sentence. */
@Timeout(120)
class SmallHeapTest {
    @TempDir
    private Path folder;

    private Cli run(String heap, String... args) throws IOException, InterruptedException {
        Process process =
                Cli.start(List.of("-Xmx" + heap), Map.of(), folder.resolve("out"), folder.resolve("err"), args);
        int exitCode = process.waitFor();
        return new Cli(exitCode, Files.readString(folder.resolve("out")), Files.readString(folder.resolve("err")));
    }

    @Test
    void aTextMayBeLargerThanTheHeap() throws IOException, InterruptedException {
        Path text = folder.resolve("text");
        try (RandomAccessFile file = new RandomAccessFile(text.toFile(), "rw")) {
            file.setLength(150_000_000);
        }
        Cli run = run(
                "64m",
                "train",
                "--text",
                text.toString(),
                "--out",
                folder.resolve("result").toString(),
                "--ranks",
                "2",
                "--layers",
                "1",
                "--heads",
                "2",
                "--kv-heads",
                "1",
                "--dim",
                "16",
                "--batch",
                "1",
                "--context",
                "64",
                "--steps",
                "1");
        assertThat(run.err()).isEmpty();
        assertThat(run.exitCode()).isZero();
        assertThat(run.out()).contains("Text        150,000,000 bytes in 1 file");
    }

    @Test
    void moreThanTheHeapHoldsIsOneSentence() throws IOException, InterruptedException {
        Path documents = Files.writeString(folder.resolve("documents"), "1 ".repeat(10_000_000));
        Cli run = run("16m", "plan", "--documents", documents.toString());
        assertThat(run.exitCode()).isEqualTo(1);
        assertThat(run.err())
                .hasLineCount(1)
                .startsWith("flashring plan: out of memory: ")
                .contains("FLASHRING_JAVA_OPTS=-Xmx");
    }
}
