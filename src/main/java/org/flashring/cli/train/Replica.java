package org.flashring.cli.train;

import java.util.List;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.AdamW;
import org.bytedeco.pytorch.AdamWOptions;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.comm.Mesh;
import org.flashring.plan.Plan;
import org.flashring.pytorch.ParameterSync;
import org.flashring.pytorch.ShardedTorchAttention;
import org.flashring.sync.Labels;
import org.flashring.sync.ShardedBatch;
import org.flashring.sync.TokenLoss;

/**
 * One rank's copy of the model and what trains it. All ranks start from equal parameters and add equal gradients, so
 * their parameters stay equal to the bit. One thread uses it.
 */
final class Replica implements AutoCloseable {
    private final Plan plan;
    private final Mesh mesh;
    private final int rank; // of the mesh
    private final PointerScope owned = new PointerScope();
    private final Communicator sequence; // of the ranks that share the sequences of this one
    private final Communicator all;
    private final Transformer transformer;
    private final AdamW optimizer;
    private final ShardedTorchAttention attention;
    private final TokenLoss loss;
    private final ParameterSync sync;

    /** Makes the copy of {@code world}'s rank, of parameters of a type. Collective over the settings' mesh. */
    Replica(Settings settings, DType dtype, Communicator world) {
        this.mesh = settings.mesh();
        this.rank = world.rank();
        this.plan = settings.plan(dtype, rank);
        this.sequence = mesh.split(world, "cp");
        this.all = mesh.split(world, "dp x cp");
        this.transformer = new Transformer(settings.model(), settings.seed(), dtype);
        List<Transformer.Parameter> parameters = transformer.parameters();
        this.optimizer = new AdamW(
                new TensorVector(
                        parameters.stream().map(Transformer.Parameter::tensor).toArray(Tensor[]::new)),
                new AdamWOptions(settings.learningRate()));
        this.attention = new ShardedTorchAttention(plan, sequence);
        this.loss = new TokenLoss(all);
        this.sync = new ParameterSync(
                parameters.stream().map(Transformer.Parameter::tensor).toList(), all);
    }

    /**
     * Returns the mean loss of a batch in nats per byte, and leaves its gradient, summed over ranks, in the parameters.
     * Collective.
     *
     * @param tokens [batch][context], the same on every rank
     */
    @SuppressWarnings("try") // a scope works by being open
    double backward(long[][] tokens) {
        try (PointerScope step = new PointerScope()) {
            optimizer.zero_grad();
            ShardedBatch batch = ShardedBatch.of(
                    mesh, tokens.length, tokens, Labels.next(tokens, plan.queries(), plan.mask()), rank);
            long targets = loss.totalTargets(batch.targets());
            Tensor lossSum = transformer.lossSum(batch, attention);
            lossSum.div(new Scalar((double) targets)).backward();
            sync.sum();
            return loss.mean(lossSum.item_double(), targets);
        }
    }

    /** Takes one step of AdamW with the gradients that {@link #backward} left. */
    @SuppressWarnings("try") // a scope works by being open
    void update() {
        try (PointerScope step = new PointerScope()) {
            optimizer.step();
        }
    }

    /** Gives this copy the parameters of another. */
    @SuppressWarnings("try") // a scope works by being open
    void copyParameters(Replica other) {
        try (PointerScope step = new PointerScope();
                NoGradGuard noGradient = new NoGradGuard()) {
            for (int i = 0; i < transformer.parameters().size(); i++) {
                transformer
                        .parameters()
                        .get(i)
                        .tensor()
                        .copy_(other.transformer.parameters().get(i).tensor());
            }
        }
    }

    Transformer transformer() {
        return transformer;
    }

    @Override
    public void close() {
        sync.close();
        loss.close();
        attention.close();
        all.close();
        sequence.close();
        owned.close();
    }
}
