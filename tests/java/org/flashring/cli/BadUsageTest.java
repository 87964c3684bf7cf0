package org.flashring.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.flashring.device.Cuda;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Bad input ends with exit code 2 and one sentence that names the option and what is wrong with it. */
class BadUsageTest {
    @TempDir
    private Path folder;

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "--frob                                        | --frob",
                "plan --length 9 --strategy gather --gather-heads 0 | --gather-heads",
                "train --text README.md --strategy ulysses --ulysses-ranks 0 | --ulysses-ranks is 0; it must be"
                        + " at least 1",
                "plan --length 64 --strategy ulysses --between ulysses | --between is ulysses; it must be ring,"
                        + " gather or halo",
                "plan --length 64 --strategy ulysses --ranks 3 --ulysses-ranks 2 | must divide the 3 ranks",
                "train --text README.md --strategy all         | --strategy is all; it must be ring, gather,"
                        + " halo or ulysses",
                "verify --strategy all                         | --strategy is all; it must be ring, gather,"
                        + " halo or ulysses",
                "plan --length 64 --strategy gather --ahead | --ahead is given; it must be left out where no"
                        + " ring carries keys",
                "plan --length 64 --strategy halo --ring-heads 2 | --ring-heads is given; it must be left out"
                        + " where no ring carries keys",
                "bench --ranks 2 --ring-heads 0                | --ring-heads is 0; it must be at least 1",
                "verify --ahead --ring-heads 1                 | --ahead is given; it must be left out with"
                        + " --ring-heads",
                "train --text README.md --ranks 2 --strategy ulysses --ulysses-ranks 2 --ahead | all ranks are"
                        + " in one group",
                "train --text README.md --mesh dp=2,cp=2 --strategy ulysses --ulysses-ranks 2 --ring-heads 1 |"
                        + " --ring-heads is given; it must be left out where no ring carries keys: all ranks"
                        + " are in one group",
                "plan --length 64 --strategy ulysses --ahead | --ahead is given; it must be left out where no"
                        + " ring carries keys: all ranks are in one group",
                "plan --length 64 --strategy ulysses --ulysses-ranks 4 --ranks 4 --ahead | all ranks are in one group",
                "plan --length 64 --strategy ulysses --ulysses-ranks 8 --gpus 4 --ahead | all ranks are in one group",
                "bench --ranks 2 --strategy ulysses --ahead    | all ranks are in one group",
                "verify --strategy ulysses --ahead             | all ranks are in one group",
                "verify --ranks 2 --strategy ulysses --ulysses-ranks 2 --ahead | all ranks are in one group",
                "train --text README.md --strategy ulysses --ahead | all ranks are in one group",
                "plan --length 64 --strategy all --between all | --between is all; it must be ring, gather or halo",
                "plan --length 64 --gpus 0                     | --gpus is 0; it must lie in [1, 1024]",
                "verify --gather-heads -1                      | --gather-heads",
                "train --text README.md --strategy star        | --strategy",
                "frob                                          | frob",
                "info --frob                                   | --frob",
                "info --json                                   | --json",
                "plan                                          | --length is missing",
                "plan --length 0                               | --length is 0",
                "plan --length -5                              | --length is -5",
                "plan --length many                            | 'many' is not a number",
                "plan --length 9999999999T                     | '9999999999T' is not a number",
                "plan --length 2T                              | --length is 2199023255552",
                "plan --length 64 --ranks 0                    | --ranks is 0; it must lie in [1, 1024]",
                "plan --length 64 --causal --full              | --causal and --full",
                "plan --length 64 --window 0                   | --window is 0",
                "plan --length 64 --layout spiral              | but was 'spiral'",
                "plan --length 64 --dtype int8                 | but was 'int8'",
                "plan --length 64 --head-dim 513               | --head-dim is 513; it must lie in [1, 512]",
                "plan --length 64 --heads 6 --kv-heads 4       | --heads is 6; it must be a multiple of --kv-heads = 4",
                "plan --length 64 --heads 0                    | --heads is 0",
                "plan --length 64 --layers 0                   | --layers is 0",
                "plan --length 64 --hidden 0                   | --hidden is 0",
                "plan --length 64 --batch 0                    | --batch is 0",
                "plan --length 64 --memory 0                   | --memory is 0",
                "plan --length 64 --document-length 0          | --document-length is 0",
                "plan --length 64M --document-length 2         | --document-length is 2",
                "plan --length 64 --documents a --document-length 2 | --documents and --document-length",
                "plan --documents no-such-file                 | no-such-file cannot be read",
                "verify --cases -1                             | --cases is -1",
                "verify --case -1                              | --case is -1",
                "verify --ranks 0                              | --ranks is 0",
                "verify --seed x                               | --seed",
                "verify --device tpu                           | but was 'tpu'",
                "verify --transport tcp                        | but was 'tcp'",
                "verify --transport peer                       | --transport is peer; it must be left out where"
                        + " --device is host",
                "bench --transport peer                        | --transport needs --ranks",
                "bench --ranks 2 --transport nccl              | --transport is nccl; it must be left out where"
                        + " --device is host",
                "bench --device tpu                            | but was 'tpu'",
                "bench --repeats 0                             | --repeats is 0",
                "bench --threads 0                             | --threads is 0",
                "bench --length 0                              | --length is 0",
                "bench --strategy all                          | --strategy needs --ranks",
                "bench --ranks 0                               | --ranks is 0; it must lie in [1, 1024]",
                "bench --ranks 2 --threads 2                   | --threads and --ranks do not go together",
                "bench --window 8                              | --window needs --ranks",
                "bench --ranks 2 --window 0                    | --window is 0; it must be at least 1",
                "bench --timeline x                            | --timeline needs --ranks",
                "bench --ranks 2 --timeline no-such-folder     | --timeline is no-such-folder; it must be a directory",
                "bench --ranks 2 --gather-heads 0              | --gather-heads is 0; it must be at least 1",
                "bench --heads 3 --kv-heads 2                  | --heads is 3; it must be a multiple of --kv-heads = 2",
                "bench --dtype float32,complex                 | but was 'complex'",
                "bench --dim 600 --length 8                    | --dim is 600; it must lie in [1, 512]",
                "plan --length 64 --ranks 1025                 | --ranks is 1025; it must lie in [1, 1024]",
                "plan --length 64 --kv-heads 0                 | --kv-heads is 0",
                "verify --ranks 1025                           | --ranks is 1025; it must lie in [1, 1024]",
                "bench --batch 0                               | --batch is 0",
                "trian                                         | or train",
                "--verson                                      | did you mean --verbose or --version?",
                "plan --lenght                                 | did you mean --length?",
                "train                                         | --text",
                "train --text no-such-file                     | no-such-file",
            })
    void namesWhatIsWrong(String line, String expected) {
        assertRefused(Cli.run(line.strip().split(" ")), expected);
    }

    @ParameterizedTest
    @CsvSource({"info", "plan --length 64", "verify --cases 0", "bench --length 8"})
    void resultsThatCannotBeKept(String line) throws IOException {
        Path occupied = Files.createDirectory(folder.resolve("results"));
        assertRefused(Cli.run((line + " --json " + occupied).split(" ")), "is a directory");
        assertRefused(
                Cli.run((line + " --json " + folder.resolve("absent/results.json")).split(" ")),
                "directory that does not exist");
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {"3 x 4 | whole numbers", "3 -4 | out of range", "'' | whole numbers"})
    void documentsThatAreNone(String text, String expected) throws IOException {
        Path file = Files.writeString(folder.resolve("documents"), text);
        assertRefused(Cli.run("plan", "--documents", file.toString()), expected);
    }

    @Test
    void documentsThatDisagree() throws IOException {
        Path file = Files.writeString(folder.resolve("documents"), "3 4\n5");
        assertRefused(Cli.run("plan", "--documents", file.toString(), "--length", "13"), "it must be 12");
    }

    @Test
    void noCommand() {
        assertRefused(Cli.run(), "info, train, generate, verify, bench, plan");
    }

    @Test
    void stackTraceOnRequestAlone() {
        assertThat(Cli.run("plan", "--length", "0", "--verbose").err()).contains("\tat org.flashring.cli.");
    }

    @ParameterizedTest
    @CsvSource({"verify --cases 1 --device cuda", "verify --case 3 --device cuda", "bench --length 8 --device cuda"})
    void cudaWhereThereIsNone(String line) {
        assumeFalse(Cuda.isAvailable(), "there is CUDA here");
        assertRefused(
                Cli.run(line.split(" ")), "--device is cuda:0; CUDA is not available: " + Cuda.unavailabilityCause());
    }

    private static void assertRefused(Cli run, String expected) {
        assertThat(run.err())
                .as("one sentence")
                .startsWith("flashring")
                .contains(expected)
                .hasLineCount(1);
        assertThat(run.exitCode()).isEqualTo(2);
        assertThat(run.out()).isEmpty();
    }
}
