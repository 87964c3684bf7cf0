package org.flashring.cli.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.offset;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.cli.train.dense.AdamW;
import org.flashring.cli.train.dense.DenseModel;
import org.flashring.cli.train.dense.DenseProbe;
import org.flashring.cli.train.dense.DenseRank;
import org.flashring.cli.train.dense.DenseSettings;
import org.flashring.cli.train.dense.Recompute;
import org.flashring.comm.Communicator;
import org.flashring.comm.Mesh;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Ring;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The dense step against PyTorch's autograd of the same model, in float64. */
class DenseOracleTest {
    private static final Model MODEL = new Model(2, 4, 2, 16);
    private static final int LENGTH = 37;
    private static final double RATE = 1e-2;

    /** The output layer is the embedding in PyTorch's model, so that its gradient is that of both. */
    private static final String EMBEDDING = "model.embed_tokens.weight";

    private static final String HEAD = "lm_head.weight";

    private static String name(String name) {
        String[] parts = name.split("\\.", -1);
        if (parts.length == 1) {
            return name.equals("embedding") ? EMBEDDING : "model.norm.weight";
        }
        String layer = "model.layers." + parts[0].substring("layer".length()) + ".";
        return layer
                + switch (parts[1]) {
                    case "attention_norm" -> "input_layernorm";
                    case "query" -> "self_attn.q_proj";
                    case "key" -> "self_attn.k_proj";
                    case "value" -> "self_attn.v_proj";
                    case "output" -> "self_attn.o_proj";
                    case "mlp_norm" -> "post_attention_layernorm";
                    default -> "mlp." + parts[1] + "_proj";
                }
                + ".weight";
    }

    private static double[] values(Tensor tensor) {
        double[] values = new double[(int) tensor.numel()];
        Tensor dense = tensor.contiguous();
        new DoublePointer(dense.data_ptr_double()).get(values);
        return values;
    }

    private static Map<String, double[]> parameters(Transformer transformer) {
        Map<String, double[]> values = new LinkedHashMap<>();
        transformer.parameters().forEach(parameter -> values.put(name(parameter.name()), values(parameter.tensor())));
        values.put(HEAD, values.get(EMBEDDING));
        return values;
    }

    @ParameterizedTest(name = "{0} ranks, {1}, window {2}")
    @CsvSource({"1, KEEP, 0", "3, FULL, 7"})
    @SuppressWarnings("try") // a scope works by being open
    void lossGradientsAndUpdateArePyTorchs(int ranks, Recompute recompute, int window) {
        Settings settings = new Settings(MODEL, 1, 1, LENGTH, 2, RATE, Layout.Policy.ZIGZAG, window, 9, new Ring());
        DenseModel model = DenseModel.of(
                MODEL.layers(), MODEL.heads(), MODEL.kvHeads(), MODEL.dim(), MODEL.hidden(), Transformer.VOCABULARY);
        DenseSettings dense = new DenseSettings(
                model,
                DType.FLOAT64,
                Mesh.of(1, ranks, 1, 1),
                2,
                Layout.Policy.ZIGZAG,
                new long[] {0, LENGTH},
                window,
                new Ring(),
                recompute,
                1,
                16,
                10);
        Random random = new Random(4);
        long[][] tokens = new long[2][];
        for (int row = 0; row < 2; row++) {
            tokens[row] = random.longs(LENGTH, 0, Transformer.VOCABULARY).toArray();
        }
        try (PointerScope scope = new PointerScope();
                Communicator alone = LocalGroup.single();
                Replica replica = new Replica(settings, DType.FLOAT64, alone)) {
            Map<String, double[]> before = parameters(replica.transformer());
            double loss = replica.backward(tokens);
            Map<String, double[]> gradients = new LinkedHashMap<>();
            replica.transformer()
                    .parameters()
                    .forEach(parameter -> gradients.put(
                            name(parameter.name()), values(parameter.tensor().grad())));
            replica.update();
            Map<String, double[]> after = parameters(replica.transformer());

            AdamW adamW = AdamW.of(RATE, Double.POSITIVE_INFINITY);
            List<double[]> parts = LocalGroup.run(ranks, world -> {
                try (DenseRank rank = new DenseRank(dense, adamW, world)) {
                    DenseProbe.setParameters(rank, before);
                    double[] part = DenseProbe.gradients(rank, tokens);
                    assertThat(rank.step(tokens).loss()).isCloseTo(loss, offset(1e-10));
                    Map<String, double[]> weights = DenseProbe.byName(model, DenseProbe.weights(rank));
                    after.forEach((name, value) -> {
                        if (!name.equals(EMBEDDING) && !name.equals(HEAD)) { // tied there, learnt apart here
                            assertThat(weights.get(name)).as(name).containsExactly(value, offset(1e-10));
                        }
                    });
                    return part;
                }
            });
            Map<String, double[]> summed = DenseProbe.byName(model, DenseProbe.sum(parts));
            double[] ofHead = summed.remove(HEAD);
            double[] ofEmbedding = summed.get(EMBEDDING);
            for (int i = 0; i < ofHead.length; i++) {
                ofEmbedding[i] += ofHead[i];
            }
            assertThat(summed.keySet()).isEqualTo(gradients.keySet());
            gradients.forEach(
                    (name, value) -> assertThat(summed.get(name)).as(name).containsExactly(value, offset(1e-10)));
        }
    }
}
