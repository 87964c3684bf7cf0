import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.Mesh;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Memory;
import org.flashring.plan.Plan;
import org.flashring.sync.GradientSync;
import org.flashring.sync.Labels;
import org.flashring.sync.ShardedBatch;
import org.flashring.sync.TokenLoss;

/**
 * A training step over a mesh of 2 x 2 threads: two sequences, each shared by two ranks. The model has one parameter,
 * w: attention without queries makes each token the mean of w times the tokens that it sees, and that is its loss.
 */
public final class MeshOverThreads {
    private static final int LENGTH = 101;
    private static final int DIM = 8;

    private MeshOverThreads() {}

    public static void main(String[] arguments) {
        Mesh mesh = Mesh.of("dp=2,cp=2");
        long[][] tokens = new long[2][LENGTH];
        for (int i = 0; i < LENGTH; i++) {
            tokens[0][i] = i;
            tokens[1][i] = i + 100;
        }
        LocalGroup.run(mesh.worldSize(), world -> {
            float gradient = step(world, mesh, tokens);
            System.out.println("rank " + world.rank() + " at " + mesh.coordinates(world.rank())
                    + ": the gradient of the mean loss is " + gradient);
            return null;
        });
    }

    // spotless:off
    /** Returns the gradient of the mean loss over all tokens that have a target, the same on every rank. */
    static float step(Communicator world, Mesh mesh, long[][] tokens) {
        Layout layout = Layout.zigzag(tokens[0].length, mesh.size("cp"));
        Labels labels = Labels.next(tokens, layout, Mask.causal());
        ShardedBatch batch = ShardedBatch.of(mesh, tokens.length, tokens, labels, world.rank());
        long[] counts = {1};                                                // elements of each parameter
        try (Communicator sequence = mesh.split(world, "cp");               // ranks that share its sequences
                Communicator replicas = mesh.split(world, "dp x cp");       // ranks that have the same parameters
                TokenLoss loss = new TokenLoss(replicas);
                GradientSync sync = new GradientSync(replicas, DType.FLOAT32, counts, 25 << 20)) {
            long targets = loss.totalTargets(batch.targets());              // over all ranks
            FloatBuffer gradient = backward(sequence, layout, batch, targets); // of this rank's losses / targets
            sync.ready(0, Memory.of(gradient).address());
            sync.finish();
            return gradient.get(0);
        }
    }
    // spotless:on

    private static FloatBuffer backward(Communicator sequence, Layout layout, ShardedBatch batch, long targets) {
        long tokens = batch.localLength();
        FloatBuffer v = floats((int) tokens * DIM);
        FloatBuffer dout = floats(v.capacity());
        for (int i = 0; i < tokens; i++) {
            v.put(i * DIM, batch.tokens()[i]);
            dout.put(i * DIM, batch.labels()[i] == ShardedBatch.IGNORE_INDEX ? 0 : 1f / targets);
        }
        FloatBuffer dv = floats(v.capacity());
        Plan plan = Plan.of(
                AttentionShape.of(batch.batch(), 1, 1, DIM, DType.FLOAT32),
                layout,
                Mask.causal(),
                AttentionOptions.defaults());
        Tensor zeros = tensor(floats(v.capacity()), tokens);
        Tensor out = tensor(floats(v.capacity()), tokens);
        Tensor lse = Tensor.lse(Memory.of(floats((int) tokens)), DType.FLOAT32, 1, 1, tokens);
        try (RingAttention ring = new RingAttention(plan, sequence)) {
            ring.forward(zeros, zeros, tensor(v, tokens), out, lse);
            ring.backward(
                    zeros,
                    zeros,
                    tensor(v, tokens),
                    out,
                    lse,
                    tensor(dout, tokens),
                    tensor(floats(v.capacity()), tokens),
                    tensor(floats(v.capacity()), tokens),
                    tensor(dv, tokens));
        }
        FloatBuffer gradient = floats(1);
        for (int i = 0; i < tokens; i++) {
            gradient.put(0, gradient.get(0) + dv.get(i * DIM) * batch.tokens()[i]);
        }
        return gradient;
    }

    private static Tensor tensor(FloatBuffer buffer, long tokens) {
        return Tensor.bshd(Memory.of(buffer), DType.FLOAT32, 1, tokens, 1, DIM);
    }

    private static FloatBuffer floats(int count) {
        return ByteBuffer.allocateDirect(count * Float.BYTES)
                .order(ByteOrder.nativeOrder())
                .asFloatBuffer();
    }
}
