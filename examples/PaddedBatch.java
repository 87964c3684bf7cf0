import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.device.Memory;

/**
 * A batch of sentences of several lengths, padded to the longest, as tokenizers hand it over. The rows lie one behind
 * the other, so the batch is one sequence, in which a sentence sees neither the others nor the padding behind it.
 */
public final class PaddedBatch {
    private static final int ROW = 12; // tokens, padding included
    private static final long[] LENGTHS = {12, 5, 9};
    private static final int HEADS = 2;
    private static final int DIM = 16;

    private PaddedBatch() {}

    public static void main(String[] arguments) {
        int tokens = ROW * LENGTHS.length;
        FloatBuffer keys = floats(tokens * HEADS * DIM);
        FloatBuffer values = floats(tokens * HEADS * DIM);
        for (int i = 0; i < values.capacity(); i++) {
            keys.put(i, (float) Math.cos(i));
            values.put(
                    i,
                    i / (HEADS * DIM) % ROW < LENGTHS[i / (HEADS * DIM * ROW)] ? 1 : Float.NaN); // padding is garbage
        }
        FloatBuffer out = floats(tokens * HEADS * DIM);
        Tensor k = tensor(keys, tokens);
        Tensor lse = Tensor.lse(Memory.of(floats(HEADS * tokens)), DType.FLOAT32, 1, HEADS, tokens);

        AttentionShape shape = AttentionShape.of(1, HEADS, HEADS, DIM, DType.FLOAT32);
        Mask mask = Mask.full().paddedRows(ROW, LENGTHS);
        try (FlashAttention attention = new FlashAttention(shape, tokens, mask)) {
            attention.forward(k, k, tensor(values, tokens), tensor(out, tokens), lse); // keys serve as queries here
        }
        for (int row = 0; row < LENGTHS.length; row++) {
            float last = out.get((row * ROW + (int) LENGTHS[row]) * HEADS * DIM - 1);
            System.out.println("Sentence " + row + " averages ones and sees no padding: " + last);
        }
    }

    private static Tensor tensor(FloatBuffer buffer, int tokens) {
        return Tensor.bshd(Memory.of(buffer), DType.FLOAT32, 1, tokens, HEADS, DIM);
    }

    private static FloatBuffer floats(int count) {
        return ByteBuffer.allocateDirect(count * Float.BYTES)
                .order(ByteOrder.nativeOrder())
                .asFloatBuffer();
    }
}
