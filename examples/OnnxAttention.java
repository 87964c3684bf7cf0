import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Map;
import java.util.Set;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.device.Memory;
import org.flashring.plan.Plan;

/**
 * Attention between two graphs of ONNX Runtime: OnnxAttention BEFORE.onnx AFTER.onnx. The first makes q, k and v of x,
 * the second y of the attention's result, all [1, length, heads · dim]. Values lie in direct buffers, where the graphs
 * and the attention write and read them: the outputs of a run are pinned to them, and nothing is copied.
 */
public final class OnnxAttention {
    private static final int LENGTH = 101;
    private static final int HEADS = 4;
    private static final int DIM = 16;

    private OnnxAttention() {}

    /** A value of a graph and the memory that it lies in. A buffer on the Java heap would be copied by each run. */
    private record Value(FloatBuffer floats, OnnxTensor tensor) implements AutoCloseable {
        static Value create(OrtEnvironment environment) throws OrtException {
            FloatBuffer floats = ByteBuffer.allocateDirect(LENGTH * HEADS * DIM * Float.BYTES)
                    .order(ByteOrder.nativeOrder())
                    .asFloatBuffer();
            return new Value(floats, OnnxTensor.createTensor(environment, floats, new long[] {1, LENGTH, HEADS * DIM}));
        }

        Tensor heads() {
            return Tensor.bshd(Memory.of(floats), DType.FLOAT32, 1, LENGTH, HEADS, DIM);
        }

        @Override
        public void close() {
            tensor.close();
        }
    }

    public static void main(String[] arguments) throws OrtException {
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        Plan plan = Plan.of(
                AttentionShape.of(1, HEADS, HEADS, DIM, DType.FLOAT32),
                Layout.contiguous(LENGTH, 1),
                Mask.causal(),
                AttentionOptions.defaults().forwardOnly());
        try (OrtSession before = environment.createSession(arguments[0]);
                OrtSession after = environment.createSession(arguments[1]);
                FlashAttention attention = new FlashAttention(plan);
                Value x = Value.create(environment);
                Value q = Value.create(environment);
                Value k = Value.create(environment);
                Value v = Value.create(environment);
                Value out = Value.create(environment);
                Value y = Value.create(environment)) {
            for (int i = 0; i < x.floats().capacity(); i++) {
                x.floats().put(i, i / (HEADS * DIM)); // each token's features are its position
            }
            before.run(Map.of("x", x.tensor()), Set.of(), Map.of("q", q.tensor(), "k", k.tensor(), "v", v.tensor()))
                    .close();
            attention.forward(q.heads(), k.heads(), v.heads(), out.heads(), null);
            after.run(Map.of("out", out.tensor()), Set.of(), Map.of("y", y.tensor()))
                    .close();
            for (int token = 0; token < LENGTH; token += 50) {
                System.out.println("token " + token + ": " + y.floats().get(token * HEADS * DIM));
            }
        }
    }
}
