package org.flashring.cli.train;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.DType;
import org.flashring.pytorch.ShardedTorchAttention;
import org.flashring.sync.ShardedBatch;

/**
 * A decoder-only transformer over bytes: RMSNorm before each block, rotary positions, grouped-query attention, a SwiGLU
 * MLP, and an output layer tied to the embedding. Dense layers are PyTorch's and see this rank's tokens alone;
 * attention sees all. Equal seeds give equal parameters, on every rank.
 */
final class Transformer {
    /** Tokens are bytes. */
    static final int VOCABULARY = 256;

    private static final double NORM_EPSILON = 1e-6;
    private static final double ROPE_BASE = 10_000;
    private static final long SUM = 2; // at::Reduction::Sum

    /** A tensor that is learnt, and its name. */
    record Parameter(String name, Tensor tensor) {}

    private record Block(
            Tensor attentionNorm,
            Tensor query,
            Tensor key,
            Tensor value,
            Tensor output,
            Tensor mlpNorm,
            Tensor gate,
            Tensor up,
            Tensor down) {}

    private final Model model;
    private final ScalarType type;
    private final List<Parameter> parameters = new ArrayList<>();
    private final Tensor embedding;
    private final List<Block> blocks = new ArrayList<>();
    private final Tensor finalNorm;

    /** Makes a model of float32 or float64 parameters, whose values do not depend on the type. */
    Transformer(Model model, long seed, DType dtype) {
        this.model = model;
        this.type = dtype == DType.FLOAT64 ? ScalarType.Double : ScalarType.Float;
        Random random = new Random(seed);
        int dim = model.dim();
        int kvDim = model.kvHeads() * model.headDim();
        // Scaled to the width: smaller weights make attention uniform, and its gradients all cancellation and no
        // signal.
        double deviation = 1 / Math.sqrt(dim);
        double residual = deviation / Math.sqrt(2.0 * model.layers()); // the stream sums 2 * layers of these
        embedding = matrix("embedding", random, deviation, VOCABULARY, dim);
        for (int layer = 0; layer < model.layers(); layer++) {
            String prefix = "layer" + layer + ".";
            blocks.add(new Block(
                    ones(prefix + "attention_norm", dim),
                    matrix(prefix + "query", random, deviation, dim, dim),
                    matrix(prefix + "key", random, deviation, kvDim, dim),
                    matrix(prefix + "value", random, deviation, kvDim, dim),
                    matrix(prefix + "output", random, residual, dim, dim),
                    ones(prefix + "mlp_norm", dim),
                    matrix(prefix + "gate", random, deviation, model.hidden(), dim),
                    matrix(prefix + "up", random, deviation, model.hidden(), dim),
                    matrix(prefix + "down", random, residual, dim, model.hidden())));
        }
        finalNorm = ones("final_norm", dim);
    }

    private Tensor matrix(String name, Random random, double deviation, int rows, int columns) {
        float[] values = new float[rows * columns];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) (deviation * random.nextGaussian());
        }
        return parameter(name, Tensor.create(values, rows, columns).to(type));
    }

    private Tensor ones(String name, int size) {
        return parameter(name, torch.ones(size).to(type));
    }

    private Tensor parameter(String name, Tensor tensor) {
        tensor.set_requires_grad(true);
        parameters.add(new Parameter(name, tensor));
        return tensor;
    }

    /** Returns the parameters, in the order in which forward first reads them. */
    List<Parameter> parameters() {
        return parameters;
    }

    /** Returns the number of learnt values. */
    long parameterCount() {
        return parameters.stream()
                .mapToLong(parameter -> parameter.tensor().numel())
                .sum();
    }

    /** Returns the sum of this rank's token losses, in nats. Collective, by its attention. */
    Tensor lossSum(ShardedBatch batch, ShardedTorchAttention attention) {
        Rope rope = new Rope(batch, model.headDim(), ROPE_BASE, type);
        Tensor x = torch.embedding(embedding, Tensor.create(batch.tokens(), batch.batch(), batch.localLength()));
        for (Block block : blocks) {
            Tensor h = norm(x, block.attentionNorm);
            Tensor attended = attention.forward(
                    rope.turn(heads(torch.linear(h, block.query), model.heads()))
                            .transpose(1, 2),
                    rope.turn(heads(torch.linear(h, block.key), model.kvHeads()))
                            .transpose(1, 2),
                    heads(torch.linear(h, block.value), model.kvHeads()).transpose(1, 2));
            x = x.add(torch.linear(attended.transpose(1, 2).flatten(2, 3), block.output));
            h = norm(x, block.mlpNorm);
            x = x.add(torch.linear(torch.silu(torch.linear(h, block.gate)).mul(torch.linear(h, block.up)), block.down));
        }
        Tensor logits = torch.linear(norm(x, finalNorm), embedding).flatten(0, 1); // [batch * local length, VOCABULARY]
        return torch.cross_entropy_loss(
                logits, Tensor.create(batch.labels()), new TensorOptional(), SUM, ShardedBatch.IGNORE_INDEX, 0);
    }

    private Tensor norm(Tensor x, Tensor weight) {
        return torch.rms_norm(
                x, new long[] {model.dim()}, new TensorOptional(weight), new DoubleOptional(NORM_EPSILON));
    }

    /** Returns [batch, local length, heads, headDim] of [batch, local length, heads * headDim]. */
    private Tensor heads(Tensor x, int heads) {
        return x.view(x.size(0), x.size(1), heads, model.headDim());
    }
}
