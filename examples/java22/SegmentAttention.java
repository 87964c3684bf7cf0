import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.device.Memory;

/**
 * Attention of tensors in memory segments, of Java 22 or newer. A tensor keeps its segment reachable; the arena is to
 * stay open while tensors are in use, and calls refuse what lies in a closed one. Segments on the Java heap are
 * refused, read-only ones where they would be written.
 */
public final class SegmentAttention {
    private static final int LENGTH = 101;
    private static final int HEADS = 4;
    private static final int DIM = 16;

    private SegmentAttention() {}

    private static Tensor heads(MemorySegment segment) {
        return Tensor.bshd(Memory.ofSegment(segment), DType.FLOAT32, 1, LENGTH, HEADS, DIM);
    }

    public static void main(String[] arguments) {
        AttentionShape shape = AttentionShape.of(1, HEADS, HEADS, DIM, DType.FLOAT32);
        try (Arena arena = Arena.ofConfined();
                FlashAttention attention = new FlashAttention(shape, LENGTH, Mask.causal())) {
            long floats = (long) LENGTH * HEADS * DIM;
            MemorySegment q = arena.allocate(ValueLayout.JAVA_FLOAT, floats); // zeros: all keys weigh the same
            MemorySegment v = arena.allocate(ValueLayout.JAVA_FLOAT, floats);
            MemorySegment out = arena.allocate(ValueLayout.JAVA_FLOAT, floats);
            MemorySegment lse = arena.allocate(ValueLayout.JAVA_FLOAT, (long) HEADS * LENGTH);
            for (long i = 0; i < floats; i++) {
                v.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) (i / (HEADS * DIM))); // its token's position
            }
            Tensor sums = Tensor.lse(Memory.ofSegment(lse), DType.FLOAT32, 1, HEADS, LENGTH);
            attention.forward(heads(q), heads(q), heads(v.asReadOnly()), heads(out), sums);
            for (long token = 0; token < LENGTH; token += 50) {
                float mean = out.getAtIndex(ValueLayout.JAVA_FLOAT, token * HEADS * DIM);
                System.out.println("mean of 0 to " + token + ": " + mean);
            }
        }
    }
}
