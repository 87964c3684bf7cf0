package org.flashring.cli.generate;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.cli.Cli;
import org.flashring.cli.train.dense.AdamW;
import org.flashring.cli.train.dense.Checkpoint;
import org.flashring.cli.train.dense.DenseModel;
import org.flashring.cli.train.dense.DenseProbe;
import org.flashring.cli.train.dense.DenseRank;
import org.flashring.cli.train.dense.DenseSettings;
import org.flashring.comm.Mesh;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Ring;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** {@code flashring generate} as a user meets it. */
class GenerateCommandTest {
    private static final String TEXT = "abcdefghijklmnopqrstuvwxyz, ".repeat(16);
    private static final int CONTEXT = 67;
    private static final int STEPS = 60;

    @TempDir
    static Path folder;

    @BeforeAll
    static void train() throws IOException {
        write(folder.resolve("run"), DenseModel.of(2, 4, 2, 32, 64, 256), STEPS);
        writePairs();
        write(folder.resolve("words"), DenseModel.of(1, 2, 1, 8, 16, 257), 0);
        Files.createDirectory(folder.resolve("empty"));
        Files.createFile(folder.resolve("nothing"));
    }

    private static void write(Path runs, DenseModel model, int steps) throws IOException {
        Files.createDirectory(runs);
        DenseSettings settings = DenseSettings.of(
                model, DType.FLOAT32, Mesh.of("cp=1"), 2, Layout.Policy.CONTIGUOUS, CONTEXT, new Ring());
        byte[] text = TEXT.getBytes(StandardCharsets.UTF_8);
        try (DenseRank rank = new DenseRank(settings, AdamW.of(1e-2, 1), LocalGroup.single())) {
            rank.initialize(1);
            for (int step = 0; step < steps; step++) {
                Random random = new Random(step);
                long[][] tokens = new long[2][CONTEXT];
                for (long[] row : tokens) {
                    int start = random.nextInt(text.length - CONTEXT);
                    for (int i = 0; i < CONTEXT; i++) {
                        row[i] = text[start + i];
                    }
                }
                rank.step(tokens);
            }
            Checkpoint.write(runs, Math.max(steps, 1), rank);
        }
    }

    /** Writes a model that knows by heart which pair of the text follows which, and does nothing else. */
    private static void writePairs() throws IOException {
        int period = TEXT.length() / 16;
        DenseModel model = DenseModel.of(1, 2, 1, 32, 16, 65_536);
        Files.createDirectory(folder.resolve("pairs"));
        DenseSettings settings = DenseSettings.of(
                model, DType.FLOAT32, Mesh.of("cp=1"), 1, Layout.Policy.CONTIGUOUS, CONTEXT, new Ring());
        try (DenseRank rank = new DenseRank(settings, AdamW.of(1e-2, 1), LocalGroup.single())) {
            Map<String, double[]> values = DenseProbe.byName(model, new double[(int) rank.parameterCount()]);
            values.forEach((name, each) -> Arrays.fill(each, name.contains("norm") ? 1 : 0));
            for (int at = 0; at < period; at++) {
                int pair = TEXT.charAt(at) + 256 * TEXT.charAt(at + 1);
                int next = TEXT.charAt(at + 2) + 256 * TEXT.charAt(at + 3);
                values.get("model.embed_tokens.weight")[pair * model.dim() + at] = 1;
                values.get("lm_head.weight")[next * model.dim() + at] = 1;
            }
            DenseProbe.setParameters(rank, values);
            Checkpoint.write(folder.resolve("pairs"), 1, rank);
        }
    }

    private static byte[] generated(int ranks, String... more) throws IOException {
        Path out = folder.resolve("out" + ranks);
        List<String> arguments = new ArrayList<>(List.of(
                "generate",
                "--model",
                folder.resolve("run").toString(),
                "--prompt",
                TEXT.substring(0, 100),
                "--page",
                "16",
                "--bytes",
                "70",
                "--ranks",
                String.valueOf(ranks),
                "--out",
                out.toString()));
        arguments.addAll(List.of(more));
        Cli run = Cli.run(arguments.toArray(String[]::new));
        assertThat(run.exitCode()).as(run.err()).isZero();
        byte[] text = Files.readAllBytes(out);
        assertThat(text).hasSize(70);
        assertThat(run.out()).contains(new String(text, StandardCharsets.UTF_8));
        return text;
    }

    @Test
    void goesOnAsTheTextDoes() throws IOException {
        byte[] text = generated(1);
        assertThat(new String(text, StandardCharsets.UTF_8)).isEqualTo(TEXT.substring(100, 170));
        assertThat(generated(2)).isEqualTo(text);
        assertThat(generated(4)).isEqualTo(text);
    }

    /** The model knows both ways to pair the text's bytes, so a prompt may begin anywhere, and be of any length. */
    @ParameterizedTest
    @CsvSource({"0, 100, 30", "0, 101, 31", "1, 4, 1", "3, 67, 8"})
    void pairsOfBytesGoOnAsTheTextDoes(int from, int to, int bytes) throws IOException {
        Path out = folder.resolve("of-pairs");
        for (int ranks = 1; ranks <= 3; ranks += 2) {
            Cli run = Cli.run(
                    "generate",
                    "--model",
                    folder.resolve("pairs").toString(),
                    "--prompt",
                    TEXT.substring(from, to),
                    "--bytes",
                    String.valueOf(bytes),
                    "--page",
                    "5",
                    "--ranks",
                    String.valueOf(ranks),
                    "--out",
                    out.toString());
            assertThat(run.exitCode()).as(run.err()).isZero();
            assertThat(Files.readString(out)).isEqualTo(TEXT.substring(to, to + bytes));
        }
    }

    @Test
    void drawnBytesAreThoseOfTheSeedOnAnyRanks() throws IOException {
        byte[] text = generated(1, "--temperature", "1.5", "--seed", "3");
        assertThat(generated(2, "--temperature", "1.5", "--seed", "3")).isEqualTo(text);
        assertThat(generated(4, "--temperature", "1.5", "--seed", "3")).isEqualTo(text);
        assertThat(generated(1, "--temperature", "1.5", "--seed", "4")).isNotEqualTo(text);
    }

    @Test
    void readsAFileAndWritesResults() throws IOException {
        Path prompt = Files.writeString(folder.resolve("prompt"), TEXT.substring(0, 40));
        Path json = folder.resolve("result.json");
        Cli run = Cli.run(
                "generate",
                "--model",
                Checkpoint.folder(folder.resolve("run"), STEPS).toString(),
                "--prompt-file",
                prompt.toString(),
                "--bytes",
                "3",
                "--json",
                json.toString());
        assertThat(run.exitCode()).as(run.err()).isZero();
        assertThat(Cli.json(json).get("text").getAsString()).isEqualTo(TEXT.substring(40, 43));
        assertThat(Cli.json(json).get("promptBytes").getAsInt()).isEqualTo(40);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "run|--prompt x --bytes 0|--bytes is 0; it must lie in [1, 1073741824]",
                "run|--prompt x --page 0|--page is 0; it must lie in",
                "run|--prompt x --window -1|--window is -1; it must be at least 0",
                "run|--prompt x --ranks 0|--ranks is 0; it must lie in [1, 1024]",
                "run|--prompt x --temperature -1|--temperature is -1.0; it must be finite and at least 0",
                "run|--prompt x --temperature NaN|--temperature is NaN; it must be finite and at least 0",
                "run|--bytes 1|--prompt or --prompt-file must be given",
                "run|--prompt x --prompt-file y|give one of them",
                "run|--prompt-file no-such-file|--prompt-file no-such-file cannot be read: it is not there",
                "run|--prompt x --out no-folder/x/y|--out no-folder/x/y lies in a directory that does not exist",
                "run|--prompt x --out .|--out . is a directory; give a file that can be written",
                "empty|--prompt x|it must be a checkpoint, a folder with config.json and model.safetensors, or"
                        + " hold one",
                "empty|--prompt x|which train --engine dense writes with --checkpoint-every STEPS",
                "absent|--prompt x|it must be a checkpoint, a folder with config.json and model.safetensors, or"
                        + " hold one",
                "words|--prompt x|is 257; it must be 256, one a byte, or 65536, one a pair of bytes, as train --vocab",
                "pairs|--prompt x|bytes of the prompt is 1; it must be at least 2, a token of the model"
            })
    void whatCannotBeIsOneSentence(String model, String options, String sentence) {
        List<String> arguments = new ArrayList<>(
                List.of("generate", "--model", folder.resolve(model).toString()));
        arguments.addAll(List.of(options.split(" ")));
        Cli run = Cli.run(arguments.toArray(String[]::new));
        assertThat(run.exitCode()).isEqualTo(2);
        assertThat(run.err())
                .startsWith("flashring generate: ")
                .contains(sentence)
                .hasLineCount(1);
        assertThat(run.out()).as("refused before it starts").isEmpty();
    }

    @Test
    void saysThatTextIsLongerThanInTraining() {
        String warning = "flashring generate: warning: prompt and --bytes are 68 bytes, more than the 67 ";
        assertThat(errorsOf("run", 60, "--bytes", "8")).contains(warning).hasLineCount(1);
        assertThat(errorsOf("run", 60, "--bytes", "7")).doesNotContain("warning");
        assertThat(errorsOf("run", 60, "--bytes", "8", "--window", "67")).doesNotContain("warning");
        assertThat(errorsOf("run", 100, "--bytes", "1", "--window", "68")).contains("are 101 bytes, more than the 67 ");
    }

    @Test
    void needsTheModelAloneOfACheckpoint() throws IOException {
        write(folder.resolve("bare"), DenseModel.of(1, 2, 1, 8, 16, 256), 0);
        Files.delete(Checkpoint.folder(folder.resolve("bare"), 1).resolve("state.json"));
        errorsOf("bare", 5, "--bytes", "1");
        errorsOf("bare/checkpoint-00000001", 5, "--bytes", "1");
    }

    private static String errorsOf(String model, int prompt, String... more) {
        List<String> arguments = new ArrayList<>(List.of(
                "generate", "--model", folder.resolve(model).toString(), "--prompt", TEXT.substring(0, prompt)));
        arguments.addAll(List.of(more));
        Cli run = Cli.run(arguments.toArray(String[]::new));
        assertThat(run.exitCode()).as(run.err()).isZero();
        return run.err();
    }

    @ParameterizedTest
    @ValueSource(strings = {"--prompt=", "--prompt-file=nothing"})
    void emptyPrompts(String option) {
        String given = option.replace("nothing", folder.resolve("nothing").toString());
        Cli run = Cli.run("generate", "--model", folder.resolve("run").toString(), given);
        assertThat(run.exitCode()).isEqualTo(2);
        assertThat(run.err())
                .contains("The prompt is empty; it must be of at least 1 byte.")
                .hasLineCount(1);
    }
}
