package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.offset;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Function;
import java.util.stream.Stream;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Mesh;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Ring;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs that go on from a checkpoint, on as many ranks or others, and what lies in one. */
class CheckpointTest {
    private static final DenseModel TINY = DenseModel.of(2, 4, 2, 16, 24, 13);
    private static final int LENGTH = 37;

    @TempDir
    private Path folder;

    private static <T> List<T> onRanks(DenseModel model, String mesh, DType type, Function<DenseRank, T> body) {
        DenseSettings settings =
                DenseSettings.of(model, type, Mesh.of(mesh), 2, Layout.Policy.ZIGZAG, LENGTH, new Ring());
        return LocalGroup.run(settings.mesh().worldSize(), world -> {
            try (DenseRank rank = new DenseRank(settings, AdamW.of(1e-2, 1).withWarmup(5), world)) {
                rank.initialize(5);
                return body.apply(rank);
            }
        });
    }

    private static List<Double> losses(DenseRank rank, long from, long to) {
        List<Double> losses = new ArrayList<>();
        for (long step = from; step < to; step++) {
            Random random = new Random(step);
            long[][] tokens = {
                random.longs(LENGTH, 0, TINY.vocabulary()).toArray(),
                random.longs(LENGTH, 0, TINY.vocabulary()).toArray()
            };
            losses.add(rank.step(tokens).loss());
        }
        return losses;
    }

    private static List<Double> resumed(Path checkpoint, String mesh, DType type) {
        return onRanks(TINY, mesh, type, rank -> losses(rank, Checkpoint.read(checkpoint, rank), 8))
                .get(0);
    }

    private static Lesson lesson(String text, String window) {
        return new Lesson(text, Map.of("--window", window));
    }

    @Test
    void runsGoOnOnOtherRanksWithTheLossesOfAnUninterruptedRun() {
        List<Double> whole = onRanks(TINY, "cp=3", DType.FLOAT64, rank -> {
                    List<Double> losses = losses(rank, 0, 4);
                    Checkpoint.write(folder, 4, rank);
                    losses.addAll(losses(rank, 4, 8));
                    return losses;
                })
                .get(0);
        Path checkpoint = Checkpoint.latest(folder);
        assertThat(checkpoint).isEqualTo(Checkpoint.folder(folder, 4));
        assertThat(resumed(checkpoint, "cp=3", DType.FLOAT64)).isEqualTo(whole.subList(4, 8)); // to the bit
        for (String mesh : List.of("cp=2", "dp=2,cp=2", "cp=1")) {
            List<Double> losses = resumed(checkpoint, mesh, DType.FLOAT64);
            assertThat(losses).hasSize(4);
            for (int i = 0; i < 4; i++) {
                assertThat(losses.get(i)).as(mesh).isCloseTo(whole.get(4 + i), offset(1e-10));
            }
        }
        assertThat(whole.get(7)).isNotCloseTo(whole.get(3), offset(1e-3));
    }

    @Test
    void whatIsWrittenIsHuggingFacesLlama() throws IOException {
        double[] weights = onRanks(TINY, "dp=2,cp=2", DType.FLOAT32, rank -> {
                    losses(rank, 0, 1);
                    Checkpoint.write(folder, 1, rank);
                    Checkpoint.write(folder, 1, rank); // in place of the first
                    return DenseProbe.weights(rank);
                })
                .get(0);
        Path checkpoint = Checkpoint.folder(folder, 1);
        try (Stream<Path> left = Files.list(folder)) {
            assertThat(left).containsExactly(checkpoint);
        }
        ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(checkpoint.resolve("model.safetensors")))
                .order(ByteOrder.LITTLE_ENDIAN);
        int header = (int) bytes.getLong();
        assertThat(header % 8).isZero();
        JsonObject tensors = JsonParser.parseString(new String(bytes.array(), 8, header, StandardCharsets.UTF_8))
                .getAsJsonObject();
        assertThat(tensors.keySet())
                .hasSize(1 + 3 + 2 * 9)
                .contains("model.layers.1.self_attn.k_proj.weight", "lm_head.weight", "__metadata__");
        JsonObject up = tensors.getAsJsonObject("model.layers.1.mlp.up_proj.weight");
        assertThat(up.get("dtype").getAsString()).isEqualTo("F32");
        assertThat(up.get("shape")).hasToString("[24,16]");
        int begin = up.getAsJsonArray("data_offsets").get(0).getAsInt();
        assertThat(up.getAsJsonArray("data_offsets").get(1).getAsInt()).isEqualTo(begin + 24 * 16 * 4);
        double[] expected = DenseProbe.byName(TINY, weights).get("model.layers.1.mlp.up_proj.weight");
        for (int i = 0; i < expected.length; i++) {
            assertThat((double) bytes.getFloat(8 + header + begin + 4 * i)).isEqualTo(expected[i]);
        }
        JsonObject config = JsonParser.parseString(Files.readString(checkpoint.resolve("config.json")))
                .getAsJsonObject();
        assertThat(config.get("num_key_value_heads").getAsInt()).isEqualTo(2);
        assertThat(config.get("intermediate_size").getAsInt()).isEqualTo(24);
        assertThat(config.get("rope_theta").getAsDouble()).isEqualTo(10_000);
    }

    @Test
    void aCheckpointThatWasAboutToBeReplacedIsFound() throws IOException {
        onRanks(TINY, "cp=1", DType.FLOAT32, rank -> Checkpoint.write(folder, 5, rank));
        Path checkpoint = Checkpoint.folder(folder, 5);
        Files.move(checkpoint, folder.resolve(".checkpoint-00000005.old")); // then the run was killed
        assertThat(Checkpoint.latest(folder)).isEqualTo(checkpoint).isDirectory();
    }

    @Test
    void anotherTextIsTold() {
        onRanks(TINY, "cp=2", DType.FLOAT32, rank -> {
            Checkpoint.write(folder, 1, lesson("0123456789abcdef", "7"), rank);
            return Checkpoint.write(folder.resolve("untold"), 1, rank);
        });
        Path told = Checkpoint.latest(folder);
        Checkpoint.require(told, lesson("0123456789abcdef", "7"));
        assertThatThrownBy(() -> Checkpoint.require(told, lesson("fedcba9876543210", "7")))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("--resume is " + told + ", which learnt another text: its SHA-256 is 0123456789ab…, that of"
                        + " --text fedcba987654…; give the same text, or --other-text");
        assertThatThrownBy(() -> Checkpoint.require(told, lesson("0123456789abcdef", "8")))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageEndingWith(", which learnt with --window 7, not 8; give the same, or --other-text");
        Checkpoint.require(Checkpoint.latest(folder.resolve("untold")), lesson("fedcba9876543210", "8"));
    }

    @Test
    void anotherRunsLaterCheckpointsAreNotWrittenBeside() {
        Checkpoint.requireNoneAfter(folder.resolve("none"), 0);
        onRanks(TINY, "cp=1", DType.FLOAT32, rank -> Checkpoint.write(folder, 5, rank));
        Checkpoint.requireNoneAfter(folder, 5);
        assertThatThrownBy(() -> Checkpoint.requireNoneAfter(folder, 4))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("--out holds " + Checkpoint.folder(folder, 5) + ", a checkpoint of a later step than 4,"
                        + " from which this run starts; give another folder, or remove it");
    }

    @Test
    void whatIsNoCheckpointOfTheRunIsRefused() throws IOException {
        assertThatThrownBy(() -> Checkpoint.latest(folder))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("--resume is " + folder);
        onRanks(TINY, "cp=1", DType.FLOAT32, rank -> Checkpoint.write(folder, 12, rank));
        onRanks(TINY, "cp=1", DType.FLOAT32, rank -> Checkpoint.write(folder, 2, rank));
        Files.createDirectory(folder.resolve(".checkpoint-00000013.writing")); // of a run that was killed
        Path latest = Checkpoint.latest(folder);
        assertThat(latest).isEqualTo(Checkpoint.folder(folder, 12));

        DenseModel other = DenseModel.of(2, 4, 2, 16, 40, 13);
        assertThatThrownBy(() -> onRanks(other, "cp=1", DType.FLOAT32, rank -> Checkpoint.read(latest, rank)))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("hidden=24")
                .hasMessageContaining("hidden=40");
        assertThatThrownBy(() -> resumed(latest, "cp=1", DType.FLOAT64)).hasMessageContaining("float32; it must be of");

        Path file = latest.resolve("optimizer.safetensors");
        byte[] whole = Files.readAllBytes(file);
        Files.write(file, Arrays.copyOf(whole, whole.length - 1));
        assertThatThrownBy(() -> resumed(latest, "cp=1", DType.FLOAT32))
                .hasMessageContaining("optimizer.safetensors has " + (whole.length - 1) + " bytes");
        Files.write(file, new byte[100]);
        assertThatThrownBy(() -> resumed(latest, "cp=1", DType.FLOAT32)).hasMessageContaining("no safetensors file");
        Files.delete(file);
        assertThatThrownBy(() -> resumed(latest, "cp=1", DType.FLOAT32)).hasMessageContaining(file + " is not there");
    }
}
