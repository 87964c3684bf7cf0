import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.device.Memory;

/** Causal attention on one device, forward and backward: the loss is half the sum of the squares of the output. */
public final class SingleDevice {
    private static final int LENGTH = 100;
    private static final int HEADS = 4;
    private static final int DIM = 32;

    private SingleDevice() {}

    public static void main(String[] arguments) {
        int size = LENGTH * HEADS * DIM;
        FloatBuffer q = floats(size);
        FloatBuffer k = floats(size);
        FloatBuffer v = floats(size);
        for (int i = 0; i < size; i++) {
            q.put(i, (float) Math.sin(i));
            k.put(i, (float) Math.cos(i));
            v.put(i, (float) Math.sin(0.5 * i));
        }
        FloatBuffer out = floats(size);
        FloatBuffer dq = floats(size);
        FloatBuffer dk = floats(size);
        FloatBuffer dv = floats(size);
        Tensor lse = Tensor.lse(Memory.of(floats(HEADS * LENGTH)), DType.FLOAT32, 1, HEADS, LENGTH);

        AttentionShape shape = AttentionShape.of(1, HEADS, HEADS, DIM, DType.FLOAT32);
        try (FlashAttention attention = new FlashAttention(shape, LENGTH, Mask.causal())) {
            attention.forward(tensor(q), tensor(k), tensor(v), tensor(out), lse);
            Tensor dout = tensor(out); // the gradient of half the sum of squares is the output itself
            attention.backward(
                    tensor(q), tensor(k), tensor(v), tensor(out), lse, dout, tensor(dq), tensor(dk), tensor(dv));
        }
        System.out.println("The first token sees itself alone: " + out.get(1) + " is " + v.get(1));
        System.out.println("dloss/dv of the last token: " + dv.get(size - 1));
    }

    /** Returns a view of batch 1, LENGTH tokens, HEADS heads of DIM; the memory stays the buffer's. */
    private static Tensor tensor(FloatBuffer buffer) {
        return Tensor.bshd(Memory.of(buffer), DType.FLOAT32, 1, LENGTH, HEADS, DIM);
    }

    private static FloatBuffer floats(int count) {
        return ByteBuffer.allocateDirect(count * Float.BYTES)
                .order(ByteOrder.nativeOrder())
                .asFloatBuffer();
    }
}
