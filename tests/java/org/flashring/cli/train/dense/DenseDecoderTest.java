package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.offset;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Mesh;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Ring;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A decoder says of each token what the training engine's loss says of all: two ways to the same numbers. */
class DenseDecoderTest {
    private static final DenseModel MODEL = DenseModel.of(2, 4, 2, 24, 40, 31);
    private static final int LENGTH = 61;

    @TempDir
    private Path folder;

    private static long[] tokens() {
        return new Random(3).longs(LENGTH, 0, MODEL.vocabulary()).toArray();
    }

    /** Returns the mean loss of the tokens by a model that has learnt a little, having written that one. */
    private double trained(DType type, int window) {
        DenseSettings settings = new DenseSettings(
                MODEL,
                type,
                Mesh.of("cp=1"),
                1,
                Layout.Policy.CONTIGUOUS,
                new long[] {0, LENGTH},
                window,
                new Ring(),
                Recompute.KEEP,
                1,
                64,
                64);
        try (DenseRank rank = new DenseRank(settings, AdamW.of(1e-2, 1), LocalGroup.single())) {
            rank.initialize(5);
            rank.step(new long[][] {tokens()});
            Checkpoint.write(folder, 1, rank);
            return rank.step(new long[][] {tokens()}).loss();
        }
    }

    /** Returns the mean loss of the tokens, some of which are read at once. */
    private double decoded(int ranks, int window, int atOnce) {
        long[] tokens = tokens();
        try (TrainedModel trained = TrainedModel.read("--model", folder)) {
            List<Double> means = LocalGroup.run(ranks, group -> {
                double sum = 0;
                try (DenseDecoder decoder = new DenseDecoder(trained, LENGTH, 8, window, group)) {
                    decoder.next(Arrays.copyOf(tokens, atOnce));
                    for (int i = atOnce; i < LENGTH; i++) {
                        double[] logits = decoder.next(new long[] {tokens[i]});
                        sum += i + 1 < LENGTH ? loss(logits, (int) tokens[i + 1]) : 0;
                    }
                }
                return sum;
            });
            assertThat(means).allMatch(means.get(0)::equals); // all ranks have the same bits
            return means.get(0);
        }
    }

    private static double loss(double[] logits, int target) {
        double total = 0;
        for (double logit : logits) {
            total += Math.exp(logit);
        }
        return Math.log(total) - logits[target];
    }

    @Test
    void lossesAreThoseOfTraining() {
        double mean = trained(DType.FLOAT64, 0);
        double ofFirst = decoded(1, 0, 1);
        double all = ofFirst + firstLoss();
        assertThat(all / (LENGTH - 1)).isCloseTo(mean, offset(1e-11));
        assertThat(decoded(3, 0, 1)).isCloseTo(ofFirst, offset(1e-11));
        assertThat(decoded(2, 0, 40)).isLessThan(ofFirst);
    }

    /** The loss of token 1 given token 0 alone. */
    private double firstLoss() {
        try (TrainedModel trained = TrainedModel.read("--model", folder);
                DenseDecoder decoder = new DenseDecoder(trained, 1, 8, 0, LocalGroup.single())) {
            return loss(decoder.next(new long[] {tokens()[0]}), (int) tokens()[1]);
        }
    }

    @Test
    void windows() {
        double mean = trained(DType.FLOAT32, 9);
        assertThat((decoded(2, 9, 1) + firstLoss()) / (LENGTH - 1)).isCloseTo(mean, offset(1e-5));
        assertThat((decoded(2, 0, 1) + firstLoss()) / (LENGTH - 1)).isNotCloseTo(mean, offset(1e-4));
    }

    @Test
    void weightsOfBfloat16() {
        double mean = trained(DType.BFLOAT16, 0);
        assertThat((decoded(1, 0, 1) + firstLoss()) / (LENGTH - 1)).isCloseTo(mean, offset(2e-2));
    }

    @Test
    void aPromptAtOnceIsThePromptByTokens() {
        trained(DType.FLOAT64, 0);
        try (TrainedModel trained = TrainedModel.read("--model", folder);
                DenseDecoder whole = new DenseDecoder(trained, LENGTH, 8, 0, LocalGroup.single());
                DenseDecoder single = new DenseDecoder(trained, LENGTH, 8, 0, LocalGroup.single())) {
            double[] logits = whole.next(tokens());
            double[] last = {};
            for (long token : tokens()) {
                last = single.next(new long[] {token});
            }
            for (int i = 0; i < logits.length; i++) {
                assertThat(logits[i]).isCloseTo(last[i], offset(1e-12));
            }
            assertThatThrownBy(() -> whole.next(new long[] {1}))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("61 + 1; it must be at most 61, the plan's capacity");
            assertThatThrownBy(() -> whole.next(new long[] {31}))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("token is 31; it must lie in [0, 30]");
        }
    }

    @Test
    void filesThatAreNotOfAModel() throws Exception {
        trained(DType.FLOAT32, 0);
        Path checkpoint = Checkpoint.folder(folder, 1);
        Path config = checkpoint.resolve("config.json");
        String written = Files.readString(config);
        refused(config, "{", "is not of the form that it was written in");
        refused(config, "{}", "is not of a model that was trained here");
        refused(config, written.replace("\"llama\"", "\"bert\""), "is not of a model that was trained here");
        refused(config, written.replace("float32", "float16"), "is of float16; it must be of float32, float64 or");
        refused(config, written.replace("\"hidden_size\": 24", "\"hidden_size\": 26"), "it must be");
        refused(config, written.replace("\"hidden_size\": 24", "\"hidden_size\": 2147483647"), "it must be");
        refused(
                config,
                written.replace("\"hidden_size\": 24", "\"hidden_size\": -1"),
                "dim is -1; it must be at least 1");
        Files.writeString(config, written);
        Path weights = checkpoint.resolve("model.safetensors");
        byte[] whole = Files.readAllBytes(weights);
        Files.write(weights, Arrays.copyOf(whole, whole.length - 4));
        assertThatThrownBy(() -> TrainedModel.read("--model", folder)).hasMessageContaining("its header tells of");
        Files.delete(weights);
        assertThatThrownBy(() -> TrainedModel.read("--model", folder)).hasMessageContaining("is not there");
    }

    private void refused(Path file, String content, String says) throws Exception {
        Files.writeString(file, content);
        assertThatThrownBy(() -> TrainedModel.read("--model", folder)).hasMessageContaining(says);
    }
}
