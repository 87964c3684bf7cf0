package org.flashring.cli.support;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ResultFileTest {
    @TempDir
    private Path folder;

    private static void write(Path file, String text) throws IOException {
        ResultFile.write(file, out -> out.write(text.getBytes(StandardCharsets.UTF_8)));
    }

    private List<String> names() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }

    @Test
    void replacesWhatWasThere() throws IOException {
        Path file = folder.resolve("result");
        write(file, "old and longer");
        write(file, "new");
        assertThat(file).hasContent("new");
        assertThat(names()).containsExactly("result");
    }

    @Test
    void isNotThereUntilItIsWhole() throws IOException {
        Path file = folder.resolve("result");
        ResultFile.write(file, out -> {
            out.write(new byte[100_000]);
            assertThat(file).doesNotExist();
        });
        assertThat(file).hasSize(100_000);
    }

    @Test
    void aFailureLeavesTheOldOneAlone() throws IOException {
        Path file = Files.writeString(folder.resolve("result"), "old");
        assertThatThrownBy(() -> ResultFile.write(file, out -> {
                    out.write(new byte[100_000]);
                    throw new IOException("No space left on device");
                }))
                .isInstanceOf(IOException.class)
                .hasMessage(file + " cannot be written: No space left on device.");
        assertThat(file).hasContent("old");
        assertThat(names()).containsExactly("result");
    }

    @Test
    void aFolderThatIsGoneIsNamed() throws IOException {
        Path file = folder.resolve("gone/result");
        assertThatThrownBy(() -> write(file, "x"))
                .isInstanceOf(IOException.class)
                .hasMessage(file + " cannot be written: the folder " + folder.resolve("gone") + " does not exist.");
        Path inFile = Files.writeString(folder.resolve("file"), "x").resolve("result");
        assertThatThrownBy(() -> write(inFile, "x"))
                .hasMessageStartingWith(inFile + " cannot be written: ")
                .hasMessageContaining("Not a directory");
    }

    @Test
    void aLinkStaysALink() throws IOException {
        Path file = Files.writeString(folder.resolve("result"), "old");
        Path link = Files.createSymbolicLink(folder.resolve("link"), file);
        write(link, "new");
        assertThat(link).isSymbolicLink();
        assertThat(file).hasContent("new");
    }

    @Test
    void devicesAreWrittenInPlace() throws IOException {
        write(Path.of("/dev/null"), "gone");
        assertThat(Files.isRegularFile(Path.of("/dev/null"))).isFalse();
        assertThatThrownBy(() -> write(Path.of("/dev/full"), "x"))
                .hasMessage("/dev/full cannot be written: No space left on device.");
    }
}
